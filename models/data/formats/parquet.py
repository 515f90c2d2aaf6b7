"""Parquet files: encoded images with labels, or the columns of a table."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.base.errors import DataError
from models.data import memory
from models.data.catalogue import CATALOGUE
from models.data.formats.arrow import (
    BYTES_PER_CELL,
    LABELS,
    class_names,
    label_of,
    labels_of,
    note_unlabelled,
    read_tables,
)
from models.data.formats.images import Stack, count_sizes
from models.data.formats.sheet import INDEX, Sheet, settle_names
from models.data.found import Files, files_of, partition_of
from models.data.pictures.resize import Fit, fit_of
from models.data.raw import Raw, RawPart, quote, spans
from models.data.records import Source
from models.data.tables import check_names

# A damaged header may also name a column with bytes that are no text.
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)
BATCH = 256  # rows that are read before they are decoded


def read(source: Source) -> Raw:
    """Images where a column holds bytes (or a struct of bytes and path), else a table.

    Raises:
        DataError: no Parquet file, no label, or images or columns that cannot be used.
    """
    files, what = files_of(source, CATALOGUE["parquet"].suffixes), Path(source.path).name
    opened = {path: _open(path) for path in (*files.train, *files.test)}
    schema = opened[files.train[0]].schema_arrow
    images = [f.name for f in schema if holds_bytes(f.type) and f.name not in source.ignore]
    if not images:
        cells = sum(f.metadata.num_rows * f.metadata.num_columns for f in opened.values())
        memory.require(BYTES_PER_CELL * cells, what)
        roots = tuple(Path(each) for each in (source.path, source.test) if each)
        return read_tables(files, source, what, lambda path: read_sheet(path, source, roots))
    if len(images) > 1:
        raise DataError(f"{what}: columns {quote(images)} are images; name others in --ignore")
    if set(source.categorical) - {source.group}:
        raise DataError(f"{what} holds images; --categorical is for tables")
    check_names(schema.names, source, what)
    label = label_of([n for n in schema.names if n != images[0]], source, str(files.train[0]))
    return _images(files, opened, _Wanted(images[0], label, source.group), source.resize, what)


def read_sheet(path: Path, source: Source, roots: Sequence[Path] = ()) -> Sheet:
    """The columns of a table in one file, and those that the folders above it hold.

    The row index of pandas is left out with a note, for a client cannot send it, unless it is the
    label or an option names it.

    Args:
        path: of a Parquet file.
        source: its options name columns.
        roots: folders that were named; between one and the file, `city=Rome/` is a column.

    Raises:
        DataError: the file is damaged.
    """
    table = _table(path)
    for name, value in next((c for r in roots if (c := partition_of(path, r))), {}).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), len(table)))
    wanted = {source.label, source.group, *source.categorical, *source.ignore}
    index = [
        name
        for name in index_of(table.schema)
        if name not in wanted and not (name.lower() in LABELS and not source.label)
    ]
    notes = []
    if index:
        notes.append(
            f"the row index of pandas was left out, for a client cannot send it: {quote(index)} "
            "(to keep a column, name it in --categorical, or write the table after reset_index())"
        )
    names = [name for name in table.column_names if name not in index]
    columns = [c for c, n in zip(table.columns, table.column_names, strict=True) if n in names]
    sheet = Sheet(path, pa.Table.from_arrays(columns, names), tuple(notes))
    sheet = settle_names(sheet, names)
    return replace(sheet, table=sheet.table.replace_schema_metadata(table.schema.metadata))


def index_of(schema: pa.Schema) -> list[str]:
    """The columns that are a row index, as pandas says or as it calls an index without a name.

    Source: pandas developer guide, "Storing pandas DataFrame objects in Apache Parquet format":
    `index_columns` holds names of columns, or descriptions of a range that is no column.
    """
    try:
        names = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, TypeError, ValueError):  # not written by pandas
        names = []
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [name for name in schema.names if name in known or INDEX.fullmatch(name)]


@dataclass(frozen=True)
class _Wanted:
    """The columns of images, of labels and of groups; no groups where the name is empty."""

    image: str
    label: str
    group: str

    @property
    def names(self) -> list[str]:
        """Of all of them."""
        return [name for name in (self.image, self.label, self.group) if name]


def _images(
    files: Files, opened: dict[Path, pq.ParquetFile], wanted: _Wanted, resize: str, what: str
) -> Raw:
    schema = opened[files.train[0]].schema_arrow
    notes, test = files.notes, files.test
    label = wanted.label
    unused = [name for name in schema.names if name not in wanted.names]
    if unused:
        notes = (*notes, f"columns beside the image and the label were left out: {quote(unused)}")
    if files.beside and any(label not in opened[path].schema_arrow.names for path in test):
        notes, test = (*notes, note_unlabelled(test[0], label)), ()
    own = {path: opened[path] for path in files.train}
    fit = fit_of(resize, lambda: count_sizes(_encoded(own, wanted.image)))
    stack, train = _decode(own, wanted, what, fit)
    sizes, names, second = stack.sizes, class_names(schema, label), None
    if test:
        others = {path: opened[path] for path in test}
        stack, second = _decode(others, wanted, f"the test part of {what}", fit)
        sizes = sizes + stack.sizes
    if fit is not None:
        notes = (*notes, fit.note(sizes))
    return Raw(what, train, second, names, notes)


def _encoded(opened: dict[Path, pq.ParquetFile], image: str) -> Iterator[tuple[bytes, str]]:
    """The bytes of every image, and what to call it."""
    for path, file in opened.items():
        row = 0
        for batch in file.iter_batches(BATCH, columns=[image], use_threads=False):
            for encoded in _bytes(batch.column(image)):
                row += 1
                if encoded is not None:  # `_decode` says what is wrong with it
                    yield encoded, f"{path}, row {row}"


def _decode(
    opened: dict[Path, pq.ParquetFile], wanted: _Wanted, what: str, fit: Fit | None
) -> tuple[Stack, RawPart]:
    """All images of a part, read in small batches, so that only the pixels stay."""
    pieces = [(str(path), int(file.metadata.num_rows)) for path, file in opened.items()]
    where = spans(pieces)
    stack, row = Stack(sum(count for _, count in pieces), what, fit), 0
    labels, groups = [], []
    for path, file in opened.items():
        _check_columns(path, file.schema_arrow.names, wanted.names)
        try:
            for batch in file.iter_batches(BATCH, columns=wanted.names, use_threads=False):
                for encoded in _bytes(batch.column(wanted.image)):
                    if encoded is None:
                        raise DataError(
                            f"{where(row)}: column {wanted.image!r} holds no bytes of an image"
                        )
                    stack.add(encoded, where(row))
                    row += 1
                batch.column(wanted.label).validate(full=True)
                labels.append(batch.column(wanted.label))
                if wanted.group:
                    groups += batch.column(wanted.group).to_pylist()
        except DAMAGED as error:
            raise DataError(f"{path}: damaged after row {row} ({_line(error)})") from error
    if row < stack.count:
        raise DataError(f"{what}: {stack.count} rows are promised, but only {row} are there")
    values = labels_of(pa.chunked_array(labels), where) if labels else np.zeros(0, np.int64)
    group = np.array(groups, dtype=object) if wanted.group else None
    return stack, RawPart(values, where, pixels=stack.pixels, groups=group)


def _bytes(column: pa.Array) -> list[bytes | None]:
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    encoded: list[bytes | None] = column.to_pylist()
    return encoded


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds encoded files: bytes, or a struct of bytes and path."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and holds_bytes(kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _check_columns(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; found {quote(names)}")


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except DAMAGED as error:
        raise DataError(f"{path}: no Parquet file, or a damaged one ({_line(error)})") from error


def _table(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
        table.validate(full=True)  # that texts are UTF-8, above all
        return table
    except DAMAGED as error:
        raise DataError(f"{path}: damaged ({_line(error)})") from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
