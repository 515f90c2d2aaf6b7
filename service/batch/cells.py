"""Columns of files to what a client's cells mean: `service.decoding.rows`, a column at a time.

A cell of a file is read as the same cell in a request is. Distinct texts are read once, and plain
numbers by Arrow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.base.errors import DataError, show_value
from models.data.cells import read_number
from models.data.formats.arrow_casts import DAY_MICROSECONDS
from models.data.formats.arrow_columns import is_text, plain_column
from models.versions.schema import PLAIN, Column
from service.decoding.rows import Categories, describe_column

Float64s = npt.NDArray[np.float64]
PLAIN_NUMBER = r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"  # that Arrow reads as `read_number` does
SECOND_MICROSECONDS = 10**6


@dataclass(frozen=True)
class Cells:
    """What the cells of a column mean.

    Args:
        values: `(N,)` numbers, or places among the categories; NaN where missing or wrong.
        wrong: `(N,)` cells that are none of the column's.
        show: the cell of a row, for a message.
    """

    values: Float64s
    wrong: npt.NDArray[np.bool_]
    show: Callable[[int], str]


class ColumnReader:
    """Reads the cells of one column of the schema."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._categories = Categories(column) if column.kind == "categorical" else None

    def read(self, cells: pa.ChunkedArray) -> Cells:
        """The meaning of the cells of a file, of whatever type.

        Raises:
            DataError: a type that no cell of a request can have.
        """
        cells = plain_column(cells)
        kind = cells.type
        if pa.types.is_null(kind):
            return _known(np.full(len(cells), np.nan))
        if pa.types.is_temporal(kind):
            return self._read_moments(cells)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if number and self._categories is None:
            return _known(cells.cast(pa.float64(), safe=False).to_numpy())
        if pa.types.is_decimal(kind) and self._categories is None:
            return _known(cells.cast(pa.float64()).to_numpy())
        if number or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            return self._read_distinct(cells, self._of_value)
        if not is_text(kind):
            raise DataError(f"column {self.column.name!r} holds {kind}; {self.expected}")
        if self._categories is None and self.column.notation == PLAIN:
            return self._read_plain(cells)
        return self._read_distinct(cells, self._of_text)

    @property
    def expected(self) -> str:
        """What a cell may be."""
        return f"expected {describe_column(self.column)}"

    def _of_text(self, text: Any) -> float | None:
        text = text.strip()
        if self._categories is not None:
            return self._categories.place(text)
        return read_number(text, self.column.notation)

    def _of_value(self, value: Any) -> float | None:
        if self._categories is not None:
            if not isinstance(value, bool | int | float):
                value = str(value)  # a decimal
            return self._categories.place(value)
        return None  # true and false are no numbers

    def _read_plain(self, cells: pa.ChunkedArray) -> Cells:
        """Numbers as texts: most by Arrow, what is unusual one by one."""
        plain = pc.fill_null(pc.match_substring_regex(cells, PLAIN_NUMBER), fill_value=False)
        usual = pc.if_else(plain, cells, None).cast(pa.float64()).to_numpy()
        if pc.all(plain).as_py():
            return _known(usual)
        rest = self._read_distinct(pc.if_else(plain, None, cells), self._of_text)
        mask = plain.to_numpy()
        return Cells(np.where(mask, usual, rest.values), rest.wrong & ~mask, _shown(cells))

    def _read_distinct(self, cells: pa.ChunkedArray, read: Callable[[Any], float | None]) -> Cells:
        coded = pc.dictionary_encode(cells).combine_chunks()
        if isinstance(coded, pa.ChunkedArray):
            coded = pa.concat_arrays(coded.chunks)
        told = [read(value) for value in coded.dictionary.to_pylist()]
        meaning = np.array([np.nan if v is None else v for v in told] + [np.nan])
        bad = np.array([v is None for v in told] + [False])
        places = coded.indices.fill_null(len(told)).to_numpy(zero_copy_only=False)
        return Cells(meaning[places], bad[places], _shown(cells))

    def _read_moments(self, cells: pa.ChunkedArray) -> Cells:
        """Dates as days since 1970-01-01, UTC; times and durations as seconds; as in training."""
        kind, notation = cells.type, self.column.notation
        dated = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
        span = pa.types.is_duration(kind)
        if self._categories is not None or notation.kind not in ("date", "time", "plain"):
            texts = [None if v is None else str(v).removesuffix(" 00:00:00") for v in _list(cells)]
            found = self._read_distinct(pa.chunked_array([pa.array(texts)]), self._of_text)
            return Cells(found.values, found.wrong, _shown(cells))
        wanted = "date" if dated else "plain" if span else "time"
        if notation.kind != wanted:
            raise DataError(f"column {self.column.name!r} holds {kind}; {self.expected}")
        exact = pa.timestamp("us") if dated else pa.duration("us") if span else pa.time64("us")
        if pa.types.is_timestamp(kind) and kind.tz:
            cells = cells.cast(pa.timestamp(kind.unit, "UTC"))
        whole = cells.cast(exact, safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
        return _known(whole.to_numpy() / (DAY_MICROSECONDS if dated else SECOND_MICROSECONDS))


def _known(values: Any) -> Cells:
    """Numbers that Arrow has read: none is wrong."""
    made = np.array(values, dtype=np.float64)
    return Cells(made, np.zeros(len(made), dtype=np.bool_), lambda row: f"{made[row]:g}")


def _list(cells: pa.ChunkedArray) -> list[Any]:
    found: list[Any] = cells.to_pylist()
    return found


def _shown(cells: pa.ChunkedArray) -> Callable[[int], str]:
    return lambda row: show_value(cells[row].as_py())
