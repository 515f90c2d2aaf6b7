"""Rows of a table in JSON: lists in the order of the columns, or objects by column name.

A client sends what stands in the file: a cell as text is read as the file's cell was
(`models.data.cells`), numbers, true, false and null are read as what they are. All forms give the
same `(N, D)` array, in which a category is its place in the schema, one that is not among them -1,
and a missing value NaN. Whether a value may be missing is the schema's to say.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import orjson

from models.base.bounded import Bounded
from models.base.errors import SHOWN_CHARACTERS, InputError, show_value
from models.data.cells import (
    key_of,
    key_of_number,
    missing_keys,
    missing_numbers,
    places_of,
    read_number,
)
from models.versions.schema import Column, InputArray, InputSchema
from service.decoding.json_amount import row_form

Float64s = npt.NDArray[np.float64]
NUMBERS = frozenset((int, float, NoneType))
CATEGORIES = NUMBERS | {str}
UNSEEN = -1.0
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
FLOAT32_MAX = float(np.finfo(np.float32).max)
COMPARED_NAMES = 500
TABLES_KEPT = 64
MOMENTS = {
    "date": "a date such as 2024-03-31, or a number of days since 1970-01-01",
    "time": "a time such as 08:30:00, or a number of seconds",
}
EXACT_DIGITS = 15  # whole numbers of more may lose some where JSON is read as float64


class Token(str):
    """A number of JSON as its text, with all its digits."""

    __slots__ = ()


class Categories:
    """From what may stand in the JSON to a category's place.

    >>> codes = Categories(Column("size", "categorical", categories=("3", "10.0", "M", "007")))
    >>> [codes.place(v) for v in ("3", 3, 3.0, 10, "10", "M", "007", 7)]
    [0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, -1.0]
    """

    def __init__(self, column: Column) -> None:
        self.column = column
        self._places = places_of(column.categories, column.notation)
        self.usual: dict[Any, float] = {}
        for place, text in enumerate(column.categories):
            self.usual[text] = float(place)
        # Of two texts for one number the one that a number is written as has it.
        ordered = sorted(self._places.items(), key=lambda item: "e" in item[0].lower())
        numbers = [(_numbers_of(key), float(place)) for key, place in ordered]
        for each in (slice(1), slice(1, 2)):  # what a float32 becomes never displaces a number
            for own, category in numbers:
                for number in own[each]:
                    self.usual.setdefault(number, category)

    @property
    def exact(self) -> bool:
        """Whether numbers must keep digits that float64 has not."""
        return any(len(text) > EXACT_DIGITS and _is_digits(text) for text in self._places)

    def place(self, value: Any) -> float | None:
        """The place; -1 of one never seen, NaN where missing, None of what is no category."""
        if type(value) in CATEGORIES and value in self.usual:
            return self.usual[value]
        if isinstance(value, bool):
            known = not self._places.keys().isdisjoint(("true", "false"))
            truth = "true" if value else "false"
            return float(self._places.get(truth, UNSEEN)) if known else None
        if value is None:
            return math.nan
        if not isinstance(value, str | int | float):
            return None
        notation = self.column.notation
        key = key_of(value, notation) if isinstance(value, str) else key_of_number(value) or ""
        if key is None or key in missing_keys(notation):
            return math.nan
        if key in self._places:
            return float(self._places[key])
        # Of a file of float32, or a number whose digits were kept for the sake of another column.
        number = notation.kind == "number" or isinstance(value, Token)
        rounded = number and _numbers_of(key)
        return self.usual.get(rounded[0], UNSEEN) if rounded else UNSEEN


class RowReader:
    """What reading the rows of a schema needs, put together once."""

    def __init__(self, schema: InputSchema) -> None:
        self.schema = schema
        self.columns = schema.columns
        self.names = tuple(column.name for column in schema.columns)
        self.missing = any(column.missing for column in schema.columns)
        self.codes = tuple(
            (index, categories.usual, categories)
            for index, column in enumerate(schema.columns)
            if column.kind == "categorical" and (categories := Categories(column))
        )
        self.exact = any(categories.exact for *_, categories in self.codes)
        self.gaps = tuple(
            (index, np.array(sorted(numbers), dtype=np.float32))
            for index, column in enumerate(schema.columns)
            if column.kind == "numeric" and (numbers := missing_numbers(column.notation))
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

    def without_gaps(self, x: InputArray) -> InputArray:
        """float32 `(N, D)` with NaN for numbers that the user named as a missing value."""
        if not self.gaps:
            return x
        x = x.copy()
        for index, numbers in self.gaps:
            x[np.isin(x[:, index], numbers), index] = math.nan
        return x

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
    rows = _parse(raw, table, field)
    if not isinstance(rows, list):
        raise InputError(field, f"a list of rows, each {_form(table)}", show_value(rows))
    check_rows(len(rows), most, field)
    values = [_values(row, table, f"{field}[{index}]") for index, row in enumerate(rows)]
    flat = list(chain.from_iterable(values))
    if not NUMBERS.issuperset(map(type, flat)):
        _read_texts(flat, table, field)
    return np.array(flat, dtype=np.float64).reshape(len(rows), len(table.names))


def check_rows(rows: int, most: int, field: str) -> None:
    """Refuse an empty batch and one above the limit."""
    if not 1 <= rows <= most:
        raise InputError(field, f"1 to {most} rows", f"{rows} rows" if rows else "an empty batch")


def _parse(raw: bytes, table: RowReader, field: str) -> Any:
    try:
        if table.exact:
            return json.loads(raw, parse_int=Token, parse_float=Token)
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError(field, "a list of rows", error.msg) from None
    except (ValueError, RecursionError) as error:
        raise InputError(field, "a list of rows", str(error)) from None


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
    for index, usual, categories in table.codes:
        value = values[index]
        code = usual.get(value) if type(value) in CATEGORIES else None
        if code is None:
            code = _unusual(value, categories, field)
        values[index] = code
    return values


def _unusual(value: Any, categories: Categories, field: str) -> float:
    """The place of what is not literally a category. Raises InputError for what is none."""
    place, column = categories.place(value), categories.column
    if place is None or (math.isnan(place) and not column.missing):
        raise InputError(f"{field}.{column.name}", describe_column(column), show_value(value))
    return place


def _read_texts(flat: list[Any], table: RowReader, field: str) -> None:
    """Put numbers in the place of texts, by the notation of their column. Raises InputError."""
    width = len(table.names)
    for place, value in enumerate(flat):
        if type(value) in NUMBERS:
            continue
        column = table.columns[place % width]
        number = None
        if isinstance(value, Token):
            number = float(value)
        elif isinstance(value, str):
            number = read_number(value, column.notation)
        if number is None or (math.isnan(number) and not column.missing):
            at = f"{field}[{place // width}].{column.name}"
            raise InputError(at, describe_column(column), show_value(value))
        flat[place] = number


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """From an object to its values in the order of `names`; KeyError where one is not there."""
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def _numbers_of(key: str) -> tuple[float, ...]:
    """The numbers of JSON that a category's key is; of a fraction also its float32.

    >>> _numbers_of("7"), _numbers_of("1e5"), _numbers_of("007")
    ((7,), (100000.0, 100000.0), ())
    """
    if _is_digits(key):
        return (int(key),)
    number = float(key) if _JSON_NUMBER.fullmatch(key) else math.inf
    return (number, float(np.float32(number))) if abs(number) <= FLOAT32_MAX else ()


def _is_digits(key: str) -> bool:
    digits = key.removeprefix("-")
    return digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")


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


def describe_column(column: Column) -> str:
    """What a value of a column may be, for a message."""
    notation = column.notation
    if column.kind == "categorical":
        kind = "a category: a text or a number"
    elif notation.kind in MOMENTS:
        kind = MOMENTS[notation.kind]
    else:
        kind = "a number"
        if notation.decimal == ",":
            kind += " (as text with a decimal comma)"
    return f"{kind}, or null where it is missing" if column.missing else kind
