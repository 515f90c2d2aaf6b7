"""CSV and TSV files: a header, a label column, and cells that are all read as texts."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from models.base.errors import DataError
from models.data import memory
from models.data.catalogue import CATALOGUE
from models.data.formats.arrow import BYTES_PER_CELL, read_tables
from models.data.formats.header import Header, read_header
from models.data.formats.quotes import check_quotes
from models.data.formats.sheet import Sheet, drop_empty_rows, settle_names
from models.data.formats.streams import Text, explain_encoding, is_packed, open_text
from models.data.found import files_of
from models.data.raw import Raw, count, list_rows
from models.data.records import Source

PACKED = 5  # how much longer packed text usually is when unpacked
BLOCKS = (8 << 20, 512 << 20)  # bytes read at once: a row must fit, and few are longer than 8 MiB


def read(source: Source) -> Raw:
    """Rows of CSV files in UTF-8 (or UTF-16 with a mark) with a header.

    Raises:
        DataError: names the file and the row where it cannot be read or used.
    """
    delimiter = delimiter_of(source.delimiter)
    files, what = files_of(source, CATALOGUE["csv"].suffixes), Path(source.path).name
    cells = sum(_count_cells(path, delimiter) for path in (*files.train, *files.test))
    memory.require(BYTES_PER_CELL * cells, what)
    return read_tables(files, source, what, lambda path: read_csv(path, delimiter))


def delimiter_of(option: str) -> str:
    """The character that an option names, empty to find it. Raises DataError for what is none."""
    delimiter = "\t" if option in ("\\t", "tab") else option
    if len(delimiter) > 1 or not delimiter.isascii() or delimiter in ('"', "\r", "\n", "\0"):
        raise DataError(f"--delimiter {delimiter!r}: expected one ASCII character, or tab")
    return delimiter


def parsing(
    header: Header, names: list[str], block: int, skip: Callable[[arrow_csv.InvalidRow], str]
) -> tuple[arrow_csv.ReadOptions, arrow_csv.ParseOptions, arrow_csv.ConvertOptions]:
    """How pyarrow parses a file: all cells as texts, in columns called `names`.

    Args:
        header: of the file; the parser begins behind it.
        names: of the columns.
        block: bytes that are parsed at once; a row must fit.
        skip: called with every row of another length; it gives "skip".
    """
    return (
        # One thread: only then does pyarrow say which row is wrong.
        arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=block),
        arrow_csv.ParseOptions(
            delimiter=header.delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False
        ),
    )


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
    table = reading.table.rename_columns(
        [name or f"number {place}" for place, name in enumerate(header.names, 1)]
    )
    sheet = Sheet(path, table, notes, tuple(faults), reading.places())
    if reading.quoted and not reading.opened:
        sheet = check_quotes(sheet, header.delimiter, header.size)
    return settle_names(drop_empty_rows(sheet), header.names)


class _Reading:
    """One pass over a file: the rows that fit its header, and those that do not."""

    closed = False  # as a file is that pyarrow reads

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.skipped: list[arrow_csv.InvalidRow] = []
        self._tail, self._nul, self.quoted = b"", False, False
        self._stream: Text
        for block in BLOCKS:
            self.skipped.clear()
            with open_text(path) as self._stream:
                skip_bytes(self._stream, header.size)
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

    def read(self, size: int) -> bytes:
        """The next bytes of the file, for the parser."""
        piece = read_full(self._stream, size)
        self._tail = (self._tail + piece[-8:])[-8:]
        self._nul = self._nul or b"\0" in piece
        self.quoted = self.quoted or b'"' in piece
        return piece

    def places(self) -> tuple[int, ...]:
        """Of the rows that do not fit, from 0."""
        return tuple(row.number - 1 for row in self.skipped)

    def explain_ragged(self) -> list[str]:
        """A fault for every row of another length, the first ones by name."""
        ragged = [row for row in self.skipped if not is_comment(row)]
        width, faults = len(self.header.names), list[str]()
        if self.opened:
            faults.append(
                f"{self.path}, row {self.opened}: a quote that opens here is never closed"
            )
            ragged = [row for row in ragged if row.number != self.opened]
        if ragged:
            first = ragged[0]
            reason = "a cell that holds the delimiter needs quotes"
            if "\n" in first.text or "\r" in first.text:
                reason = "a quote that opens in this row is closed in a later line"
            others = [f"{row.number} ({count(row.actual_columns, 'cell')})" for row in ragged[1:]]
            faults.append(
                f"{self.path}, row {first.number}: {count(first.actual_columns, 'cell')}, expected "
                f"{width} as in the header (separated by {self.header.delimiter!r}): "
                f"{first.text[:80]!r}; {reason}{list_rows(others)}"
            )
        return faults

    def explain_nuls(self) -> list[str]:
        """A fault for every column with NUL bytes, by the first row that has one."""
        if not self._nul and not any("\0" in name for name in self.header.names):
            return []
        faults = [
            f"{self.path}: the name {name!r} of a column holds a NUL byte; the file is damaged"
            for name in self.header.names
            if "\0" in name
        ]
        for place, (name, column) in enumerate(
            zip(self.header.names, self.table.columns, strict=True)
        ):
            places = pc.indices_nonzero(pc.match_substring(column, "\0"))
            if len(places):
                first, *others = (self._row(place.as_py()) for place in places)
                faults.append(
                    f"{self.path}, row {first}: column {name!r} holds a NUL byte, which is no "
                    f"text; the file is damaged, or is no CSV{list_rows(others)}"
                )
                # It is a fault by now: what stands beside it is judged without it.
                rest = pc.replace_substring(column, "\0", "")
                self.table = self.table.set_column(place, str(place), rest)
        return faults

    def explain_comments(self) -> list[str]:
        """A note on the rows that were left out, for they begin with `#`."""
        rows = [row.number for row in self.skipped if row.text.lstrip().startswith("#")]
        if not rows:
            return []
        lines = count(len(rows), "line")
        return [f"{self.path.name}: {lines} that begin with # left out, the first as row {rows[0]}"]

    @cached_property
    def opened(self) -> int:
        """The number of the last row, where a quote opens in it that is never closed, else 0."""
        number = self.table.num_rows + len(self.skipped)
        last = next((row.text for row in self.skipped if row.number == number), "")
        if not last and self.table.num_rows:
            last = self.table.column(len(self.header.names) - 1)[-1].as_py()
        is_open = not self._tail.rstrip(b"\r\n ").endswith(b'"')
        return number if is_open and ("\n" in last or "\r" in last) else 0

    def _row(self, place: int) -> int:
        return Sheet(self.path, self.table, skipped=self.places()).row(place)

    def _parse(self, block: int) -> pa.Table:
        """All cells as texts, in columns called `0`, `1`, ...: names may repeat."""
        names = [str(place) for place in range(len(self.header.names))]

        def skip(row: arrow_csv.InvalidRow) -> str:
            self.skipped.append(row)
            return "skip"

        try:
            table = arrow_csv.read_csv(
                pa.PythonFile(self, mode="r"), *parsing(self.header, names, block, skip)
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise
            return pa.table({name: pa.array([], pa.large_string()) for name in names})
        columns = [pc.ascii_trim_whitespace(column) for column in table.columns]
        return pa.table(dict(zip(names, columns, strict=True)))


def read_full(stream: Text, size: int) -> bytes:
    """Return so many bytes; fewer only at the end."""
    pieces, missing = list[bytes](), size
    while missing and (piece := stream.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def skip_bytes(stream: Text, size: int) -> None:
    """Read on by so many bytes."""
    while size and (piece := stream.read(size)):
        size -= len(piece)


def is_comment(row: arrow_csv.InvalidRow) -> bool:
    """Whether a row that does not fit is none: a comment, or spaces."""
    return not row.text.strip() or row.text.lstrip().startswith("#")


def _count_cells(path: Path, delimiter: str) -> int:
    """About how many cells a file holds, by its size and its first rows."""
    with open_text(path) as stream:
        header = read_header(stream, delimiter, path)
    size = path.stat().st_size * (PACKED if is_packed(path) else 1)
    return int(size / header.row_bytes * len(header.names))
