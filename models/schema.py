"""What a model takes and gives: the input schema and the manifest of a bundle."""

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import InputError

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
InputArray = npt.NDArray[Any]

SCHEMA_VERSION = 1
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "uint8": np.dtype(np.uint8)}
OUTPUTS = (
    "probabilities",
    "drift_p_value",
    "perturbation_likelihood",
    "corruption_likelihood",
    "cells",
)


class InputSchema(msgspec.Struct, frozen=True):
    """The raw input as the user sends it: `x[i]` has `shape`, lies in [`low`, `high`].

    Scaling to the unit range `x_unit = (x - low) / (high - low)` happens inside the graph.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"]
    low: float
    high: float
    kind: Literal["image", "tabular"]
    columns: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of values in one instance."""
        return int(np.prod(self.shape))

    def to_unit(self, x: InputArray) -> npt.NDArray[np.float32]:
        """Raw `(N, *shape)` to float32 in [0, 1]."""
        return ((x.astype(np.float32) - self.low) / (self.high - self.low)).astype(np.float32)

    def from_unit(self, x_unit: FloatArray) -> InputArray:
        """Unit range back to the raw range and dtype; integers are rounded and clipped."""
        raw = np.asarray(x_unit) * (self.high - self.low) + self.low
        if self.dtype == "uint8":
            raw = np.clip(np.rint(raw), self.low, self.high)
        return raw.astype(DTYPES[self.dtype])

    def check(self, x: InputArray, field: str = "instances") -> None:
        """Refuse an array `(N, *shape)` that is empty, misshapen, not finite or out of range.

        Raises:
            InputError: names the field (with the row where one row is at fault).
        """
        wanted = f"shape [N, {', '.join(map(str, self.shape))}]"
        if x.shape[1:] != self.shape:
            raise InputError(field, wanted, f"shape {list(x.shape)}")
        if x.shape[0] == 0:
            raise InputError(field, "at least one row", "an empty batch")
        if x.dtype != DTYPES[self.dtype]:
            raise InputError(field, self.dtype, str(x.dtype))
        # NaN fails both comparisons, so one pass over minimum and maximum covers it.
        if not (x.min() >= self.low and x.max() <= self.high):
            self._name_the_row(x, field)

    def _name_the_row(self, x: InputArray, field: str) -> None:
        flat = x.reshape(x.shape[0], -1)
        inside = (flat >= self.low) & (flat <= self.high)
        row = int(np.argmin(inside.all(axis=1)))
        value = flat[row][~inside[row]][0]
        raise InputError(
            f"{field}[{row}]", f"finite values in [{self.low:g}, {self.high:g}]", f"{value:g}"
        )


class ChannelInfo(msgspec.Struct, frozen=True):
    """One monitored channel: a score cut into rank cells, or the predicted class."""

    name: str
    kind: Literal["score", "class"]
    labels: tuple[str, ...]


class Calibration(msgspec.Struct, frozen=True):
    """What the scores rest on: held-out rows and false-positive rates of the thresholds."""

    n: int
    alpha: float
    perturbation_threshold: float
    corruption_threshold: float
    source: str


class Manifest(msgspec.Struct, frozen=True):
    """All that is known of a model version; `files` holds the sha256 of every other file."""

    schema_version: int
    model: str
    version: int
    created_at: str
    input: InputSchema
    classes: tuple[str, ...]
    channels: tuple[ChannelInfo, ...]
    calibration: Calibration
    training: dict[str, Any]
    evaluation: dict[str, Any]
    parent: int | None
    event: dict[str, Any]
    files: dict[str, str]
