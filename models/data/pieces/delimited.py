"""CSV from its beginning to its end, a piece after the other, however large the file is."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from models.base.errors import DataError
from models.data.faults import MOST_FAULTS
from models.data.formats.delimited import delimiter_of, is_comment, parsing, read_full, skip_bytes
from models.data.formats.header import Header, read_header
from models.data.formats.streams import Text, open_text
from models.data.found import partition_of
from models.data.pieces.piece import Block, Piece, Wanted, block_rows
from models.data.raw import count, quote

PIECE_BLOCKS = 8  # of rows in a piece
BLOCK_BYTES = 8 << 20  # that the parser takes at once; a row must fit
REPLACED = "�"


class _Reader:
    """The rows of a file in order, as tables of texts, and the rows that do not fit its header."""

    closed = False  # as a file is that pyarrow reads

    def __init__(self, path: Path, header: Header, stream: Text) -> None:
        self.path, self.header, self._stream = path, header, stream
        self._skipped: dict[int, arrow_csv.InvalidRow] = {}
        self.number, self._nul, self._tail = 0, False, b""
        skip_bytes(stream, header.size)

    def read(self, size: int) -> bytes:
        """The next bytes of the file, for the parser."""
        piece = read_full(self._stream, size)
        self._nul = self._nul or b"\0" in piece
        self._tail = (self._tail + piece[-8:])[-8:]
        return piece

    def tables(self) -> Iterator[pa.Table]:
        """The rows that fit, as the parser gives them.

        Raises:
            DataError: what follows cannot be read.
        """
        names = [str(place) for place in range(len(self.header.names))]
        options = parsing(self.header, names, BLOCK_BYTES, self._skip)
        try:
            reader = arrow_csv.open_csv(pa.PythonFile(self, mode="r"), *options)
            for batch in reader:
                yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            why = str(error).partition("\n")[0]
            if "straddling" in why:
                why = f"a row is longer than {BLOCK_BYTES >> 20} MiB, or a quote is never closed"
            raise DataError(
                f"{self.path}: cannot be read behind row {self.number}: {why}"
            ) from error

    def _skip(self, row: arrow_csv.InvalidRow) -> str:
        self._skipped[row.number] = row
        return "skip"

    def block(self, table: pa.Table, wanted: dict[str, int], *, last: bool) -> Block:
        """The next rows with their numbers and the columns that are wanted; trims the cells."""
        numbers, broken = self._number_rows(len(table))
        if last and len(table) and self._is_open(table):
            broken[int(numbers[-1])] = "a quote that opens here is never closed"
            table, numbers = table.slice(0, len(table) - 1), numbers[:-1]
        full = np.zeros(len(table), dtype=np.bool_)
        for column in table.columns:  # rows of empty cells only are none
            if full.all():
                break
            full |= pc.not_equal(pc.ascii_trim_whitespace(column), "").to_numpy()
        columns = {n: pc.ascii_trim_whitespace(table.column(p)) for n, p in wanted.items()}
        bad = self._bad_rows(columns, len(table))
        for place in np.flatnonzero(bad & full)[:MOST_FAULTS]:
            why = "bytes that are not UTF-8" if self._stream.replaced else "a NUL byte"
            broken[int(numbers[place])] = f"a cell holds {why}"
        for place in np.flatnonzero(bad & full)[MOST_FAULTS:]:
            broken[int(numbers[place])] = "as the rows before it"
        kept = full & ~bad
        made = pa.table(columns) if columns else table.select([])
        return Block(numbers[kept], made.filter(pa.array(kept)) if columns else made, None, broken)

    def _bad_rows(self, columns: dict[str, pa.ChunkedArray], rows: int) -> npt.NDArray[np.bool_]:
        """Rows `(N,)` with bytes that are no text."""
        bad = np.zeros(rows, dtype=np.bool_)
        for seen, mark in ((self._nul, "\0"), (self._stream.replaced, REPLACED)):
            for column in columns.values() if seen else ():
                bad |= pc.match_substring(column, mark).to_numpy()
        return bad

    def _number_rows(self, rows: int) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
        """The numbers `(N,)` of the next rows that fit, and those between them that do not."""
        numbers, broken = np.empty(rows, dtype=np.int64), dict[int, str]()
        done = 0
        while done < rows or self.number + 1 in self._skipped:
            self.number += 1
            row = self._skipped.pop(self.number, None)
            if row is None:
                # All up to the next row that does not fit.
                nearest = min(self._skipped, default=self.number + rows - done)
                step = min(nearest - self.number, rows - done)
                numbers[done : done + step] = np.arange(self.number, self.number + step)
                self.number, done = self.number + step - 1, done + step
            elif not is_comment(row):
                broken[self.number] = (
                    f"{count(row.actual_columns, 'cell')}, expected {len(self.header.names)} as "
                    "in the header"
                )
        return numbers, broken

    def _is_open(self, table: pa.Table) -> bool:
        """Whether a quote opens in the last row of the file and is never closed."""
        cell = table.column(table.num_columns - 1)[-1].as_py()
        ends = self._tail.rstrip(b"\r\n ").endswith(b'"')
        return not ends and ("\n" in cell or "\r" in cell)


def pieces(path: Path, wanted: Wanted) -> Iterator[Piece]:
    """Pieces of a fixed number of rows; each must be read or dropped before the next one.

    What cannot be parsed makes the piece in which it lies fail, and what follows it is not read.

    Raises:
        DataError: no header, or one that does not name the columns once each.
    """
    with open_text(path) as stream:
        header = read_header(stream, delimiter_of(wanted.delimiter), path)
    columns = _places(header, wanted.columns, path)
    beside = {
        name: value
        for name, value in partition_of(path, wanted.root).items()
        if name in wanted.columns and name not in columns
    }
    size = block_rows(max(wanted.width, len(header.names)))
    with open_text(path) as stream:
        reader = _Reader(path, header, stream)
        parts = _parts(reader, size * PIECE_BLOCKS)
        place, ended = 0, False
        while not ended:
            tables = list[pa.Table]()
            fault = ""
            first = reader.number + 1
            try:
                table, ended = next(parts)
                tables = [table.slice(at, size) for at in range(0, max(1, len(table)), size)]
            except DataError as error:
                fault, ended = str(error), True
            made = [
                _beside(reader.block(t, columns, last=ended and k == len(tables) - 1), beside)
                for k, t in enumerate(tables)
            ]
            name = f"{path}, rows {first} to {reader.number}" if made else f"{path}, row {first}"
            yield Piece(path, place, name, partial(_given, made, fault))
            place += 1


def _parts(reader: _Reader, rows: int) -> Iterator[tuple[pa.Table, bool]]:
    """Tables of so many rows each, the last of which is shorter; and whether it is the last."""
    waiting, length = list[pa.Table](), 0
    for table in reader.tables():
        waiting.append(table)
        length += len(table)
        while length > rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows), False
            waiting, length = [joined.slice(rows)], length - rows
    names = [str(place) for place in range(len(reader.header.names))]
    empty = pa.table({name: pa.array([], pa.large_string()) for name in names})
    yield pa.concat_tables(waiting) if waiting else empty, True


def _given(blocks: list[Block], fault: str) -> Iterator[Block]:
    if fault:
        raise DataError(fault)
    yield from blocks


def _beside(block: Block, columns: dict[str, str | None]) -> Block:
    """With the columns that the folders above the file hold."""
    table = block.table
    for name, value in columns.items():
        fixed = pa.repeat(pa.scalar(value, pa.large_string()), len(block.numbers))
        table = table.append_column(name, fixed)
    return Block(block.numbers, table, None, block.broken)


def _places(header: Header, columns: Sequence[str], path: Path) -> dict[str, int]:
    """Where the columns that are wanted stand. Raises DataError where a name of them repeats."""
    repeated = sorted({name for name in columns if header.names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: several columns are named {quote(repeated)}")
    return {name: header.names.index(name) for name in columns if name in header.names}
