"""What the readers of all formats hand over, before labels are numbered and parts divided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

Where = Callable[[int], str]  # what to call the row at a place (from 0) in a message
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class RawColumn:
    """A column of a table: numbers, or places in `texts`, as float32 `(N,)`; missing is NaN.

    `texts` are the distinct categories in the order that they shall have, None for numbers.
    """

    name: str
    values: npt.NDArray[np.float32]
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RawPart:
    """Rows as they were found: pixels `(N, C, H, W)` that may be reordered, or columns.

    `labels` `(N,)` are integers, numbers, booleans, or objects (texts; None where one is missing).
    `groups` `(N,)` are equal for rows that belong together, where an array of the file says so.
    """

    labels: Values
    where: Where
    pixels: InputArray | None = None
    columns: tuple[RawColumn, ...] = ()
    groups: Values | None = None


@dataclass(frozen=True)
class Raw:
    """What a reader found.

    `names` are the classes that integer labels count, empty where the labels name them.
    """

    what: str
    train: RawPart
    test: RawPart | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def spans(pieces: Sequence[tuple[str, int]]) -> Where:
    """Names for rows that lie in several pieces of some length: `b.csv, row 2` (counted from 1).

    >>> where = spans([("a.csv", 3), ("b.csv", 5)])
    >>> where(2), where(3)
    ('a.csv, row 3', 'b.csv, row 1')
    """
    ends = np.cumsum([count for _, count in pieces])

    def where(place: int) -> str:
        piece = int(np.searchsorted(ends, place, "right"))
        return f"{pieces[piece][0]}, row {place - int(ends[piece]) + pieces[piece][1] + 1}"

    return where


def number_labels(raw: Raw) -> tuple[IntArray, IntArray | None, tuple[str, ...]]:
    """Labels as int64 `(N,)` of the training and test part, and the names of the classes.

    Classes are those that training has: in the order of `raw.names`, else integers in rising order
    and texts in alphabetical order.

    Raises:
        DataError: a label is missing, negative, no whole number, beyond the names, or only in the
            test part; names the row.
    """
    found, places = _texts(raw.train, raw.names)
    used = np.bincount(places, minlength=len(found)) > 0
    classes = tuple(text for text, there in zip(found, used, strict=True) if there)
    y = (np.cumsum(used) - 1)[places].astype(np.int64)
    if raw.test is None:
        return y, None, classes
    texts, places = _texts(raw.test, raw.names)
    known = {name: place for place, name in enumerate(classes)}
    lookup = np.array([known.get(text, -1) for text in texts], dtype=np.int64)
    y_test = lookup[places]
    if (y_test < 0).any():
        row = int(np.argmin(y_test))
        raise DataError(
            f"{raw.test.where(row)}: label {texts[places[row]]!r} does not occur in the training "
            f"part; expected one of {quote(classes)}"
        )
    return y, y_test, classes


def quote(names: Sequence[str], most: int = 12) -> str:
    """Names for a message; the end of a long list is left out."""
    told = ", ".join(repr(name) for name in names[:most])
    return told + f", ... ({len(names)} in all)" * (len(names) > most) if names else "none"


def _texts(part: RawPart, names: tuple[str, ...]) -> tuple[tuple[str, ...], IntArray]:
    """Distinct labels as texts in their order, and the place of every row's label `(N,)`."""
    values = part.labels
    if values.dtype == object or values.dtype.kind == "U":
        return _from_texts(part)
    if values.dtype.kind == "b":
        return ("false", "true"), values.astype(np.int64)
    if values.dtype.kind == "f":
        _first(part, np.isnan(values), "the label is missing; fill it, or leave the row out")
        _first(part, values != np.floor(values), "label {!r}: expected a whole number or a text")
        _first(part, np.abs(values) >= 2**53, "label {!r} is too large to be a class")
        values = values.astype(np.int64)
    _first(part, values < 0, "label {!r} is negative; expected 0, 1, 2, ... or texts")
    if names:
        told = f"expected 0 to {len(names) - 1}, for there are {len(names)} class names"
        _first(part, values >= len(names), "label {!r} is out of range; " + told)
        return names, values.astype(np.int64)
    unique, places = np.unique(values, return_inverse=True)
    return tuple(str(int(value)) for value in unique), places.astype(np.int64)


def _from_texts(part: RawPart) -> tuple[tuple[str, ...], IntArray]:
    missing = np.array([v is None or str(v).strip() == "" for v in part.labels], dtype=np.bool_)
    _first(part, missing, "the label is missing; fill it, or leave the row out")
    unique, places = np.unique(part.labels.astype(str), return_inverse=True)
    return tuple(unique.tolist()), places.astype(np.int64)


def _first(part: RawPart, wrong: npt.NDArray[np.bool_], told: str) -> None:
    """Raise for the first row that is wrong."""
    if wrong.any():
        row = int(np.argmax(wrong))
        value = part.labels[row : row + 1].tolist()[0]
        raise DataError(f"{part.where(row)}: {told.format(value)}")
