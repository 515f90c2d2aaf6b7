"""Data sets: raw arrays with a schema, split by hash, and a fingerprint."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.errors import DataError
from models.schema import DTYPES, InputArray, InputSchema, IntArray

PARTS = ("train", "calibration", "test")
TRAIN_SHARE, CALIBRATION_SHARE = 0.6, 0.2


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
    """Rows in three parts that share no input."""

    name: str
    schema: InputSchema
    classes: tuple[str, ...]
    train: Rows
    calibration: Rows
    test: Rows

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over schema, classes and all rows."""
        digest = hashlib.sha256(repr((self.schema, self.classes)).encode())
        for part in PARTS:
            rows: Rows = getattr(self, part)
            digest.update(part.encode() + np.ascontiguousarray(rows.x).tobytes())
            digest.update(np.ascontiguousarray(rows.y.astype(np.int64)).tobytes())
        return digest.hexdigest()


def hash_shares(x: InputArray) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for every row of `x` `(N, ...)`, from the sha256 of its bytes alone.

    Equal rows get equal numbers, so duplicates never stand on both sides of a split.
    """
    rows = np.ascontiguousarray(x)
    words = (int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:6], "big") for row in rows)
    return np.fromiter(words, dtype=np.float64, count=len(rows)) / 2.0**48


def split(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """Train, calibration and test rows (60 : 20 : 20) by hash, each in hash order.

    Hash order is a shuffle that does not depend on the order of the source.
    """
    shares = hash_shares(rows.x)
    order = np.argsort(shares, kind="stable")
    bounds = np.searchsorted(shares[order], [TRAIN_SHARE, TRAIN_SHARE + CALIBRATION_SHARE])
    train, calibration, test = (rows.take(part) for part in np.split(order, bounds))
    return train, calibration, test


def load_digits() -> DataSet:
    """scikit-learn's 1797 handwritten digits, 8x8, raw values 0 to 16."""
    from sklearn import datasets

    source = datasets.load_digits()
    schema = InputSchema(
        name="input", shape=(1, 8, 8), dtype="float32", low=0.0, high=16.0, kind="image"
    )
    x = source.images[:, None].astype(DTYPES[schema.dtype])
    train, calibration, test = split(Rows(x, source.target.astype(np.int64)))
    classes = tuple(str(name) for name in source.target_names)
    return DataSet("digits", schema, classes, train, calibration, test)


BUNDLED = {"digits": load_digits}


def load(name: str) -> DataSet:
    """Load a data set by name. Raises DataError for a name that is not known."""
    if name not in BUNDLED:
        known = ", ".join(BUNDLED)
        raise DataError(f"unknown data set {name!r}: bundled are {known} (own data: not built yet)")
    return BUNDLED[name]()
