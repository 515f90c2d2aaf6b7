"""JSON lines: an object a line, whose keys are the columns."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow as pa

from models.base.errors import DataError
from models.data import memory
from models.data.catalogue import CATALOGUE
from models.data.faults import MOST_FAULTS
from models.data.formats.arrow import BYTES_PER_CELL, read_tables
from models.data.formats.sheet import Sheet, settle_names
from models.data.formats.streams import Text, explain_encoding, is_packed, open_text
from models.data.found import files_of
from models.data.raw import Raw
from models.data.records import Source

BATCH = 20_000  # rows that are Python objects at a time
SAMPLED = 20  # rows that tell how many cells there are
PACKED = 8  # how much longer packed JSON usually is when unpacked
EXACT = 2**53  # up to it every whole number is a floating-point number
EXPECTED = 'expected an object a line, such as {"size": 3.5, "label": "a"}'
KINDS = {
    list: "an array", str: "a text", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
Row = dict[str, Any]


def read(source: Source) -> Raw:
    """Rows of JSON lines in UTF-8 (or UTF-16 with a mark), plain, gzip or in a zip archive.

    Raises:
        DataError: names the file and the row where it cannot be read or used.
    """
    files, what = files_of(source, CATALOGUE["jsonl"].suffixes), Path(source.path).name
    cells = sum(_count_cells(path) for path in (*files.train, *files.test))
    memory.require(BYTES_PER_CELL * cells, what)
    sheets = unify([read_lines(path, source.ignore) for path in (*files.train, *files.test)])
    return read_tables(files, source, what, {sheet.path: sheet for sheet in sheets}.__getitem__)


def read_lines(path: Path, ignore: tuple[str, ...] = ()) -> Sheet:
    """The columns of one file: numbers, booleans or texts; null where a row has no such key.

    A column that holds values of several kinds comes out as texts.

    Args:
        path: JSON lines.
        ignore: columns that may hold anything, and come out empty.

    Raises:
        DataError: empty, damaged, or one JSON value instead of lines.
    """
    lines = _Lines(path)
    columns: dict[str, list[pa.Array]] = {}
    nested: dict[str, int] = {}
    rows, done = lines.rows(), 0
    while batch := list(islice(rows, BATCH)):
        for name in dict.fromkeys(key for row in batch for key in row):
            values = [row.get(name) for row in batch]
            place = next((i for i, v in enumerate(values) if isinstance(v, list | dict)), None)
            if place is not None:
                nested.setdefault(name, done + place)
                values = [None] * len(batch)
            chunks = columns.setdefault(name, [])
            chunks += [pa.nulls(done - sum(map(len, chunks)))] * (sum(map(len, chunks)) < done)
            chunks.append(to_array(values))
        done += len(batch)
    table = pa.table({name: _join(chunks, done) for name, chunks in columns.items()})
    sheet = Sheet(path, table, (), lines.faults(), tuple(lines.skipped))
    faults = [*sheet.faults]
    for name in nested.keys() - set(ignore):
        faults.append(
            f"{sheet.where(nested[name])}: column {name!r} holds an array or an object; "
            "write its parts as columns of their own, or name it in --ignore"
        )
    keep = [name for name in columns if name not in nested or name in ignore]
    return settle_names(Sheet(path, table.select(keep), (), tuple(faults), sheet.skipped), keep)


def unify(sheets: list[Sheet]) -> list[Sheet]:
    """The sheets with a column as texts in all of them where it has several kinds of values."""
    names = dict.fromkeys(name for sheet in sheets for name in sheet.table.column_names)
    kinds = {name: {s.table.schema.field(name).type for s in sheets if name in s.table.column_names}
             for name in names}  # fmt: skip
    numbers, nothing = {pa.int64(), pa.float64()}, {pa.null()}
    mixed = {n for n, k in kinds.items() if len(k - nothing) > 1 and k - nothing != numbers}
    return [replace(sheet, table=_spell_columns(sheet.table, mixed)) for sheet in sheets]


def to_array(values: list[Any]) -> pa.Array:
    """Values of JSON as one array; of several kinds, or too large for a number, as texts."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float} and all(_is_exact(value) for value in values):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if not kinds:
        return pa.nulls(len(values))
    return pa.array([_spell(value) for value in values], pa.large_string())


