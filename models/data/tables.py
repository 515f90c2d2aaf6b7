"""Tables: columns to a schema that knows the training part only, and to one float32 array."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.cells import key_of, key_of_number, missing_numbers, places_of
from models.data.cells.columns import LARGEST, check_merging
from models.data.cells.judging import CODE
from models.data.cells.judging import is_number as is_number  # for readers
from models.data.cells.numbers import DAY_SECONDS
from models.data.faults import Faults
from models.data.raw import RawColumn, RawPart, Where, quote
from models.data.records import Source
from models.data.split import Index
from models.versions.schema import PLAIN, Column, InputSchema, Notation

MOST_CATEGORIES = 100
NEARLY_ALL = 0.9  # share of distinct values from which a column looks like an identifier
FEW_CATEGORIES = 20  # so many may be as many as there are rows
UNSEEN = -1.0
NUMBERS = Notation("number")
Mask = npt.NDArray[np.bool_]


def numbers(
    name: str,
    values: npt.NDArray[Any],
    where: Where,
    notation: Notation = PLAIN,
    *,
    missing: Mask | None = None,
) -> RawColumn:
    """A numeric column of numbers of any type `(N,)`, NaN or `missing` where there is none.

    Raises:
        DataError: a number beyond float32, or numbers that float32 would merge.
    """
    gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)
    gaps = gaps if missing is None else gaps | missing
    wide = values.astype(np.float64)
    large = np.flatnonzero(~gaps & (np.abs(wide) > LARGEST))
    if len(large):
        row = int(large[0])
        raise DataError(
            f"{where(row)}: column {name!r} holds {wide[row]:g}; expected a finite "
            f"number of at most {LARGEST:.3g} in size"
        )
    try:
        check_merging(name, values[~gaps], _speller(notation))
    except DataError as error:
        file = where(0).rpartition(", row ")[0]
        raise DataError(f"{file}: {error}") from None
    narrow: npt.NDArray[np.float32] = wide.astype(np.float32) + np.float32(0)  # -0.0 is 0.0
    narrow[gaps] = np.nan
    return RawColumn(name, narrow, None, notation)


def from_numbers(
    name: str,
    values: npt.NDArray[Any],
    forced: bool,
    where: Where,
    missing: Mask | None = None,
    words: tuple[str, ...] = (),
) -> RawColumn:
    """Numbers of any type `(N,)` as a numeric column, or as categories where that is `forced`.

    Args:
        name: of the column.
        values: integers keep all their digits as categories; booleans are always categories.
        forced: the user wants categories.
        where: names a row.
        missing: rows without a value, beside those of NaN.
        words: that mean a missing value; those that are numbers count here.

    Raises:
        DataError: as `numbers`.
    """
    for number in missing_numbers(Notation(missing=words)):
        matches = values == (np.float32(number) if values.dtype == np.float32 else number)
        missing = matches if missing is None else missing | matches
    if values.dtype.kind == "b":
        return categories_of(name, values, Notation("truth", missing=words), missing)
    if forced:
        return categories_of(name, values, Notation("number", missing=words), missing)
    return numbers(name, values, where, Notation(missing=words), missing=missing)


def check_names(names: Sequence[str], source: Source, what: str) -> None:
    """Refuse columns that an option names and that are not there. Raises DataError."""
    faults = Faults(what)
    group = (source.group,) if source.group else ()
    others = tuple(name for name in source.categorical if name not in group)  # it is read as these
    for option, wanted in (
        ("--group", group), ("--ignore", source.ignore), ("--categorical", others),
    ):  # fmt: skip
        for name in wanted:
            if name not in names:
                faults.add(
                    f"{what}: no column {name!r}, which {option} names; found {quote(names)}"
                )
    faults.check()


def categories_of(
    name: str,
    values: npt.NDArray[Any],
    notation: Notation = NUMBERS,
    missing: Mask | None = None,
) -> RawColumn:
    """Numbers or truth values of any type `(N,)` as categories, in rising order."""
    there = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=np.bool_)
    there = there if missing is None else there & ~missing
    unique, places = np.unique(values[there], return_inverse=True)
    codes = np.full(len(values), np.nan, dtype=np.float32)
    codes[there] = places
    return RawColumn(name, codes, tuple(_spell_number(value) for value in unique), notation)


def _spell_number(value: Any) -> str:
    """The shortest text of a number of NumPy that is the same in its type."""
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    if value == np.floor(value):
        return str(int(value))
    return key_of_number(float(str(value))) or ""


def align_columns(
    columns: Sequence[RawColumn], like: Sequence[RawColumn], what: str
) -> tuple[RawColumn, ...]:
    """The columns of a test part in the order of the training part's; others are left out.

    Raises:
        DataError: columns that are not there, or hold texts where training holds numbers.
    """
    known, faults, aligned = {column.name: column for column in columns}, Faults(what), []
    for wanted in like:
        column = known.get(wanted.name)
        if column is None:
            faults.add(
                f"{what}: there is no column {wanted.name!r}, which the training part "
                f"has; found {quote(list(known))}"
            )
        elif wanted.texts is None and column.texts is not None:
            faults.add(
                f"{what}: column {wanted.name!r} holds numbers in the training part, "
                f"but texts here ({quote(column.texts, 3)})"
            )
        elif wanted.texts is not None and column.texts is None:
            aligned.append(categories_of(column.name, column.values))
        else:
            aligned.append(column)
    faults.check()
    return tuple(aligned)


def check_categories(column: RawColumn, what: str) -> None:
    """Refuse a column with more categories than can be learnt from. Raises DataError."""
    name, texts, rows = column.name, column.texts or (), int((~np.isnan(column.values)).sum())
    count = len(texts)
    unusual = count > FEW_CATEGORIES and count > NEARLY_ALL * rows
    if count <= MOST_CATEGORIES and not unusual:
        return
    code = next((text for text in texts if CODE.fullmatch(text)), "")
    codes = f"; it is read as codes, for {code!r} begins with 0" if code else ""
    raise DataError(
        f"{what}: column {name!r} has {count} different values in {rows} rows "
        f"({quote(texts, 3)}), at most {MOST_CATEGORIES} can be categories: it looks like an "
        f"identifier{codes}; name it in --ignore, or group its rare values"
    )


def schema_of(part: RawPart, train: Index, what: str, test: RawPart | None = None) -> InputSchema:
    """Range and categories from the rows at `train` alone; missing is what any row may be.

    Args:
        part: rows of the training part, and of those that were split off it.
        train: places of the rows that are trained on.
        what: the data, for messages.
        test: rows of a test part that came with the data, its columns in the same order.

    Raises:
        DataError: columns with too many categories or without any value; names all of them.
    """
    faults, known = Faults(what), []
    for place, raw in enumerate(part.columns):
        with faults.gather():
            check_categories(raw, what)
        with faults.gather():
            beside = None if test is None else test.columns[place]
            known.append(_column(raw, train, what, beside))
    faults.check()
    numeric = [c for c in known if c.kind == "numeric"]
    low = min((c.low for c in numeric), default=0.0)
    high = max((c.high for c in numeric), default=1.0)
    return InputSchema(
        "input", (len(known),), "float32", low, high, kind="tabular", columns=tuple(known)
    )


def missing_notes(part: RawPart, train: Index, test: RawPart | None = None) -> list[str]:
    """A sentence on columns of which a value is missing somewhere, but in no row of training."""
    names = []
    for place, raw in enumerate(part.columns):
        gaps = np.isnan(raw.values)
        beside = test is not None and np.isnan(test.columns[place].values).any()
        if (gaps.any() or beside) and not gaps[train].any():
            names.append(raw.name)
    if not names:
        return []
    return [
        f"no row of training lacks a value in {quote(names)}, but others do: a missing number is "
        "answered as the median, a missing category as one never seen"
    ]


def matrix(columns: Sequence[RawColumn], schema: InputSchema) -> npt.NDArray[np.float32]:
    """The rows `(N, D)`: numbers, places among the training part's categories, NaN for missing."""
    x = np.empty((len(columns[0].values), len(columns)), dtype=np.float32)
    for index, (raw, column) in enumerate(zip(columns, schema.columns, strict=True)):
        x[:, index] = raw.values
        if raw.texts is not None:
            there = ~np.isnan(raw.values)
            places = places_of(column.categories, column.notation)
            keys = [key_of(text, column.notation) or text for text in raw.texts]
            lookup = np.array([places.get(key, UNSEEN) for key in keys], dtype=np.float32)
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
    """A number for the category of every row; 0 for a missing one."""
    keys = [key_of(text, column.notation) or text for text in column.texts or ()]
    hashes = (hashlib.sha256(key.encode()).digest()[:8] for key in keys)
    words = np.array([0, *(int.from_bytes(each, "little") for each in hashes)], dtype=np.uint64)
    places: npt.NDArray[np.intp] = np.nan_to_num(column.values + 1).astype(np.intp)
    return words[places]


def _column(raw: RawColumn, train: Index, what: str, test: RawColumn | None) -> Column:
    parts = [raw.values] if test is None else [raw.values, test.values]
    missing = any(bool(np.isnan(values).any()) for values in parts)
    there = raw.values[train]
    there = there[~np.isnan(there)]
    if len(there) == 0:  # none by luck of the split: what the other rows have
        there = raw.values[~np.isnan(raw.values)]
    if len(there) == 0:
        raise DataError(f"{what}: column {raw.name!r} has no value in any row; name it in --ignore")
    if raw.texts is None:
        low, high = float(there.min()), float(there.max())
        return Column(raw.name, "numeric", low, high, missing=missing, notation=raw.notation)
    used = np.unique(there.astype(np.intp))
    categories = tuple(raw.texts[place] for place in used)
    return Column(
        raw.name, "categorical", categories=categories, missing=missing, notation=raw.notation
    )


def _speller(notation: Notation) -> Callable[[Any], str]:
    """How a number of the column is written in a message."""
    if notation.kind != "date":
        return lambda number: key_of_number(number) or ""
    return lambda days: str(np.datetime64(round(days * DAY_SECONDS), "s"))
