"""Rows of a table in JSON: lists in the order of the columns, or objects by column name.

A numeric column takes numbers, a categorical one texts (or numbers, where the text of a category
is a number); null is a missing value. Both forms give the same `(N, D)` array, in which a category
is its place in the schema, one that is not among them -1, and a missing value NaN. Whether a value
may be missing is the schema's to say.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import orjson

from models.base.bounded import Bounded
from models.base.errors import InputError
from models.versions.schema import Column, InputArray, InputSchema
from service.decoding.json_amount import row_form
from service.web.errors import SHOWN_CHARACTERS, show_value

Float64s = npt.NDArray[np.float64]
NUMBERS = frozenset((int, float, NoneType))
CATEGORIES = NUMBERS | {str}
UNSEEN = -1.0
FLOAT32_MAX = float(np.finfo(np.float32).max)
COMPARED_NAMES = 500
TABLES_KEPT = 64


class RowReader:
    """What reading the rows of a schema needs, put together once."""

    def __init__(self, schema: InputSchema) -> None:
        self.schema = schema
        self.columns = schema.columns
        self.names = tuple(column.name for column in schema.columns)
        self.missing = any(column.missing for column in schema.columns)
        self.codes = tuple(
            (index, codes_of(column))
            for index, column in enumerate(schema.columns)
            if column.kind == "categorical"
        )
        self.pick = _picker(self.names)
        largest = [
            len(column.categories) - 1 if column.kind == "categorical" else FLOAT32_MAX
            for column in schema.columns
        ]
        self._high = np.array(largest, dtype=np.float32)
        self._places = np.array([column.kind == "categorical" for column in schema.columns])
        self._low = np.where(self._places, np.float32(UNSEEN), -self._high)
        self._may_lack = np.array([column.missing for column in schema.columns])

    def fits(self, x: InputArray) -> bool:
        """Whether `InputSchema.check` takes float32 `(N, D)`; it goes column by column.

        It is asked only for what to say where something does not fit.
        """
        if not (self.codes or self.missing):
            return bool(np.isfinite(x).all())
        right = (x >= self._low) & (x <= self._high)
        right &= ~self._places | (x == np.floor(x))
        return bool((right | (self._may_lack & np.isnan(x))).all())


_tables: Bounded[int, RowReader] = Bounded(TABLES_KEPT)


def table_of(schema: InputSchema) -> RowReader:
    """The table of a schema; the latest are kept, so that a request does not pay for it."""
    found = _tables.get(id(schema))
    if found is None or found.schema is not schema:
        # It holds the schema, so no other one can have the same id while it is here.
        found = _tables[id(schema)] = RowReader(schema)
    return found


def codes_of(column: Column) -> dict[Any, float]:
    """From what may stand in the JSON to a category's place; null is NaN.

    A number stands for a category whose text it is, written as a whole number or with a point.

    >>> found = codes_of(Column("size", "categorical", categories=("3", "10.0", "M", "007")))
    >>> [found.get(v, -1.0) for v in ("3", 3, 3.0, 10, "10", "M", "007", 7)]
    [0.0, 0.0, 0.0, 1.0, -1.0, 2.0, 3.0, -1.0]
    """
    codes: dict[Any, float] = {None: math.nan}
    for place, text in enumerate(column.categories):
        codes[text] = float(place)
        number = _number(text)
        if number is not None:
            codes.setdefault(number, float(place))
    return codes


def read_rows(raw: bytes, schema: InputSchema, most: int, field: str) -> Float64s:
    """Read JSON text of a list of rows as float64 `(N, D)`.

    Args:
        raw: the JSON text.
        schema: a tabular one, of D columns.
        most: the most rows that the list may have.
        field: its name, for the message.

    Raises:
        InputError: no list of rows, a row that lacks a column or has one too many, a value that is
            no number where one is expected; names the row, and the column where one is at fault.
    """
    table = table_of(schema)
    try:
        rows = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError(field, "a list of rows", error.msg) from None
    if not isinstance(rows, list):
        raise InputError(field, f"a list of rows, each {_form(table)}", show_value(rows))
    check_rows(len(rows), most, field)
    values = [_values(row, table, f"{field}[{index}]") for index, row in enumerate(rows)]
    flat = list(chain.from_iterable(values))
    if not NUMBERS.issuperset(map(type, flat)):
        _name_the_value(flat, table, field)
    return np.array(flat, dtype=np.float64).reshape(len(rows), len(table.names))


def check_rows(rows: int, most: int, field: str) -> None:
    """Refuse an empty batch and one above the limit."""
    if not 1 <= rows <= most:
        raise InputError(field, f"1 to {most} rows", f"{rows} rows" if rows else "an empty batch")


def _values(row: Any, table: RowReader, field: str) -> list[Any]:
    """The values of one row in the order of the columns, categories as their places."""
    if isinstance(row, dict):
        try:
            values = list(table.pick(row))
        except KeyError:
            _name_the_columns(row, table, field)
        if len(row) != len(values):
            _name_the_columns(row, table, field)
    elif isinstance(row, list) and len(row) == len(table.names):
        values = row
    else:
        raise InputError(field, _form(table), show_value(row))
    for index, codes in table.codes:
        value = values[index]
        code = codes.get(value) if type(value) in CATEGORIES and value is not None else None
        if code is None:
            code = _unusual(value, codes, table.columns[index], field)
        values[index] = code
    return values


def _unusual(value: Any, codes: Mapping[Any, float], column: Column, field: str) -> float:
    """The place of what is not literally a category.

    As the readers of training data have it, spaces around a text do not count, an empty one is a
    missing value, and truth values are the categories `true` and `false`.
    """
    known = value
    if isinstance(value, bool) and ("true" in codes or "false" in codes):
        known = str(value).lower()
    elif isinstance(value, str):
        known = value.strip() or None
    if type(known) not in CATEGORIES or (known is None and not column.missing):
        raise InputError(f"{field}.{column.name}", _describe_column(column), show_value(value))
    return codes.get(known, UNSEEN)


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """From an object to its values in the order of `names`; KeyError where one is not there."""
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def _number(text: str) -> float | None:
    """The number that `text` is the usual spelling of."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    usual = repr(number) == text or (number.is_integer() and str(int(number)) == text)
    return number if usual else None


