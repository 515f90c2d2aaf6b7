"""Tables: columns to a schema that knows the training part only, and to one float32 array."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.raw import RawColumn, RawPart, Where, quote
from models.data.records import Source
from models.data.split import Index
from models.versions.schema import Column, InputSchema

MOST_CATEGORIES = 100
NEARLY_ALL = 0.9  # share of distinct values from which a column looks like an identifier
FEW_CATEGORIES = 20  # so many may be as many as there are rows
UNSEEN = -1.0
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def numbers(name: str, values: npt.NDArray[np.float64], where: Where) -> RawColumn:
    """A numeric column of float64 `(N,)`, NaN where missing. Raises DataError beyond float32."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if np.isinf(narrow).any():
        row = int(np.argmax(np.isinf(narrow)))
        raise DataError(
            f"{where(row)}: column {name!r} holds {values[row]:g}; expected a finite "
            f"number of at most {np.finfo(np.float32).max:.3g} in size"
        )
    return RawColumn(name, narrow + np.float32(0))  # + 0: -0.0 and 0.0 are one value


def from_numbers(
    name: str, values: npt.NDArray[np.float64], forced: bool, where: Where
) -> RawColumn:
    """Numbers `(N,)` as a numeric column, or as categories where that is `forced`."""
    return categories_of(name, values) if forced else numbers(name, values, where)


def check_names(names: Sequence[str], source: Source, what: str) -> None:
    """Refuse columns to ignore or to take as categories that are not there. Raises DataError."""
    for option, wanted in (("--ignore", source.ignore), ("--categorical", source.categorical)):
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise DataError(
                f"{what}: no column {unknown[0]!r}, which {option} names; found {quote(names)}"
            )


def categories_of(name: str, values: npt.NDArray[np.float64]) -> RawColumn:
    """Numbers `(N,)` as categories, in rising order."""
    there = ~np.isnan(values)
    unique, places = np.unique(values[there], return_inverse=True)
    codes = np.full(len(values), np.nan, dtype=np.float32)
    codes[there] = places
    texts = tuple(str(int(v)) if v == np.floor(v) else repr(float(v)) for v in unique)
    return RawColumn(name, codes, texts)


def align_columns(
    columns: Sequence[RawColumn], like: Sequence[RawColumn], what: str
) -> tuple[RawColumn, ...]:
    """The columns of a test part in the order of the training part's; others are left out.

    Raises:
        DataError: a column is not there, or holds texts where training holds numbers.
    """
    known = {column.name: column for column in columns}
    found = []
    for wanted in like:
        column = known.get(wanted.name)
        if column is None:
            raise DataError(
                f"{what}: there is no column {wanted.name!r}, which the training part "
                f"has; found {quote(list(known))}"
            )
        if wanted.texts is None and column.texts is not None:
            raise DataError(
                f"{what}: column {wanted.name!r} holds numbers in the training part, "
                f"but texts here ({quote(column.texts, 3)})"
            )
        if wanted.texts is not None and column.texts is None:
            column = categories_of(column.name, column.values.astype(np.float64))
        found.append(column)
    return tuple(found)


def check_categories(column: RawColumn, what: str) -> None:
    """Refuse a column with more categories than can be learnt from. Raises DataError."""
    name, texts, rows = column.name, column.texts or (), int((~np.isnan(column.values)).sum())
    count = len(texts)
    if texts and all(DECIMAL_COMMA.fullmatch(text) for text in texts):
        raise DataError(
            f"{what}: column {name!r} holds numbers with a decimal comma ({quote(texts, 3)}); "
            "write them with a point"
        )
    unusual = count > FEW_CATEGORIES and count > NEARLY_ALL * rows
    if count <= MOST_CATEGORIES and not unusual:
        return
    words = [text for text in texts if not is_number(text)]
    if 0 < len(words) < count / 10:
        raise DataError(
            f"{what}: column {name!r} holds numbers and {quote(words, 3)}; leave such values "
            "empty where they stand for a missing number, or name the column in --ignore"
        )
    raise DataError(
        f"{what}: column {name!r} has {count} different values in {rows} rows "
        f"({quote(texts, 3)}), at most {MOST_CATEGORIES} can be categories: it looks like an "
        "identifier; name it in --ignore, or group its rare values"
    )


