"""What a data set is: where it comes from, its rows in three parts, and a fingerprint."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

PARTS = ("train", "calibration", "test")
Format = Literal["auto", "bundled", "npz", "idx", "folder", "parquet", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enough to load the same data again.

    Args:
        path: a bundled name, or a path (absolute in the source of a loaded set); empty for a set
            that was made in memory and cannot be loaded again.
        format: how to read it; `auto` tells it from the path.
        label: label column or array (IDX: file of labels); empty to find it.
        test: path of a separate test part; empty to find it beside or to split one off.
        categorical: columns of a table to take as categories though they are numbers.
        ignore: columns to leave out.
        delimiter: what separates the columns of a CSV; empty to find it.
        decimal: the decimal mark of numbers in texts, `.` or `,`; empty to find it per column.
        missing: words that mean a missing value in a column of texts, beside the empty cell.
        drop_rare: leave classes out that have too few rows, instead of refusing them.
        group: column whose equal values belong together: such rows stand in one part.
        resize: how images of other sizes become one size, as `/predict?resize=`; empty to refuse.
        range: lowest and highest value that a pixel may have, `LOW,HIGH`; empty to find it.
        name: name of the data set; empty to make one from the path.
    """

    path: str
    format: Format = "auto"
    label: str = ""
    test: str = ""
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    delimiter: str = ""
    decimal: str = ""
    missing: tuple[str, ...] = ()
    drop_rare: bool = False
    group: str = ""
    resize: str = ""
    range: str = ""
    name: str = ""


IN_MEMORY = Source("")


@dataclass(frozen=True)
class Rows:
    """Labelled raw inputs: `x` is `(N, *shape)` as users send them, `y` is `(N,)` int64."""

    x: InputArray
    y: IntArray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Rows":
        """The rows at `index`."""
        return Rows(self.x[index], self.y[index])

    def joined(self, other: "Rows") -> "Rows":
        """These rows followed by the others."""
        return Rows(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]))


@dataclass(frozen=True)
class DataSet:
    """Rows in three parts, each drawn by the law of the source.

    Rows are dealt by content, label and occurrence number: equal rows of a source that repeats
    itself may stand in several parts, as a live row may have an equal in training. No row stands
    in two parts. The rows of a class are exchangeable between the parts, so what is calibrated on
    `calibration` holds for `test` and for traffic of the same law.

    Args:
        name: of the data.
        schema: of an input.
        classes: names of the classes.
        train: rows to train on.
        calibration: rows that thresholds and references rest on; never trained on.
        test: rows to judge on; never trained or calibrated on.
        source: where the data came from.
        notes: sentences on what was done to the data that its owner should know.
        unseen_test: `(n_test,)`, true where no row of `train` equals the test row; None where
            nobody looked.
        test_groups: `(n_test,)`, equal where test rows belong to one group; None without groups.
    """

    name: str
    schema: InputSchema
    classes: tuple[str, ...]
    train: Rows
    calibration: Rows
    test: Rows
    source: Source = IN_MEMORY
    notes: tuple[str, ...] = ()
    unseen_test: npt.NDArray[np.bool_] | None = None
    test_groups: IntArray | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over schema, classes, all rows and groups; reads the arrays where they lie."""
        digest = hashlib.sha256(repr((self.schema, self.classes)).encode())
        for part in PARTS:
            rows: Rows = getattr(self, part)
            digest.update(part.encode())
            digest.update(bytes_of(rows.x))
            digest.update(bytes_of(rows.y.astype(np.int64, copy=False)))
        if self.test_groups is not None:
            digest.update(b"groups" + bytes_of(self.test_groups.astype(np.int64, copy=False)))
        return digest.hexdigest()


def bytes_of(x: InputArray) -> memoryview:
    """The bytes of an array in C order, `(size,)`, without a copy where it lies in that order."""
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8).data
