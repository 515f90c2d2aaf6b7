"""The first lines of a CSV: what separates the cells, which line names the columns."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from models.base.errors import DataError
from models.data.formats.streams import Text
from models.data.raw import count, quote
from models.data.tables import is_number

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 20  # rows that must agree on the delimiter
PIECE = 1 << 16
LONGEST = 16 << 20  # bytes within which the header and a row must end
LINES = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
EXCEL = re.compile(r'"?sep=(\\t|.)"?', re.IGNORECASE)  # Excel's first line, which says what it is


@dataclass(frozen=True)
class Header:
    """How a CSV begins.

    Args:
        names: of the columns, as many as the rows have cells; empty where a column has none.
        delimiter: what separates cells.
        size: bytes up to the first row.
        row_bytes: of the first rows, on average.
        notes: sentences on lines that were left out.
    """

    names: tuple[str, ...]
    delimiter: str
    size: int
    row_bytes: float
    notes: tuple[str, ...] = ()


def read_header(stream: Text, delimiter: str, path: Path) -> Header:
    """The header of a CSV in UTF-8, from its first bytes.

    A line `sep=;` before it, as Excel writes it, and lines that begin with `#` are left out.

    Args:
        stream: of bytes; it is read further than the header goes.
        delimiter: one character, or empty to find it.
        path: for messages.

    Raises:
        DataError: empty, one column only, or a first line that is a row.
    """
    head, ended = _first_bytes(stream)
    lines = [match.group() for match in LINES.finditer(head)]
    start = _first_full(lines, 0)
    if start == len(lines):
        raise DataError(f"{path}: the file is empty; expected a header and rows")
    if excel := EXCEL.fullmatch(lines[start].decode("latin-1").strip("\r\n ")):
        delimiter = delimiter or excel[1].replace("\\t", "\t")
        start = _first_full(lines, start + 1)
    comments, begin = _comments(lines, start, delimiter, path)
    delimiter = delimiter or sniff(lines[begin:], path, ended)
    rows = _cut(lines[begin:], delimiter, path, ended)
    notes = (
        ()
        if not comments
        else (
            f"{path.name}: {count(comments, 'line')} that begin with # left out above the header",
        )
    )
    used = sum(map(len, lines[:begin])) + rows[0].size
    names = _widen(_decode(rows[0].cells), [row.cells for row in rows[1:]])
    _check_names(names, rows, delimiter, path)
    per_row = sum(row.size for row in rows) / len(rows)
    return Header(tuple(names), delimiter, used, per_row, notes)


def sniff(lines: list[bytes], path: Path, ended: bool = True) -> str:
    """The delimiter that cuts each of the first rows into the same number of cells.

    Raises:
        DataError: none does.
    """
    widths = {d: [len(row.cells) for row in _cut(lines, d, path, ended)] for d in DELIMITERS}
    same = {d: counts[0] for d, counts in widths.items() if len(set(counts)) == 1}
    # If no delimiter fits every row, the header decides: a row is ragged then.
    best = max(same, key=same.__getitem__, default=",")
    if same.get(best, 1) < 2:
        best = max(widths, key=lambda d: widths[d][0])
    if widths[best][0] < 2:
        first = lines[0].decode("utf-8", "replace").strip()[:80]
        later = max(max(counts) for counts in widths.values())
        hint = f"; later rows have {later} cells: take the line out if it is a title" * (later > 1)
        raise DataError(
            f"{path}: one column found, named {first!r}; the columns are not separated by "
            f"comma, semicolon, tab or |: say what separates them with --delimiter{hint}"
        )
    return best


@dataclass(frozen=True)
class _Row:
    cells: list[str]  # in Latin-1, so that a byte is a character
    size: int  # in bytes, with empty lines before


def _first_bytes(stream: Text) -> tuple[bytes, bool]:
    """The first bytes of a stream, enough for the first rows, and whether that is all."""
    head = b""
    while head.count(b"\n") + head.count(b"\r") <= 3 * SNIFFED and len(head) < LONGEST:
        piece = stream.read(PIECE)
        head += piece
        if not piece:
            return head, True
    return head, False


def _first_full(lines: list[bytes], start: int) -> int:
    return next((i for i in range(start, len(lines)) if lines[i].strip()), len(lines))


def _comments(lines: list[bytes], start: int, delimiter: str, path: Path) -> tuple[int, int]:
    """How many lines are comments, and the place of the header.

    The last line that begins with # is the header itself where it has as many cells as the row
    after it, and that row holds numbers and it does not.
    """
    begin = start
    while begin < len(lines) and lines[begin].lstrip().startswith(b"#"):
        begin = _first_full(lines, begin + 1)
    if begin == start:
        return 0, start
    commented = [i for i in range(start, begin) if lines[i].strip()]
    rest = lines[begin : begin + SNIFFED]
    for each in (delimiter,) if delimiter else DELIMITERS:
        rows = _cut([lines[commented[-1]], *rest], each, path, ended=True)
        first, later = rows[0].cells, [row.cells for row in rows[1:]]
        numbers = sum(map(is_number, first))
        if later and len(first) == len(later[0]) > 1 and numbers < sum(map(is_number, later[0])):
            return len(commented) - 1, commented[-1]
    if begin == len(lines):
        raise DataError(f"{path}: holds comments only; expected a header and rows")
    return len(commented), begin


def _cut(lines: list[bytes], delimiter: str, path: Path, ended: bool) -> list[_Row]:
    """The first rows that are not empty; one that the first bytes cut off is left out."""
    rows: list[_Row] = []
    texts = [line.decode("latin-1") for line in lines]
    limit, size, counted = csv.field_size_limit(LONGEST), 0, 0
    try:
        reader = csv.reader(iter(texts), delimiter=delimiter)
        for cells in reader:
            size += sum(map(len, texts[counted : reader.line_num]))
            counted = reader.line_num
            if len(cells) > 1 or "".join(cells).strip(" \t"):
                rows.append(_Row(cells, size))
                size = 0
            if len(rows) > SNIFFED:
                break
    except csv.Error as error:
        raise DataError(f"{path}: the first lines cannot be read as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    if counted == len(lines) and not ended and len(rows) > 1:
        rows.pop()
    if not rows:
        raise DataError(f"{path}: the first lines hold no cells; expected a header and rows")
    return rows


def _decode(cells: list[str]) -> list[str]:
    return [cell.encode("latin-1").decode("utf-8", "replace").strip() for cell in cells]


def _widen(names: list[str], rows: list[list[str]]) -> list[str]:
    """As many names as the rows have cells, where all rows have one more or one less.

    A row that ends in the delimiter has a last cell that is empty; R writes no name for the names
    of the rows, which come first.
    """
    widths = {len(row) for row in rows}
    if widths == {len(names) + 1}:
        return [*names, ""] if all(not row[-1].strip() for row in rows) else ["", *names]
    if widths == {len(names) - 1} and not names[-1]:
        return names[:-1]
    return names


def _check_names(names: list[str], rows: list[_Row], delimiter: str, path: Path) -> None:
    """Refuse a header of one column, and one that is a row of data."""
    if len(names) < 2:
        lines = [rows[0].cells[0].encode("latin-1")]
        better = [(d, len(_cut(lines, d, path, ended=True)[0].cells)) for d in DELIMITERS]
        others = [f"{d!r} gives {width}" for d, width in better if width > 1]
        hint = f"; {', '.join(others)}: say so with --delimiter" if others else ""
        raise DataError(
            f"{path}: one column found with delimiter {delimiter!r}, named {names[0][:80]!r}{hint}"
        )
    numbers = [name for name in names if is_number(name)]
    counting = all(n.isdecimal() for n in numbers) and sorted(numbers, key=int) == numbers
    counting = counting and len(set(numbers)) == len(numbers)
    kinds = [is_number(name) for name in names]
    row = rows[1].cells if len(rows) > 1 else []
    like_row = not counting and kinds == [is_number(cell) for cell in row]
    if numbers and (len(numbers) == len(names) or like_row):
        raise DataError(
            f"{path}: the first line holds numbers ({quote(names, 4)}); expected a header that "
            "names the columns"
        )