def _name_the_value(flat: list[Any], table: RowReader, field: str) -> NoReturn:
    """Raise for the first value that is no number."""
    place = next(place for place, value in enumerate(flat) if type(value) not in NUMBERS)
    row, index = divmod(place, len(table.names))
    column = table.columns[index]
    raise InputError(
        f"{field}[{row}].{column.name}", _describe_column(column), show_value(flat[place])
    )


def _name_the_columns(row: Mapping[str, Any], table: RowReader, field: str) -> NoReturn:
    """Raise for the first column that is missing, else for the first that is unknown."""
    known = set(table.names)
    unknown = [name[:SHOWN_CHARACTERS] for name in row if name not in known][:COMPARED_NAMES]
    missing = next((name for name in table.names if name not in row), None)
    if missing is not None:
        near = difflib.get_close_matches(missing, unknown, 1)
        got = f"nothing; is {show_value(near[0])} meant?" if near else "nothing"
        raise InputError(field, f"column {missing!r}", got)
    near = difflib.get_close_matches(unknown[0], table.names[:COMPARED_NAMES], 1)
    hint = f" (the closest known one is {near[0]!r})" if near else ""
    raise InputError(field, "only columns of the model", f"column {show_value(unknown[0])}{hint}")


def _form(table: RowReader) -> str:
    return row_form(len(table.names))


def _describe_column(column: Column) -> str:
    kind = "a number" if column.kind == "numeric" else "a category: a text or a number"
    return f"{kind}, or null where it is missing" if column.missing else kind
