"""How raw values become what a model was trained on: the guesses, and what the user says."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.base.errors import AdaptError
from models.data import DataSet
from models.versions.schema import InputArray, InputSchema
from models.wrapping.graphs.edit import Builder

# Means and deviations of ImageNet's channels, as torchvision and timm publish them.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """`x_model = x * multiply + add`, values broadcast over a row; both None leave x as it is."""

    name: str
    multiply: Floats | None = None
    add: Floats | None = None

    def apply(self, x: InputArray) -> InputArray:
        """Scale rows `(N, *shape)`; float32 unless nothing is done."""
        if self.multiply is None or self.add is None:
            return x
        scaled: InputArray = x.astype(np.float32) * self.multiply + self.add
        return scaled

    def apply_to_column(self, values: npt.NDArray[np.float64], index: int) -> InputArray:
        """Scale the numbers `(N,)` of one column of a table, in float64."""
        if self.multiply is None or self.add is None:
            return values
        multiply, add = (np.ravel(part).astype(np.float64) for part in (self.multiply, self.add))
        scaled: InputArray = values * multiply[index] + add[index]
        return scaled

    def emit(self, builder: Builder, x: str) -> str:
        """The same as nodes."""
        if self.multiply is None or self.add is None:
            return x
        x = builder.op("Cast", x, to=1)
        x = builder.op("Mul", x, builder.const(self.multiply))
        return builder.op("Add", x, builder.const(self.add))

    def same_as(self, other: "Scale", schema: InputSchema) -> bool:
        """Whether both give the same numbers on the ends of the range, to 1e-6."""
        ends = np.stack([np.broadcast_to(schema.offset, _wide(schema))] * 2).astype(np.float32)
        ends[1] += np.broadcast_to(schema.span, _wide(schema))
        return bool(np.allclose(self.apply(ends), other.apply(ends), rtol=1e-6, atol=1e-6))


def scales(data: DataSet, wanted: str) -> list[Scale]:
    """The scales to try, likelier ones first; one if `wanted` names it.

    `wanted`: `auto`, a name that `auto` tries, or numbers `MEAN,STD` in units of [0, 1] (one of
    each, or one of each per channel or column: all means first).

    Raises:
        AdaptError: `wanted` is none of these.
    """
    known = _guesses(data)
    if wanted == "auto":
        unlike: list[Scale] = []
        for scale in known.values():
            if not any(scale.same_as(other, data.schema) for other in unlike):
                unlike.append(scale)
        return unlike
    if wanted in known:
        return [known[wanted]]
    return [_parse_scale(data.schema, wanted, tuple(known))]


def _guesses(data: DataSet) -> dict[str, Scale]:
    schema = data.schema
    guesses = {"raw": Scale("raw"), "unit": _standard(schema, "unit", 0.0, 1.0)}
    if schema.kind == "image":
        guesses["symmetric"] = _standard(schema, "symmetric", 0.5, 0.5)
        if schema.shape[0] == 3:
            mean, std = (np.reshape(v, (3, 1, 1)) for v in IMAGENET)
            guesses["imagenet"] = _standard(schema, "imagenet", mean, std)
        guesses["byte"] = _standard(schema, "byte", 0.0, 1 / 255)
    mean, std = _moments(data)
    guesses["dataset"] = _standard(schema, "dataset", mean, std)
    return guesses


def _standard(schema: InputSchema, name: str, mean: npt.ArrayLike, std: npt.ArrayLike) -> Scale:
    """`(x_unit - mean) / std` in terms of raw values; categories pass."""
    mean, std = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    multiply = 1 / (schema.span.astype(np.float64) * std)
    add = -(schema.offset.astype(np.float64) / schema.span.astype(np.float64) + mean) / std
    if schema.kind == "tabular":
        category = [c.kind == "categorical" for c in schema.columns]
        wide = np.zeros(schema.shape)
        multiply, add = (
            np.where(category, 1.0, wide + multiply),
            np.where(category, 0.0, wide + add),
        )
    return Scale(name, multiply.astype(np.float32), add.astype(np.float32))


def _moments(data: DataSet) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and deviation of the training rows in the unit range, per channel or column."""
    x = data.schema.to_unit(data.train.x[:5000]).astype(np.float64)
    axes = (0, 2, 3) if data.schema.kind == "image" else (0,)
    mean = np.nanmean(x, axis=axes)
    std = np.nanstd(x, axis=axes)
    mean, std = np.nan_to_num(mean), np.where(std > 1e-8, std, 1.0)
    if data.schema.kind == "image":
        return mean[:, None, None], std[:, None, None]
    return mean, std


def _parse_scale(schema: InputSchema, wanted: str, known: tuple[str, ...]) -> Scale:
    expected = f"auto, {', '.join(known)} or numbers MEAN,STD in units of [0, 1]"
    try:
        numbers = [float(part) for part in wanted.split(",")]
    except ValueError:
        raise AdaptError(f"scale {wanted!r}: expected {expected}") from None
    each = len(numbers) // 2
    if len(numbers) % 2 or each not in (1, schema.shape[0]):
        raise AdaptError(
            f"scale {wanted!r}: {len(numbers)} numbers; expected a mean and a deviation, or "
            f"{schema.shape[0]} of each"
        )
    mean, std = np.array(numbers[:each]), np.array(numbers[each:])
    if not (np.isfinite(numbers).all() and (std > 0).all()):
        raise AdaptError(f"scale {wanted!r}: deviations must be above 0, all numbers finite")
    if schema.kind == "image":
        mean, std = mean[:, None, None], std[:, None, None]
    return _standard(schema, wanted, mean, std)


def _wide(schema: InputSchema) -> tuple[int, ...]:
    return schema.shape
