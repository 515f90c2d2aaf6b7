"""What a model takes and gives: the input schema and the manifest of a bundle."""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.base.errors import BundleError, InputError
from models.statistics.arrays import FloatArray
from models.versions.facts import EventFacts, TrainingFacts
from models.versions.figures import Evaluation
from models.versions.promises import CERTIFICATE_OUTPUTS, CertificateFacts, SetFacts

InputArray = npt.NDArray[Any]

SCHEMA_VERSION = 3
OLDEST_SCHEMA = 2  # that is still read; what it lacks is told in `Calibration`
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "uint8": np.dtype(np.uint8)}
OUTPUTS = (
    "probabilities",
    "drift_p_value",
    "perturbation_likelihood",
    "corruption_likelihood",
    "cells",
    "suspicion",
)


class Notation(msgspec.Struct, frozen=True):
    """How the cells of a column are written, so that a client's text is read as the file's was.

    `models.data.cells` reads by it.

    Args:
        kind: `plain` numbers or texts; `number`: categories that are numbers; `code`: categories
            of digits; `truth`: true and false; `date`: days since 1970-01-01, UTC; `time`: seconds.
        decimal: the decimal mark.
        grouping: the marks that stand between thousands; empty where there are none.
        unit: a sign that may stand beside a number, such as `%` or `$`.
        missing: words that mean a missing value, beside the usual ones.
    """

    kind: Literal["plain", "number", "code", "truth", "date", "time"] = "plain"
    decimal: Literal[".", ","] = "."
    grouping: str = ""
    unit: str = ""
    missing: tuple[str, ...] = ()


PLAIN = Notation()


class Column(msgspec.Struct, frozen=True):
    """One column of a table: a number, or one of some categories.

    A row is one float32 tensor, so a category travels as its place in `categories` (-1 for one
    that is not among them) and a missing value as NaN. `low` and `high` are the range in training:
    the scale of the unit range, not a limit. A missing value is refused unless `missing` says
    that the file that the model was made from has some in this column.
    """

    name: str
    kind: Literal["numeric", "categorical"] = "numeric"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False
    notation: Notation = PLAIN


class InputSchema(msgspec.Struct, frozen=True):
    """The raw input as the user sends it: `x[i]` has `shape`.

    An image's values lie in [`low`, `high`] and outside is refused. A table's row has one value
    per column; numbers outside the range of training are answered (that is drift, not an error).
    Scaling to the unit range `x_unit = (x - offset) / span` happens inside the graph; categories
    and missing values pass it unchanged.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"]
    low: float
    high: float
    kind: Literal["image", "tabular"]
    columns: tuple[Column, ...] = ()

    @property
    def size(self) -> int:
        """Number of values in one instance."""
        return int(np.prod(self.shape))

    @property
    def offset(self) -> npt.NDArray[np.float32]:
        """What is subtracted: a scalar for images, `(D,)` for the columns of a table."""
        lows = [c.low if c.kind == "numeric" else 0.0 for c in self.columns]
        return np.asarray(lows if self.kind == "tabular" else self.low, dtype=np.float32)

    @property
    def span(self) -> npt.NDArray[np.float32]:
        """What is divided by, never 0: a scalar for images, `(D,)` for the columns of a table."""
        spans = [(c.high - c.low) or 1.0 if c.kind == "numeric" else 1.0 for c in self.columns]
        raw = spans if self.kind == "tabular" else self.high - self.low
        return np.asarray(raw, dtype=np.float32)

    @property
    def reach(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Ends `(D,)` of a table's numbers: the range of training, and a span beyond on each side.

        Categories have no ends; None for images, and for tables without columns.
        """
        if self.kind != "tabular" or not self.columns:
            return None
        numeric = np.array([c.kind == "numeric" for c in self.columns])
        low = np.where(numeric, self.offset - self.span, -np.inf)
        high = np.where(numeric, self.offset + 2 * self.span, np.inf)
        return low.astype(np.float32), high.astype(np.float32)

    def to_unit(self, x: InputArray) -> npt.NDArray[np.float32]:
        """Raw `(N, *shape)` to float32; images and numbers of the training range to [0, 1]."""
        return ((x.astype(np.float32) - self.offset) / self.span).astype(np.float32)

    def from_unit(self, x_unit: FloatArray) -> InputArray:
        """Unit range back to the raw range and dtype; integers are rounded and clipped."""
        raw = np.asarray(x_unit) * self.span + self.offset
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
        if self.kind == "tabular":
            self._check_columns(x, field)
        # NaN fails both comparisons, so one pass over minimum and maximum covers it.
        elif not (x.min() >= self.low and x.max() <= self.high):
            self._name_the_row(x, field)

    def _name_the_row(self, x: InputArray, field: str) -> None:
        flat = x.reshape(x.shape[0], -1)
        inside = (flat >= self.low) & (flat <= self.high)
        row = int(np.argmin(inside.all(axis=1)))
        value = flat[row][~inside[row]][0]
        raise InputError(
            f"{field}[{row}]", f"finite values in [{self.low:g}, {self.high:g}]", f"{value:g}"
        )

    def _check_columns(self, x: InputArray, field: str) -> None:
        if np.isfinite(x).all() and not any(c.kind == "categorical" for c in self.columns):
            return
        for index, column in enumerate(self.columns):
            values, wanted = x[:, index], "a finite number"
            right = np.isfinite(values)
            if column.kind == "categorical":
                count = len(column.categories)
                wanted = f"a category's number, 0 to {count - 1}, or -1 for another"
                right &= (values >= -1) & (values < count) & (values == np.floor(values))
            if column.missing:
                wanted += " or a missing value"
                right |= np.isnan(values)
            if not right.all():
                row = int(np.argmin(right))
                got = "a missing value" if np.isnan(values[row]) else f"{values[row]:g}"
                raise InputError(f"{field}[{row}].{column.name}", wanted, got)


