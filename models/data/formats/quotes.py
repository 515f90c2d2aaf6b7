"""Cells of a CSV that hold whole rows, because a quote is missing or one too many stands there."""

import csv
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.formats.sheet import Sheet
from models.data.formats.streams import open_text

LONGEST = 512 << 20  # characters of a cell


def check_quotes(sheet: Sheet, delimiter: str, start: int) -> Sheet:
    """The sheet with a fault, or a note, on a cell that may hold rows after a quote too many.

    Args:
        sheet: of a CSV, its cells as texts.
        delimiter: of its cells.
        start: bytes up to the first row.
    """
    swallowed = find_swallowed(sheet, delimiter)
    if not swallowed:
        return sheet
    row, name = swallowed
    cell = f"column {name!r} holds line breaks and as many delimiters as whole rows"
    if stray := find_stray_quote(sheet, delimiter, start):
        fault = (
            f"{sheet.path}, row {row}: {cell}, and in row {stray} something follows the quote that "
            "ends a cell: a quote is missing, or a quote inside a cell is not doubled"
        )
        return replace(sheet, faults=(*sheet.faults, fault))
    note = f"{sheet.path.name}, row {row}: {cell}; if those are rows, a quote is missing"
    return replace(sheet, notes=(*sheet.notes, note))


def find_swallowed(sheet: Sheet, delimiter: str) -> tuple[int, str] | None:
    """The number of the first row with a cell that may hold rows, and the name of its column.

    Such a cell has line breaks, and at least as many delimiters as so many rows have.
    """
    cuts = sheet.table.num_columns - 1
    first: tuple[int, str] | None = None
    for name, column in zip(sheet.table.column_names, sheet.table.columns, strict=True):
        breaks = pc.add(pc.count_substring(column, "\n"), _count_lone(column))
        wanted = pc.multiply(breaks, cuts)
        rows = pc.and_(
            pc.greater(breaks, 0), pc.greater_equal(pc.count_substring(column, delimiter), wanted)
        )
        places = np.flatnonzero(rows.to_numpy())
        if len(places) and (first is None or sheet.row(int(places[0])) < first[0]):
            first = sheet.row(int(places[0])), name
    return first


def find_stray_quote(sheet: Sheet, delimiter: str, start: int) -> int:
    """The number of the first row in which something follows the quote that ends a cell, else 0.

    Args:
        sheet: of the file.
        delimiter: of its cells.
        start: bytes up to the first row.
    """
    limit, numbers = csv.field_size_limit(LONGEST), [0]
    try:
        with open_text(sheet.path) as stream:
            while start and (piece := stream.read(start)):
                start -= len(piece)
            lines = io.TextIOWrapper(io.BufferedReader(stream), "utf-8", newline="")
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            numbers.extend(number for number, _ in enumerate(filter(None, rows), start=1))
    except csv.Error:
        return numbers[-1] + 1
    finally:
        csv.field_size_limit(limit)
    return 0


def _count_lone(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Carriage returns that no line feed follows, in each cell."""
    pairs = pc.count_substring(column, "\r\n")
    return pc.subtract(pc.count_substring(column, "\r"), pairs)
