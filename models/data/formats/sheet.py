"""The columns of one file as its reader read them, and what is left out of them and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.raw import Where, count

# What pandas calls a column without a name, and an index without one.
UNNAMED = re.compile(r"(Unnamed: \d+)?")
INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Sheet:
    """The columns of one file.

    Args:
        path: of the file.
        table: its columns; texts are as they stand in the file, without spaces around them.
        notes: sentences on what was left out.
        faults: sentences on what is wrong with the file.
        skipped: places (from 0) of rows of the file that are not in the table, rising.
    """

    path: Path
    table: pa.Table
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    skipped: tuple[int, ...] = ()

    def where(self, place: int) -> str:
        """What to call a row of the table in a message: `a.csv, row 3`, counted in the file."""
        return f"{self.path}, row {self.row(place)}"

    def row(self, place: int) -> int:
        """The number of a row of the table in the file, counted from 1 behind the header."""
        before = np.array(self.skipped, dtype=np.int64) - np.arange(len(self.skipped))
        return place + int(np.searchsorted(before, place, "right")) + 1


def join_where(sheets: Sequence[Sheet]) -> Where:
    """Names for the rows of several sheets, one below the other."""
    ends = np.cumsum([len(sheet.table) for sheet in sheets])

    def where(place: int) -> str:
        index = int(np.searchsorted(ends, place, "right"))
        return sheets[index].where(place - int(ends[index]) + len(sheets[index].table))

    return where


def drop_empty_rows(sheet: Sheet) -> Sheet:
    """The sheet of texts without rows of empty cells only, as spreadsheets write at the end."""
    empty = pa.chunked_array([pa.array(np.ones(len(sheet.table), dtype=np.bool_))])
    for column in sheet.table.columns:
        empty = pc.and_(empty, pc.equal(column, ""))
        if not pc.any(empty).as_py():
            return sheet
    places = np.flatnonzero(empty.to_numpy())
    note = f"{sheet.path.name}: {count(len(places), 'row')} of empty cells only left out"
    skipped = sorted({*sheet.skipped, *(sheet.row(int(place)) - 1 for place in places)})
    return replace(
        sheet,
        table=sheet.table.filter(pc.invert(empty)),
        notes=(*sheet.notes, note),
        skipped=tuple(skipped),
    )


def settle_names(sheet: Sheet, names: Sequence[str]) -> Sheet:
    """The sheet with its columns called `names`, which may be empty or repeat.

    A column without a name is left out with a note where it is empty (the rows end in a
    delimiter), or the first one and different in every row (the row index of pandas, the row names
    of R). Other columns without a name, and further ones of a name, are left out as faults.
    """
    notes, faults = list(sheet.notes), list(sheet.faults)
    columns, nameless, repeated = dict[str, pa.ChunkedArray](), list[str](), dict[str, int]()
    for place, (name, column) in enumerate(zip(names, sheet.table.columns, strict=True)):
        if UNNAMED.fullmatch(name) and _is_empty(column):
            notes.append(
                f"{sheet.path.name}: column {place + 1} is empty and has no name: left out"
            )
        elif UNNAMED.fullmatch(name) and place == 0 and _all_differ(column):
            notes.append(
                f"{sheet.path.name}: the first column has no name and another value in every row, "
                "as a row index of pandas or row names of R: left out, for a client cannot send it"
            )
        elif not name:
            nameless.append(str(place + 1))
        elif name in columns:
            repeated[name] = repeated.get(name, 1) + 1
        else:
            columns[name] = column
    if nameless:
        listed = (
            f"columns {', '.join(nameless)} have" if nameless[1:] else f"column {nameless[0]} has"
        )
        faults.append(f"{sheet.path}: {listed} no name; give every column one")
    for name, times in repeated.items():
        faults.append(f"{sheet.path}: {times} columns are named {name!r}; expected different names")
    return replace(sheet, table=pa.table(columns), notes=tuple(notes), faults=tuple(faults))


def _is_empty(column: pa.ChunkedArray) -> bool:
    if pa.types.is_null(column.type) or column.null_count == len(column):
        return True
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    full = pc.fill_null(pc.not_equal(column, ""), fill_value=False)
    return not pc.any(full).as_py()


def _all_differ(column: pa.ChunkedArray) -> bool:
    if pa.types.is_nested(column.type) or pa.types.is_dictionary(column.type):
        return False
    return len(column) > 0 and pc.count_distinct(column, mode="all").as_py() == len(column)
