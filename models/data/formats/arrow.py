"""Arrow tables, from CSV and Parquet, to columns and labels."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.base.errors import DataError
from models.data import tables
from models.data.found import Files
from models.data.raw import Raw, RawColumn, RawPart, Values, Where, quote, spans
from models.data.records import Source

LABELS = ("label", "target", "class", "y")

# Peak of reading 200,000 rows of 22 columns from Parquet was 54: in Arrow, as columns, as rows.
BYTES_PER_CELL = 56

ReadTable = Callable[[Path, dict[str, pa.DataType]], pa.Table]


def read_tables(files: Files, source: Source, what: str, read: ReadTable) -> Raw:
    """Rows of a table from the files of each part.

    Args:
        files: of the training part and of the test part.
        source: what to take as label and categories, and what to leave out.
        what: the data, for messages.
        read: reads one file, with the types of columns that are known already.

    Raises:
        DataError: no label, or columns that differ between files or cannot be used.
    """
    table, where = _join_tables(files.train, read, {})
    label = label_of(table.column_names, source, str(files.train[0]))
    tables.check_names(table.column_names, source, str(files.train[0]))
    train = _part(table, label, source, where)
    names = class_names(table.schema, label)
    if not files.test:
        return Raw(what, train, None, names, files.notes)
    # Text stays text in the test part, even where each of its values looks like a number.
    texts = {field.name: field.type for field in table.schema if pa.types.is_string(field.type)}
    table, where = _join_tables(files.test, read, texts)
    if label not in table.column_names:
        if not files.beside:
            raise DataError(
                f"{files.test[0]}: no label column {label!r}; found {quote(table.column_names)}"
            )
        return Raw(what, train, None, names, (*files.notes, note_unlabelled(files.test[0], label)))
    return Raw(what, train, _part(table, label, source, where), names, files.notes)


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


def _join_tables(
    paths: Sequence[Path], read: ReadTable, types: dict[str, pa.DataType]
) -> tuple[pa.Table, Where]:
    found = [read(path, types) for path in paths]
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


def _part(table: pa.Table, label: str, source: Source, where: Where) -> RawPart:
    columns = tuple(
        _column(name, table.column(name), name in source.categorical, where)
        for name in table.column_names
        if name != label and name not in source.ignore
    )
    return RawPart(labels_of(table.column(label), where), where, columns=columns)


def _column(name: str, column: pa.ChunkedArray, forced: bool, where: Where) -> RawColumn:
    column = _plain(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
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
