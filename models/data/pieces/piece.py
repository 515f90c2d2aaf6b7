"""A piece of a file, and the blocks of rows that it is read in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

BLOCK_VALUES = 1 << 20  # that are in memory at once, of each of the few copies that reading makes
MOST_BLOCK_ROWS, LEAST_BLOCK_ROWS = 8192, 16
Table = Any  # of Arrow, which a serving image does not have


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a file, as many as fit well into memory.

    Args:
        numbers: `(N,)` the numbers of the rows in the file, counted from 1 behind the header.
        table: N rows of the columns that were asked for, those that the file has.
        pixels: `(N, ...)` images, where the file holds arrays of them.
        broken: rows that are none, and why, by their number; they are not among the N.
    """

    numbers: IntArray
    table: Table
    pixels: InputArray | None = None
    broken: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is read of each row.

    Args:
        columns: that a block has if the file has them.
        width: values of a row of the model's input, which blocks are cut by.
        root: the folder that was named; folders `city=Rome/` below it are columns.
        pictures: columns of encoded pictures are wanted, too, whatever they are called.
        delimiter: of a CSV; empty to find it.
    """

    columns: tuple[str, ...]
    width: int
    root: Path
    pictures: bool = False
    delimiter: str = ""


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read, scored and written as a whole, or fails as a whole.

    Args:
        file: in which it lies.
        place: in the file, from 0.
        name: for messages.
        blocks: reads it from its beginning; DataError where it is damaged.
    """

    file: Path
    place: int
    name: str
    blocks: Callable[[], Iterator[Block]]


def block_rows(values: int) -> int:
    """How many rows of so many values each make a block.

    >>> block_rows(12), block_rows(3 * 224 * 224)
    (8192, 16)
    """
    return max(LEAST_BLOCK_ROWS, min(MOST_BLOCK_ROWS, BLOCK_VALUES // max(1, values)))