def schema_of(part: RawPart, train: Index, what: str) -> InputSchema:
    """Range, categories and whether values may be missing, from the rows at `train` alone.

    Raises:
        DataError: too many categories, a column without any value in training, or one with a
            missing value where training has none: nothing could be learnt of a missing one.
    """
    columns = part.columns
    for column in columns:
        if column.texts is not None:
            check_categories(column, what)
    known = tuple(_column(column, train, part) for column in columns)
    numeric = [c for c in known if c.kind == "numeric"]
    low = min((c.low for c in numeric), default=0.0)
    high = max((c.high for c in numeric), default=1.0)
    schema = InputSchema(
        "input", (len(known),), "float32", low, high, kind="tabular", columns=known
    )
    check_missing(columns, schema, part)
    return schema


def check_missing(columns: Sequence[RawColumn], schema: InputSchema, part: RawPart) -> None:
    """Refuse a missing value in a column that has none in training. Raises DataError."""
    for raw, column in zip(columns, schema.columns, strict=True):
        missing = np.isnan(raw.values)
        if not column.missing and missing.any():
            raise DataError(
                f"{part.where(int(np.argmax(missing)))}: column {raw.name!r} has no value here "
                f"({int(missing.sum())} such rows), but in every row of training, so nothing "
                "can be learnt of a missing one: fill it, leave the row out, or name the column in "
                "--ignore"
            )


def matrix(columns: Sequence[RawColumn], schema: InputSchema) -> npt.NDArray[np.float32]:
    """The rows `(N, D)`: numbers, places among the training part's categories, NaN for missing."""
    x = np.empty((len(columns[0].values), len(columns)), dtype=np.float32)
    for index, (raw, column) in enumerate(zip(columns, schema.columns, strict=True)):
        x[:, index] = raw.values
        if raw.texts is not None:
            there = ~np.isnan(raw.values)
            known = {text: place for place, text in enumerate(column.categories)}
            lookup = np.array([known.get(text, UNSEEN) for text in raw.texts], dtype=np.float32)
            x[there, index] = lookup[raw.values[there].astype(np.intp)]
    return x


def row_keys(columns: Sequence[RawColumn]) -> npt.NDArray[np.uint8]:
    """Bytes `(N, K)` that are equal where the rows are, however the categories are numbered."""
    keys = [
        (c.values if c.texts is None else _digests(c)).view(np.uint8).reshape(len(c.values), -1)
        for c in columns
    ]
    return np.concatenate(keys, axis=1)


def _digests(column: RawColumn) -> npt.NDArray[np.uint64]:
    """A number for the text of every row; 0 for a missing one."""
    texts = (hashlib.sha256(text.encode()).digest()[:8] for text in column.texts or ())
    words = np.array([0, *(int.from_bytes(text, "little") for text in texts)], dtype=np.uint64)
    places: npt.NDArray[np.intp] = np.nan_to_num(column.values + 1).astype(np.intp)
    return words[places]


def _column(raw: RawColumn, train: Index, part: RawPart) -> Column:
    values = raw.values[train]
    missing = bool(np.isnan(values).any())
    there = values[~np.isnan(values)]
    if len(there) == 0:
        raise DataError(
            f"{part.where(int(train[0]))}: column {raw.name!r} has no value in any row of the "
            "training part; name it in --ignore"
        )
    if raw.texts is None:
        return Column(raw.name, "numeric", float(there.min()), float(there.max()), missing=missing)
    used = np.unique(there.astype(np.intp))
    categories = tuple(raw.texts[place] for place in used)
    return Column(raw.name, "categorical", categories=categories, missing=missing)


def is_number(text: str) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