class _Lines:
    """The rows of a file, one after the other, and what is wrong with the others."""

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, list[int]()
        self._faults, self._replaced = list[str](), False

    def rows(self) -> Iterator[Row]:
        """The objects; a line that holds none is noted."""
        place = 0
        with open_text(self.path) as stream:
            for line in _full(stream):
                if place == 0:
                    self._check_first(line)
                value = _decode(line)
                if isinstance(value, dict):
                    yield value
                else:
                    self._note(place, value)
                place += 1
            self._replaced = stream.replaced
        if place == 0:
            raise DataError(f"{self.path}: the file is empty; {EXPECTED}")

    def faults(self) -> tuple[str, ...]:
        """What is wrong, the first lines by name."""
        faults = self._faults[:MOST_FAULTS]
        if more := len(self.skipped) - len(faults):
            faults.append(f"{self.path}: {more} more rows hold no JSON object")
        return (*((explain_encoding(self.path),) if self._replaced else ()), *faults)

    def _note(self, place: int, value: Any) -> None:
        self.skipped.append(place)
        if len(self._faults) < MOST_FAULTS:
            reason = value if isinstance(value, _Broken) else f"holds {KINDS[type(value)]}"
            self._faults.append(f"{self.path}, row {place + 1}: {reason}; {EXPECTED}")

    def _check_first(self, line: bytes) -> None:
        start = line.strip()
        if start in (b"{", b"[") or (start.startswith(b"[") and not _is_list(start)):
            raise DataError(
                f"{self.path}: is one JSON value, not lines; {EXPECTED}: jq -c '.[]' (of an array "
                "of objects) or jq -c . writes it so"
            )


class _Broken(str):
    """Why a line is no JSON."""


def _decode(line: bytes) -> Any:
    """The value of a line, or `_Broken`."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
    try:  # Python writes NaN and Infinity, too, which are no JSON
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return _Broken(f"is no JSON ({reason}): {line[:60].decode('utf-8', 'replace')!r}")
    return value


def _full(stream: Text) -> Iterator[bytes]:
    """The lines that are not empty."""
    return (line for line in cast("Iterator[bytes]", stream) if line.strip())


def _is_list(line: bytes) -> bool:
    return isinstance(_decode(line), list) and not line.startswith(b"[{")


def _is_exact(value: float | None) -> bool:
    return value is None or isinstance(value, float) or abs(value) <= EXACT


def _spell(value: Any) -> str | None:
    """A value as it stands in the line, without quotes."""
    if value is None or isinstance(value, str):
        return value.strip(" \t\r\n") if value else value
    return json.dumps(value)


def _spell_columns(table: pa.Table, names: set[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in names:
            table = table.set_column(place, name, table.column(place).cast(pa.large_string()))
    return table


def _join(chunks: list[pa.Array], rows: int) -> pa.ChunkedArray:
    """The pieces of a column, as texts where they are of several kinds."""
    length = sum(map(len, chunks))
    chunks = [*chunks, pa.nulls(rows - length)] if length < rows else chunks
    kinds = {chunk.type for chunk in chunks} - {pa.null()}
    if kinds == {pa.int64(), pa.float64()}:
        kind = pa.float64()
    else:
        kind = kinds.pop() if len(kinds) == 1 else pa.large_string() if kinds else pa.null()
    return pa.chunked_array([chunk.cast(kind, safe=False) for chunk in chunks], kind)


def _count_cells(path: Path) -> int:
    """About how many cells a file holds, by its size and its first rows."""
    with open_text(path) as stream:
        lines = list(islice(_full(stream), SAMPLED))
    values = [_decode(line) for line in lines]
    cells = sum(len(value) for value in values if isinstance(value, dict))
    size = path.stat().st_size * (PACKED if is_packed(path) else 1)
    return size * cells // max(sum(map(len, lines)), 1)
