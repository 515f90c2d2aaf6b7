"""Arrow tables, from CSV and Parquet, to columns and labels."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from models.base.errors import DataError
from models.data import tables
from models.data.faults import Faults
from models.data.formats.arrow_columns import (
    Cells,
    Reading,
    empty_column,
    is_text,
    plain_column,
    read_column,
)
from models.data.formats.sheet import Sheet, join_where
from models.data.found import Files
from models.data.raw import Raw, RawPart, Values, Where, quote
from models.data.records import Source

LABELS = ("label", "target", "class", "y")

# Peak of reading 200,000 rows of 22 columns: in Arrow, as columns, as rows. CSV of dates (21 bytes
# a cell in the file) 70 to 76, of full-length numbers 62, of short ones 36; Parquet of float64 46.
BYTES_PER_CELL = 76

ReadSheet = Callable[[Path], Sheet]


def read_tables(files: Files, source: Source, what: str, read: ReadSheet) -> Raw:
    """Rows of a table from the files of each part.

    Args:
        files: of the training part and of the test part.
        source: what to take as label and categories, and what to leave out.
        what: the data, for messages.
        read: reads one file.

    Raises:
        DataError: no label, or columns that differ between files. Columns that cannot be used are
            left out, and the faults of `Raw` say so.
    """
    faults = Faults(what)
    table, where, notes = _join_sheets(files.train, read, faults)
    label = ""
    with faults.gather():
        label = label_of(table.column_names, source, str(files.train[0]))
    with faults.gather():
        tables.check_names(table.column_names, source, str(files.train[0]))
    if not label:
        faults.check()
    train, read_as = _part(table, label, source, where, faults)
    names, notes = class_names(table.schema, label), (*files.notes, *notes, *read_as)
    raw = Raw(what, train, None, names, notes)
    if files.test:
        raw = _with_test(raw, files, source, label, read, faults)
    return replace(raw, faults=faults.sentences)


def _with_test(
    raw: Raw, files: Files, source: Source, label: str, read: ReadSheet, faults: Faults
) -> Raw:
    table, where, notes = _join_sheets(files.test, read, faults)
    if label in table.column_names:
        test, _ = _part(table, label, source, where, faults, raw.train)
        return replace(raw, test=test, notes=(*raw.notes, *notes))
    if not files.beside:
        faults.add(f"{files.test[0]}: no label column {label!r}; found {quote(table.column_names)}")
        faults.check()
    return replace(raw, notes=(*raw.notes, note_unlabelled(files.test[0], label)))


def note_unlabelled(path: Path, label: str) -> str:
    """The note on a test file that cannot test."""
    return f"{path.name} lies beside the data but has no column {label!r}: not used as test part"


def label_of(names: Sequence[str], source: Source, what: str) -> str:
    """The column that holds the label: the one that was named, or the one with a usual name.

    Raises:
        DataError: no such column, or several; lists the columns.
    """
    if source.label:
        if source.label not in names:
            raise DataError(f"{what}: no label column {source.label!r}; found {quote(names)}")
        return source.label
    usual = [name for name in names if name.lower() in LABELS and name not in source.ignore]
    if len(usual) == 1:
        return usual[0]
    wrong = f"columns {quote(usual)} could each be the label" if usual else "no label column found"
    raise DataError(
        f"{what}: {wrong}; say which with --label (found {quote(names)}; "
        f"{', '.join(LABELS)} are found by themselves)"
    )


def labels_of(column: pa.ChunkedArray, where: Where) -> Values:
    """Labels as integers, numbers, booleans or texts `(N,)`. Raises DataError for other types."""
    column = plain_column(column)
    kind = column.type
    if is_text(kind):
        found = np.empty(len(column), dtype=object)
        found[:] = column.to_pylist()
        return found
    if pa.types.is_boolean(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)
    if pa.types.is_integer(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    raise DataError(f"{where(0)}: labels of type {kind}; expected integers or texts")


def class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Names of integer labels, where the file holds them as Hugging Face `datasets` writes them."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):  # not written by it, or labels without names
        return ()
    return tuple(str(name) for name in names)


def _join_sheets(
    paths: Sequence[Path], read: ReadSheet, faults: Faults
) -> tuple[pa.Table, Where, tuple[str, ...]]:
    sheets = []
    for path in paths:
        with faults.gather():
            sheets.append(read(path))
            faults.add(*sheets[-1].faults)
    for sheet in sheets:
        different = set(sheet.table.column_names) ^ set(sheets[0].table.column_names)
        if different:
            faults.add(
                f"{sheet.path}: other columns than {sheets[0].path}; {quote(sorted(different))} "
                "stand in one of them only"
            )
    if len(sheets) < len(paths):
        faults.check()
    notes = tuple(dict.fromkeys(note for sheet in sheets for note in sheet.notes))
    try:
        table = pa.concat_tables([sheet.table for sheet in sheets], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        faults.add(f"{paths[0].parent}: the files hold different types in a column: {error}")
        faults.check()
        raise
    return table, join_where(sheets), notes


def _part(
    table: pa.Table,
    label: str,
    source: Source,
    where: Where,
    faults: Faults,
    train: RawPart | None = None,
) -> tuple[RawPart, tuple[str, ...]]:
    """The columns and labels of a part, and notes on how the columns are read.

    Those of a test part are read as the columns of the same name in `train` were.
    """
    like = {column.name: column for column in train.columns} if train else {}
    # A group is a name, however it is written, and there may be many.
    source = msgspec.structs.replace(source, categorical=(*source.categorical, source.group))
    readings = []
    for name in table.column_names:
        if name == label or name in source.ignore or (train and name not in like):
            continue
        cells = Cells(name, table.column(name), source, where, like.get(name))
        with faults.gather():
            reading = read_column(cells)
            if train is None and name != source.group:
                tables.check_categories(reading.column, cells.file)
            readings.append(reading)
        if train and (not readings or readings[-1].column.name != name):
            readings.append(Reading(empty_column(cells)))  # there, but at fault
    labels: Values | None = None
    with faults.gather():
        labels = labels_of(table.column(label), where)
    if labels is None:
        faults.check()
    assert labels is not None
    columns = tuple(reading.column for reading in readings)
    return RawPart(labels, where, columns=columns), notes_of(readings)


def notes_of(readings: Sequence[Reading]) -> tuple[str, ...]:
    """What to tell of how columns are read: of each one that is unusual, and of missing values."""
    notes = [reading.note for reading in readings if reading.note]
    words = sorted({word for reading in readings for word in reading.words})
    names = [reading.column.name for reading in readings if reading.words]
    if words:
        notes.append(f"read as missing values: {quote(words)}, in {quote(names)}")
    return tuple(notes)
