"""Arrow tables, from CSV and Parquet, to columns and labels."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.base.errors import DataError
from models.data import tables
from models.data.faults import Faults
from models.data.formats.arrow_columns import (
    Cells,
    Reading,
    is_text,
    law_of,
    plain_column,
    read_column,
)
from models.data.found import Files
from models.data.raw import Raw, RawPart, Values, Where, quote, spans
from models.data.records import Source

LABELS = ("label", "target", "class", "y")

# Peak of reading 200,000 rows of 22 columns from Parquet was 54: in Arrow, as columns, as rows.
BYTES_PER_CELL = 56

ReadTable = Callable[[Path], pa.Table]


def read_tables(files: Files, source: Source, what: str, read: ReadTable) -> Raw:
    """Rows of a table from the files of each part.

    Args:
        files: of the training part and of the test part.
        source: what to take as label and categories, and what to leave out.
        what: the data, for messages.
        read: reads one file.

    Raises:
        DataError: no label, or columns that differ between files or cannot be used.
    """
    table, where = _join_tables(files.train, read)
    label = label_of(table.column_names, source, str(files.train[0]))
    tables.check_names(table.column_names, source, str(files.train[0]))
    train, own = _part(table, label, source, where, _name(files.train))
    notes = (*files.notes, *own)
    names = class_names(table.schema, label)
    if not files.test:
        return Raw(what, train, None, names, notes)
    table, where = _join_tables(files.test, read)
    if label not in table.column_names:
        if not files.beside:
            raise DataError(
                f"{files.test[0]}: no label column {label!r}; found {quote(table.column_names)}"
            )
        return Raw(what, train, None, names, (*notes, note_unlabelled(files.test[0], label)))
    test, _ = _part(table, label, source, where, _name(files.test), train)
    return Raw(what, train, test, names, notes)


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
        texts = np.empty(len(column), dtype=object)
        texts[:] = column.to_pylist()
        with contextlib.suppress(TypeError, ValueError):  # C2's labels replace this
            if all(str(int(t)) == t for t in set(texts.tolist())):
                return texts.astype(np.int64)
        return texts
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


def _join_tables(paths: Sequence[Path], read: ReadTable) -> tuple[pa.Table, Where]:
    found = [read(path) for path in paths]
    for path, table in zip(paths, found, strict=True):
        different = set(table.column_names) ^ set(found[0].column_names)
        if different:
            raise DataError(
                f"{path}: other columns than {paths[0]}; {quote(sorted(different))} stand in one "
                "of them only"
            )
    where = spans([(str(path), len(table)) for path, table in zip(paths, found, strict=True)])
    try:
        return pa.concat_tables(found, promote_options="permissive"), where
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{paths[0].parent}: the files hold different types in a column: {error}"
        ) from error


def _name(paths: Sequence[Path]) -> str:
    """What to call the files of a part in a message."""
    return str(paths[0] if len(paths) == 1 else paths[0].parent)


def _part(
    table: pa.Table,
    label: str,
    source: Source,
    where: Where,
    file: str,
    train: RawPart | None = None,
) -> tuple[RawPart, list[str]]:
    """The columns and labels of a part, and notes on how columns are read.

    Those of a test part are read as the columns of the same name in `train` were.
    """
    laws = {column.name: law_of(column) for column in train.columns} if train else {}
    faults, readings = Faults(file), []
    for name in table.column_names:
        if name == label or name in source.ignore or (train and name not in laws):
            continue
        with faults.gather():
            cells = Cells(name, table.column(name), source, where, file, laws.get(name))
            readings.append(read_column(cells))
    faults.check()
    columns = tuple(reading.column for reading in readings)
    return RawPart(labels_of(table.column(label), where), where, columns=columns), notes_of(
        readings
    )


def notes_of(readings: Sequence[Reading]) -> list[str]:
    """What to tell of how columns are read: of each one that is unusual, and of missing values."""
    notes = [reading.note for reading in readings if reading.note]
    words = sorted({word for reading in readings for word in reading.words})
    names = [reading.column.name for reading in readings if reading.words]
    if words:
        notes.append(f"read as missing values: {quote(words)}, in {quote(names)}")
    return notes
