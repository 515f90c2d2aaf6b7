"""CSV and TSV files: a header, a label column, numbers and texts."""

import csv
import gzip
import io
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from models.base.errors import DataError
from models.data import memory
from models.data.catalogue import CATALOGUE
from models.data.formats.arrow import BYTES_PER_CELL, read_tables
from models.data.found import files_of
from models.data.raw import Raw, quote
from models.data.records import Source
from models.data.tables import is_number

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 20  # lines that must agree on the delimiter
PACKED = 5  # how much longer packed text usually is when unpacked


def read(source: Source) -> Raw:
    """Rows of CSV files in UTF-8 with a header; empty cells and NaN are missing values.

    Raises:
        DataError: names the file and the row where it cannot be read or used.
    """
    delimiter = "\t" if source.delimiter in ("\\t", "tab") else source.delimiter
    if len(delimiter) > 1:
        raise DataError(f"--delimiter {delimiter!r}: expected one character, or tab")
    files, what = files_of(source, CATALOGUE["csv"].suffixes), Path(source.path).name
    cells = sum(_cells(path, delimiter) for path in (*files.train, *files.test))
    memory.require(BYTES_PER_CELL * cells, what)
    return read_tables(files, source, what, lambda path: read_csv(path, delimiter))


def read_csv(path: Path, delimiter: str) -> pa.Table:
    """One file; texts and names without the spaces around them.

    Args:
        path: CSV, plain or gzip.
        delimiter: one character, or empty to find it.

    Raises:
        DataError: empty, not UTF-8, no header, one column only, or a row of another length.
    """
    head = _head(path)
    found = delimiter or sniff(head, path)
    names = _header(head, found, path)
    texts = dict.fromkeys(names, pa.large_string())
    wrong: list[arrow_csv.InvalidRow] = []

    def keep(row: arrow_csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        with pa.input_stream(str(path), compression="gzip" if _packed(path) else None) as stream:
            table = arrow_csv.read_csv(
                stream,
                # One thread: only then does pyarrow say which row is wrong.
                arrow_csv.ReadOptions(use_threads=False),
                arrow_csv.ParseOptions(delimiter=found, invalid_row_handler=keep),
                arrow_csv.ConvertOptions(column_types=texts),
            )
    except (pa.ArrowInvalid, OSError) as error:
        if wrong:
            raise _explain_ragged_row(wrong[0], names, path, found) from error
        if isinstance(error, pa.ArrowInvalid):
            _check_utf8(path)
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    trimmed = [pc.ascii_trim_whitespace(column) for column in table.columns]
    return pa.table(trimmed, names=[name.strip() for name in names])


def sniff(head: str, path: Path) -> str:
    """The delimiter that cuts each of the first lines `head` into the same number of cells.

    Raises:
        DataError: none does.
    """
    header = head.splitlines()[0] if head.strip() else ""
    counts = {d: _widths(head, d) for d in DELIMITERS}
    same = {d: widths[0] for d, widths in counts.items() if len(set(widths)) == 1}
    # If no delimiter fits every line, the header decides: a line is ragged then.
    best = max(same, key=same.__getitem__, default=",")
    if same.get(best, 1) < 2:
        best = max(counts, key=lambda d: counts[d][0])
    if counts[best][0] < 2:
        raise DataError(
            f"{path}: one column found, named {header[:80]!r}; the columns are not separated by "
            "comma, semicolon, tab or |: say what separates them with --delimiter"
        )
    return best


def _cells(path: Path, delimiter: str) -> int:
    """About how many cells a file holds, by its size and its first lines."""
    head = _head(path)
    widths = _widths(head, delimiter or sniff(head, path))
    size = path.stat().st_size * (PACKED if _packed(path) else 1)
    return size * sum(widths) // len(head.encode())


def _header(head: str, delimiter: str, path: Path) -> list[str]:
    """Names of the columns, as they stand there."""
    found = _cut(head, delimiter)[0]
    names = [name.strip() for name in found]
    if len(names) < 2:
        better = [f"{d!r} gives {n}" for d in DELIMITERS if (n := _widths(head, d)[0]) > 1]
        hint = f"; {', '.join(better)}: say so with --delimiter" if better else ""
        raise DataError(
            f"{path}: one column found with delimiter {delimiter!r}, named {names[0][:80]!r}{hint}"
        )
    if all(is_number(name) for name in names):
        raise DataError(
            f"{path}: the first line holds numbers ({quote(names, 4)}); expected a header that "
            "names the columns"
        )
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name (a row index of pandas?); "
            "write the file without it (index=False), or give it a name"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}; expected different names")
    return found


def _head(path: Path) -> str:
    """The first lines that are not empty, without the mark that some editors put before them."""
    lines: list[str] = []
    try:
        with _open_text(path) as stream:
            for line in stream:
                if line.strip():
                    lines.append(line)
                if len(lines) > SNIFFED:
                    break
    except UnicodeDecodeError:
        _check_utf8(path)
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is truncated or damaged ({error})") from error
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a header and rows")
    return "".join(lines)


def _check_utf8(path: Path) -> None:
    """Raise DataError for the first line that is not UTF-8."""
    with gzip.open(path) if _packed(path) else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise DataError(
                    f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8 "
                    "(iconv -f latin1 -t utf-8, if it came from Windows)"
                ) from None


def _explain_ragged_row(
    row: arrow_csv.InvalidRow, names: list[str], path: Path, delimiter: str
) -> DataError:
    place = "a row" if row.number is None else f"row {row.number - 1}"  # it counts the header
    return DataError(
        f"{path}, {place}: {row.actual_columns} cells, expected {len(names)} as in the header "
        f"(separated by {delimiter!r}): {row.text[:80]!r}; "
        "a cell that holds the delimiter needs quotes"
    )


def _cut(head: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(head), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"the first lines cannot be read as CSV: {error}") from error


def _widths(head: str, delimiter: str) -> list[int]:
    return [len(cells) for cells in _cut(head, delimiter)]


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _open_text(path: Path) -> io.TextIOBase:
    opener = gzip.open if _packed(path) else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")
