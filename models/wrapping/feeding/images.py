"""Feeding images: from raw `(N, channels, height, width)` to what the model takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from models.base.errors import AdaptError
from models.versions.schema import InputSchema
from models.wrapping.feeding.scale import Scale
from models.wrapping.graphs.edit import Array, Builder, dims_of, dtype_of, kind_of, shape_text, show

LAYOUTS = ("nchw", "nhwc", "hw", "flat", "flat-nhwc")
CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class ImagePlan:
    """One way to give raw images to the model."""

    name: str  # of the model's input
    kind: int  # its element type
    layout: str
    scale: Scale

    @property
    def words(self) -> dict[str, str]:
        """What the plan is, for people."""
        return {"layout": self.layout, "scale": self.scale.name}

    def feeds(self, x: Array) -> dict[str, Array]:
        """The model's inputs for raw `x` `(N, channels, height, width)`."""
        x = self.scale.apply(x)
        if self.layout in ("nhwc", "flat-nhwc"):
            x = x.transpose(CHANNELS_LAST)
        if self.layout == "hw":
            x = x[:, 0]
        if self.layout.startswith("flat"):
            x = x.reshape(len(x), -1)
        dtype = dtype_of(self.kind)
        if dtype.kind in "iu" and x.dtype.kind == "f":
            x = np.clip(np.rint(x), *_limits(dtype))
        return {self.name: np.ascontiguousarray(x.astype(dtype))}

    def emit(self, builder: Builder, x: str, schema: InputSchema) -> None:
        """Nodes that do the same and end in the model's input."""
        x = self.scale.emit(builder, x)
        if self.layout in ("nhwc", "flat-nhwc"):
            x = builder.op("Transpose", x, perm=CHANNELS_LAST)
        if self.layout == "hw":
            x = builder.op("Squeeze", x, builder.const([1]))
        if self.layout.startswith("flat"):
            x = builder.op("Flatten", x)
        dtype, is_float = dtype_of(self.kind), self.scale.multiply is not None
        if dtype.kind in "iu" and (is_float or schema.dtype == "float32"):
            low, high = (builder.const(np.float32(v)) for v in _limits(dtype))
            x = builder.op("Clip", builder.op("Round", builder.op("Cast", x, to=1)), low, high)
        builder.op("Cast", x, output=self.name, to=self.kind)


def image_plans(
    inputs: list[onnx.ValueInfoProto], schema: InputSchema, scales: list[Scale], layout: str
) -> list[ImagePlan]:
    """The ways that fit what the model declares.

    Raises:
        AdaptError: the model takes something else than one image per row of this shape.
    """
    if len(inputs) != 1:
        names = ", ".join(repr(show(given.name)) for given in inputs)
        raise AdaptError(f"the model takes {len(inputs)} inputs ({names}); an image is one")
    (given,) = inputs
    kind, dims = kind_of(given), dims_of(given)
    if dtype_of(kind).kind not in "fiu":
        raise AdaptError(f"input {show(given.name)!r} takes {dtype_of(kind)}, not numbers")
    fitting = [name for name, sizes in _sizes(schema).items() if fits(dims, sizes)]
    if layout != "auto":
        meant = {"nchw": ("nchw", "flat", "hw"), "nhwc": ("nhwc", "flat-nhwc")}[layout]
        fitting = [name for name in fitting if name in meant]
    if not fitting:
        raise AdaptError(_misfit(given.name, dims, schema, layout))
    return [ImagePlan(given.name, kind, name, scale) for name in fitting for scale in scales]


def fits(dims: tuple[int | None, ...] | None, sizes: tuple[int, ...]) -> bool:
    """Whether rows of `sizes` can be what `dims` (with the batch first) declares.

    >>> fits((None, 3, None, None), (3, 32, 32)), fits((1, 32, 32, 3), (3, 32, 32))
    (True, False)
    """
    if dims is None:
        return True
    if len(dims) != len(sizes) + 1:
        return False
    return all(d is None or d == size for d, size in zip(dims[1:], sizes, strict=True))


def _sizes(schema: InputSchema) -> dict[str, tuple[int, ...]]:
    """Shape of a row in every layout; of two that are the same the first."""
    channels, height, width = schema.shape
    sizes: dict[str, tuple[int, ...]] = {
        "nchw": (channels, height, width),
        "nhwc": (height, width, channels),
        "flat": (schema.size,),
    }
    if channels == 1:
        sizes["hw"] = (height, width)
    else:
        sizes["flat-nhwc"] = (schema.size,)
    return sizes


def _misfit(
    name: str, dims: tuple[int | None, ...] | None, schema: InputSchema, layout: str
) -> str:
    sizes = list(_sizes(schema).values())[:2]
    text = f"the model's input {show(name)!r} takes {shape_text(dims)}"
    text += f", the data are images of {' or '.join(shape_text((None, *s)) for s in sizes)}"
    if layout != "auto":
        text += f" (layout {layout} was asked for)"
    if dims is not None and any(fits((None, *dims), s) for s in sizes):
        return f"{text}: it has no batch dimension; export it with one"
    if dims is not None and len(dims) not in (2, 3, 4):
        return f"{text}: sequences and volumes are not supported"
    return f"{text}: resize or convert the data to what the model was trained on"


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Range of an integer type, where float32 can hold its ends."""
    info = np.iinfo(dtype)
    return float(max(info.min, -(2**24))), float(min(info.max, 2**24))