OTHER_CLASSES = "other classes"


class CellGroup(msgspec.Struct, frozen=True):
    """Neighbouring cells of a score or column that count the requests of some predicted classes."""

    name: str  # of the class, or OTHER_CLASSES: all that are not named
    cells: int


class ChannelInfo(msgspec.Struct, frozen=True):
    """One monitored channel; `labels` names its cells.

    A score or a column's number, cut into rank cells (0 holds the highest); the predicted class;
    or a column's category. Where cells are parted by the predicted class, `groups` says which of
    them belong to which class, in their order; empty: all cells are one group.
    """

    name: str
    kind: Literal["score", "class", "category"]
    labels: tuple[str, ...]
    groups: tuple[CellGroup, ...] = ()


class KindShare(msgspec.Struct, frozen=True):
    """A kind of benign corruption, and the share of its held-out rows that is flagged."""

    name: str
    share: float


class Calibration(msgspec.Struct, frozen=True):
    """What the scores rest on: held-out rows and false-positive rates of the thresholds.

    `temperature` divides the logits before the softmax, so that probabilities are frequencies.
    The perturbation threshold flags at most `alpha` of clean rows *and* `benign_alpha` of
    `benign_kinds` kinds of benign corruption: of all of them together where `benign_pooled`, else
    of every one (schema version 2). `kinds_above` are the held-out kinds of which it flags more
    than 5 %. `repeat_probability` is None where it was not measured, and `suspicion_threshold`
    where the version is of schema 2: its graph has no suspicion, and a row is suspicious there
    that either of the other two thresholds flags.

    The drift p-value of a table with few rows rests on more rows than those held out: on
    `drift_rows`, each calibrated by channels of the other four of five folds. Where the test rows
    are among them (`drift_tested` is false), how many of these are flagged says nothing.
    """

    n: int
    alpha: float
    perturbation_threshold: float
    corruption_threshold: float
    source: str
    temperature: float
    benign_alpha: float
    benign_kinds: int
    repeat_probability: float | None = None  # of two different reference rows being equal
    suspicion_threshold: float | None = None
    suspicion_edges: tuple[float, ...] = ()  # falling, of the cells of the stream of attacks
    benign_pooled: bool = False
    kinds_above: tuple[KindShare, ...] = ()
    drift_rows: int | None = None  # None: `n`
    drift_tested: bool = True

    @property
    def drift_n(self) -> int:
        """Rows that the drift p-value is calibrated on."""
        return self.n if self.drift_rows is None else self.drift_rows


class Manifest(msgspec.Struct, frozen=True):
    """All that is known of a model version.

    `training`, `evaluation` and `event` are None until the version was made, judged and published.
    `files` holds the sha256 of every other file, `sizes` their bytes. `certificate` is there where
    the graph proves answers, `sets` where prediction sets were calibrated.
    """

    schema_version: int
    model: str
    version: int
    created_at: str
    input: InputSchema
    classes: tuple[str, ...]
    channels: tuple[ChannelInfo, ...]
    calibration: Calibration
    training: TrainingFacts | None
    evaluation: Evaluation | None
    parent: int | None
    event: EventFacts | None
    files: dict[str, str]
    sizes: dict[str, int]
    certificate: CertificateFacts | None = None
    sets: SetFacts | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of this version's graph."""
        return OUTPUTS if self.certificate is None else (*OUTPUTS, *CERTIFICATE_OUTPUTS)


class _Head(msgspec.Struct):
    """What is read of a manifest before the rest: the rest may be of another schema."""

    schema_version: int


def decode_manifest(encoded: bytes, path: Path) -> Manifest:
    """The manifest of the bundle at `path`.

    Raises:
        BundleError: it is no manifest, or of another schema version.
    """
    try:
        version = msgspec.json.decode(encoded, type=_Head).schema_version
        if version < OLDEST_SCHEMA:
            raise BundleError(
                path,
                f"made by an older Holdfast (schema version {version}, this program reads"
                f" {SCHEMA_VERSION}): train or wrap it again",
            )
        if version > SCHEMA_VERSION:
            raise BundleError(
                path,
                f"made by a newer Holdfast (schema version {version}, this program reads"
                f" {SCHEMA_VERSION}): install that, or train or wrap it again",
            )
        return msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(path, f"manifest.json is not a manifest: {error}") from error
