"""Arrow tables, from CSV and Parquet, to columns and labels."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.base.errors import DataError
from models.data import tables
from models.data.faults import Faults
from models.data.formats.sheet import Sheet, join_where
from models.data.found import Files
from models.data.raw import Raw, RawColumn, RawPart, Values, Where, quote
from models.data.records import Source

LABELS = ("label", "target", "class", "y")

# Peak of reading 200,000 rows of 22 columns from Parquet was 54: in Arrow, as columns, as rows.
BYTES_PER_CELL = 56

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
    train = _part(table, label, source, where, faults)
    raw = Raw(what, train, None, class_names(table.schema, label), (*files.notes, *notes))
    if files.test:
        raw = _with_test(raw, files, source, label, read, faults)
    return replace(raw, faults=faults.sentences)


def _with_test(
    raw: Raw, files: Files, source: Source, label: str, read: ReadSheet, faults: Faults
) -> Raw:
    table, where, notes = _join_sheets(files.test, read, faults)
    if label in table.column_names:
        test = _part(table, label, source, where, faults)
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
    column = _plain(column)
    kind = column.type
    if _is_text(kind):
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


def _part(table: pa.Table, label: str, source: Source, where: Where, faults: Faults) -> RawPart:
    columns = []
    for name in table.column_names:
        if name != label and name not in source.ignore:
            with faults.gather():
                forced = name in source.categorical
                columns.append(_column(name, table.column(name), forced, where))
    labels: Values | None = None
    with faults.gather():
        labels = labels_of(table.column(label), where)
    if labels is None:
        faults.check()
    assert labels is not None
    return RawPart(labels, where, columns=tuple(columns))


def _column(name: str, column: pa.ChunkedArray, forced: bool, where: Where) -> RawColumn:
    column = _plain(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
        if not forced:
            with contextlib.suppress(pa.ArrowInvalid):
                filled = pc.if_else(pc.equal(column, ""), None, column)
                return tables.from_numbers(
                    name, filled.cast(pa.float64()).to_numpy(), forced, where
                )
        return _categories(name, column)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not numeric and not pa.types.is_null(kind):
        raise DataError(
            f"{where(0)}: column {name!r} holds {kind}; a table takes numbers, texts and "
            "true/false: convert it, or name it in --ignore"
        )
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return tables.from_numbers(name, values, forced, where)


def _categories(name: str, column: pa.ChunkedArray) -> RawColumn:
    """Texts as places in their sorted list; empty ones are missing."""
    whole = column.combine_chunks()
    whole = pc.if_else(pc.equal(pc.utf8_trim_whitespace(whole), ""), None, whole)
    coded = pc.dictionary_encode(whole)
    texts: list[str] = coded.dictionary.to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    places = np.empty(len(texts) + 1, dtype=np.float32)
    places[order], places[-1] = np.arange(len(texts)), np.nan
    codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return RawColumn(name, places[codes], tuple(texts[place] for place in order))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without the coding of a dictionary, and texts of one type."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if _is_text(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
