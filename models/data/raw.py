"""What the readers of all formats hand over, before labels are numbered and parts divided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.versions.schema import PLAIN, InputArray, Notation

Where = Callable[[int], str]  # what to call the row at a place (from 0) in a message
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class RawColumn:
    """A column of a table: numbers, or places in `texts`, as float32 `(N,)`; missing is NaN.

    `texts` are the distinct categories in the order that they shall have, None for numbers.
    `notation` says how the cells are written.
    """

    name: str
    values: npt.NDArray[np.float32]
    texts: tuple[str, ...] | None = None
    notation: Notation = PLAIN


@dataclass(frozen=True)
class RawPart:
    """Rows as they were found: pixels `(N, C, H, W)` that may be reordered, or columns.

    `labels` `(N,)` are integers, numbers, booleans, or objects (texts; None where one is missing);
    or `(N, C)` one-hot: a single 1 in every row.
    `groups` `(N,)` are equal for rows that belong together, where an array of the file says so.
    """

    labels: Values
    where: Where
    pixels: InputArray | None = None
    columns: tuple[RawColumn, ...] = ()
    groups: Values | None = None

    def take(self, places: npt.NDArray[np.intp]) -> "RawPart":
        """The rows at `places`, which messages call as before."""
        return replace(
            self,
            labels=self.labels[places],
            where=lambda row: self.where(int(places[row])),
            pixels=None if self.pixels is None else self.pixels[places],
            columns=tuple(replace(each, values=each.values[places]) for each in self.columns),
            groups=None if self.groups is None else self.groups[places],
        )


@dataclass(frozen=True)
class Raw:
    """What a reader read.

    `names` are the classes that integer labels count, empty where the labels name them. `faults`
    are sentences on what is wrong with the source: `build` adds its own and refuses it with all of
    them, so a reader goes on with the rows and columns that it can read.
    """

    what: str
    train: RawPart
    test: RawPart | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


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


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "row"), count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def list_rows(rows: Sequence[str | int], most: int = 20) -> str:
    """The words `(also in 2 other rows: 7, 9)` for rows beside one that was named, or none.

    >>> list_rows([]), list_rows([7, 9])
    ('', ' (also in 2 other rows: 7, 9)')
    """
    if not rows:
        return ""
    more = ", ..." * (len(rows) > most)
    listed = ", ".join(map(str, rows[:most]))
    return f" (also in {count(len(rows), 'other row')}: {listed}{more})"


def quote(names: Sequence[str], most: int = 12) -> str:
    """Names for a message; the end of a long list is left out."""
    listed = ", ".join(repr(name) for name in names[:most])
    return listed + f", ... ({len(names)} in all)" * (len(names) > most) if names else "none"
