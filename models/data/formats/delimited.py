"""CSV and TSV files: a header, a label column, and cells that are all read as texts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from models.base.errors import DataError
from models.data import memory
from models.data.catalogue import CATALOGUE
from models.data.faults import MOST_FAULTS
from models.data.formats.arrow import BYTES_PER_CELL, read_tables
from models.data.formats.header import Header, read_header
from models.data.formats.sheet import Sheet, settle_names
from models.data.formats.streams import Text, is_packed, open_bytes, open_text
from models.data.found import files_of
from models.data.raw import Raw
from models.data.records import Source

PACKED = 5  # how much longer packed text usually is when unpacked
BLOCKS = (8 << 20, 512 << 20)  # bytes read at once: a row must fit, and few are longer than 8 MiB


def read(source: Source) -> Raw:
    """Rows of CSV files in UTF-8 (or UTF-16 with a mark) with a header.

    Raises:
        DataError: names the file and the row where it cannot be read or used.
    """
    delimiter = "\t" if source.delimiter in ("\\t", "tab") else source.delimiter
    if len(delimiter) > 1 or not delimiter.isascii() or delimiter in ('"', "\r", "\n", "\0"):
        raise DataError(f"--delimiter {delimiter!r}: expected one ASCII character, or tab")
    files, what = files_of(source, CATALOGUE["csv"].suffixes), Path(source.path).name
    cells = sum(_count_cells(path, delimiter) for path in (*files.train, *files.test))
    memory.require(BYTES_PER_CELL * cells, what)
    return read_tables(files, source, what, lambda path: read_csv(path, delimiter))


def read_csv(path: Path, delimiter: str = "") -> Sheet:
    """The columns of one file as large_string, without the spaces around cells and names.

    An empty cell is an empty text. Rows that are left out are named in `faults` or `notes`.

    Args:
        path: CSV, plain, gzip or in a zip archive.
        delimiter: one character, or empty to find it.

    Raises:
        DataError: empty, damaged, no header, or one column only.
    """
    with open_text(path) as stream:
        header = read_header(stream, delimiter, path)
    reading = _Reading(path, header)
    faults = [*reading.explain_ragged(), *reading.explain_nuls()]
    if reading.replaced:
        faults.insert(0, explain_encoding(path))
    notes = (*header.notes, *reading.explain_comments())
    skipped = tuple(row.number - 1 for row in reading.skipped)
    return settle_names(Sheet(path, reading.table, notes, tuple(faults), skipped), header.names)


class _Reading:
    """One pass over a file: the rows that fit its header, and those that do not."""

    closed = False  # as a file is that pyarrow reads

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.skipped: list[arrow_csv.InvalidRow] = []
        self._tail, self._nul = b"", False
        self._stream: Text
        for block in BLOCKS:
            self.skipped.clear()
            with open_text(path) as self._stream:
                _skip(self._stream, header.size)
                try:
                    self.table = self._parse(block)
                except pa.ArrowInvalid as error:
                    if "straddling" not in str(error) or block == BLOCKS[-1]:
                        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
                else:
                    break

    @property
    def replaced(self) -> bool:
        """Whether bytes were not of the encoding."""
        return self._stream.replaced

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file, for the parser."""
        piece = self._stream.read(size)
        self._tail = (self._tail + piece[-8:])[-8:]
        self._nul = self._nul or b"\0" in piece
        return piece

    def explain_ragged(self) -> list[str]:
        """A fault for every row of another length, the first ones by name."""
        ragged = [row for row in self.skipped if not _is_comment(row)]
        width, delimiter = len(self.header.names), self.header.delimiter
        faults = []
        for row in ragged[:MOST_FAULTS]:
            reason = "a cell that holds the delimiter needs quotes"
            if row is self.skipped[-1] and "\n" in row.text and self._is_open():
                reason = "a quote that opens here is never closed"
            faults.append(
                f"{self.path}, row {row.number}: {row.actual_columns} cells, expected {width} as "
                f"in the header (separated by {delimiter!r}): {row.text[:80]!r}; {reason}"
            )
        if len(ragged) > MOST_FAULTS:
            more = len(ragged) - MOST_FAULTS
            faults.append(f"{self.path}: {more} more rows do not have {width} cells")
        if not faults and self.table.num_rows and self._is_open():
            last = self.table.column(width - 1)[-1].as_py()
            if "\n" in last or "\r" in last:
                row = self.table.num_rows + len(self.skipped)
                faults.append(f"{self.path}, row {row}: a quote that opens here is never closed")
        return faults

    def explain_nuls(self) -> list[str]:
        """A fault for every column with NUL bytes, by the first row that has one."""
        if not self._nul:
            return []
        faults = []
        for name, column in zip(self.header.names, self.table.columns, strict=True):
            places = pc.indices_nonzero(pc.match_substring(column, "\0"))
            if len(places):
                rows = [self._row(place.as_py()) for place in places[:MOST_FAULTS]]
                more = f" ({len(places)} in all)" * (len(places) > MOST_FAULTS)
                faults.append(
                    f"{self.path}, row {', '.join(map(str, rows))}{more}: column {name!r} holds a "
                    "NUL byte, which is no text; the file is damaged, or is no CSV"
                )
        return faults

    def explain_comments(self) -> list[str]:
        """A note on the rows that were left out, for they begin with `#`."""
        rows = [row.number for row in self.skipped if _is_comment(row)]
        if not rows:
            return []
        return [
            f"{self.path.name}: {len(rows)} lines that begin with # left out, row {rows[0]} first"
        ]

    def _row(self, place: int) -> int:
        sheet = Sheet(self.path, self.table, skipped=tuple(row.number - 1 for row in self.skipped))
        return sheet.row(place)

    def _is_open(self) -> bool:
        return not self._tail.rstrip(b"\r\n ").endswith(b'"')

    def _parse(self, block: int) -> pa.Table:
        """All cells as texts, in columns called `0`, `1`, ...: names may repeat."""
        names = [str(place) for place in range(len(self.header.names))]

        def skip(row: arrow_csv.InvalidRow) -> str:
            self.skipped.append(row)
            return "skip"

        try:
            table = arrow_csv.read_csv(
                pa.PythonFile(self, mode="r"),
                # One thread: only then does pyarrow say which row is wrong.
                arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=block),
                arrow_csv.ParseOptions(
                    delimiter=self.header.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=skip,
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise
            return pa.table({name: pa.array([], pa.large_string()) for name in names})
        columns = [pc.ascii_trim_whitespace(column) for column in table.columns]
        return pa.table(dict(zip(names, columns, strict=True)))


def explain_encoding(path: Path) -> str:
    """The fault of a file that is not UTF-8: its lines, and what it is likely in."""
    lines, first = [], b""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                lines.append(number)
                first = first or _word(line, error.start)
    listed = ", ".join(map(str, lines[:MOST_FAULTS])) + " ..." * (len(lines) > MOST_FAULTS)
    if not lines:
        return f"{path}: begins with a mark of UTF-16, but is not all in it; save it as UTF-8"
    bad = next(byte for byte in first if byte > 127)
    sentence = f"{path}, line {listed}: byte 0x{bad:02x} is not UTF-8"
    try:
        read_as = first.decode("cp1252")
    except UnicodeDecodeError:
        return f"{sentence}; save it as UTF-8"
    return (
        f"{sentence}; if {read_as!r} is what stands there, it is Windows-1252 (Latin-1): "
        "iconv -f WINDOWS-1252 -t UTF-8; save it as UTF-8"
    )


def _word(line: bytes, place: int) -> bytes:
    """The word around a byte."""
    start = max(line.rfind(mark, 0, place) for mark in (b" ", b",", b";", b"\t", b'"')) + 1
    return line[start : place + 1] + line[place + 1 :].split(b" ")[0].split(b",")[0][:20]


def _skip(stream: Text, size: int) -> None:
    while size and (piece := stream.read(size)):
        size -= len(piece)


def _is_comment(row: arrow_csv.InvalidRow) -> bool:
    return bool(row.text.lstrip().startswith("#"))


def _count_cells(path: Path, delimiter: str) -> int:
    """About how many cells a file holds, by its size and its first rows."""
    with open_text(path) as stream:
        header = read_header(stream, delimiter, path)
    size = path.stat().st_size * (PACKED if is_packed(path) else 1)
    return int(size / header.row_bytes * len(header.names))
