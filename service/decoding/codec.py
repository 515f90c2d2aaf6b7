"""JSON bodies to arrays: strict, quick, and exact about what is wrong.

A body is decoded once into a typed record in which tensors stay raw JSON
(`models.base.json_body`). A tensor is read by simdjson, which gives all numbers at once but
flattens whatever nesting there is; so the nesting is checked beside it: the lists down to the last
level but one must have the lengths of the shape, and the number of `[` in the text must be exactly
that of the shape, which leaves no room for a list (or a missing one) at the last level. What is
unusual is read again slowly, by code that says which row is wrong and how. Rows of tables that hold
texts, names or missing values are read by `service.decoding.rows`. A body with more parts than any
right request is refused before objects are made of it (`service.decoding.json_amount`).
"""

import re
import threading
from math import prod
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import simdjson

from models.base.errors import InputError
from models.versions.schema import InputArray, InputSchema
from service.decoding.json_amount import (
    Json,
    check_numbers,
    check_table,
    lists_of,
    occurs_once,
    parse,
    show_json,
)
from service.decoding.rows import FLOAT32_MAX, NUMBERS, check_rows, read_rows, table_of

Float64s = npt.NDArray[np.float64]
Shape = tuple[int | None, ...]  # only the first may be None
PARSER_KEPT_BYTES = 2**20
_LISTS = re.compile(rb"\s*\[\s*\[")  # how a list of lists begins
_parsers = threading.local()


def read_instances(raw: bytes, schema: InputSchema, max_rows: int, field: str) -> InputArray:
    """JSON text of a list of instances as `(N, *shape)` in the schema's dtype, checked."""
    if schema.kind == "tabular":
        numbers = _read_table(raw, schema, max_rows, field)
    else:
        numbers = read_numbers(raw, (None, *schema.shape), max_rows, field)
    return to_input(numbers, schema, field)


def read_numbers(
    raw: bytes, shape: Shape, most: int, field: str, *, nulls: bool = False
) -> Float64s:
    """Read JSON text of nested lists that must have exactly `shape`; gives float64 `shape`.

    Memory goes with the length of the text, never with what `shape` says.

    Args:
        raw: the JSON text.
        shape: lengths of the lists; None for the first stands for 1 to `most`.
        most: the longest that the outer list may be.
        field: its name, for the message.
        nulls: take null for a missing value, which becomes NaN.

    Raises:
        InputError: ragged, of another shape, or something in it is no finite number.
    """
    flat = len(shape) == 1  # simdjson tells the length of one list before it gives a number
    if not flat:
        check_numbers(raw, _whole(shape, most), field)
    numbers = None if nulls and b"null" in raw else _read_fast(raw, shape, most)
    if numbers is not None:
        return numbers
    if flat:
        check_numbers(raw, _whole(shape, most), field)
    return _read_slow(raw, shape, most, field, nulls)


def to_input(numbers: Float64s, schema: InputSchema, field: str) -> InputArray:
    """float64 `(N, *shape)` to the schema's dtype, checked against its shape and range."""
    if schema.dtype == "uint8":
        whole = numbers == np.floor(numbers)
        inside = (numbers >= 0) & (numbers <= 255)
        if not (whole & inside).all():
            row = int(np.argmin((whole & inside).reshape(len(numbers), -1).all(axis=1)))
            value = numbers[row][~(whole & inside)[row]].flat[0]
            raise InputError(f"{field}[{row}]", "integers from 0 to 255", f"{value:g}")
    elif schema.kind == "image" and numbers.min() >= schema.low and numbers.max() <= schema.high:
        return numbers.astype(np.float32)  # nothing can be wrong with it: the usual case
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and that is out of range
        x: InputArray = numbers.astype(np.dtype(schema.dtype))
    if schema.kind == "tabular":
        x = table_of(schema).without_gaps(x)
        if table_of(schema).fits(x):
            return x
        _refuse_overflow(numbers, x, schema, field)
    schema.check(x, field)
    return x


def _refuse_overflow(numbers: Float64s, x: InputArray, schema: InputSchema, field: str) -> None:
    """Raise for the first number of a table's rows that float32 cannot hold."""
    for row, column in np.argwhere(np.isinf(x))[:1]:
        raise InputError(
            f"{field}[{row}].{schema.columns[column].name}",
            f"a number of at most {FLOAT32_MAX:.4g} in size",
            f"{numbers[row, column]:g}",
        )


def _read_table(raw: bytes, schema: InputSchema, most: int, field: str) -> Float64s:
    """Rows of a table; quickly where they are lists of nothing but numbers."""
    check_table(raw, most, schema.size, field)
    numbers = None
    if not table_of(schema).codes and _LISTS.match(raw) and b"null" not in raw:
        numbers = _read_fast(raw, (None, *schema.shape), most)
    return read_rows(raw, schema, most, field) if numbers is None else numbers


def _read_fast(raw: bytes, shape: Shape, most: int) -> Float64s | None:
    """The numbers, or None where anything at all is unusual."""
    try:
        document = _parser().parse(raw)
        full = _whole(shape, len(document))
        usual = 1 <= full[0] <= most and _nests(document, full) and _has_lists(raw, full)
        numbers = np.frombuffer(document.as_buffer(of_type="d"), np.float64) if usual else None
    except (RuntimeError, ValueError, TypeError, AttributeError):
        # A parser whose document is still held by a traceback cannot be used again.
        _parsers.parser = None
        return None
    if len(raw) > PARSER_KEPT_BYTES:
        _parsers.parser = None  # a parser keeps the memory of its largest document
    return None if numbers is None or len(numbers) != prod(full) else numbers.reshape(full)


def _parser() -> Any:
    """This thread's parser: one is not for two threads."""
    parser = getattr(_parsers, "parser", None)
    if parser is None:
        parser = _parsers.parser = simdjson.Parser()
    return parser


def _has_lists(raw: bytes, shape: tuple[int, ...]) -> bool:
    """Whether a text has as many lists as nested lists of `shape`."""
    lists = lists_of(shape)
    return occurs_once(raw, b"[") if lists == 1 else raw.count(b"[") == lists


def _whole(shape: Shape, length: int) -> tuple[int, ...]:
    return tuple(length if size is None else size for size in shape)


def _nests(array: Any, shape: tuple[int, ...]) -> bool:
    """Whether the lists have the lengths of `shape`; a number has no length: TypeError."""
    if len(array) != shape[0]:
        return False
    return len(shape) == 1 or all(_nests(part, shape[1:]) for part in array)


def _read_slow(raw: bytes, shape: Shape, most: int, field: str, nulls: bool = False) -> Float64s:
    """Read what is unusual; what is wrong is found without making objects of all that is right."""
    document = parse(raw, field, "lists of finite numbers")
    if not isinstance(document, simdjson.Array):
        inner = "".join(f"[{size}]" for size in shape[1:])
        raise InputError(field, f"a list of rows, each {inner or 'a number'}", show_json(document))
    if shape[0] is None:
        check_rows(len(document), most, field)
    full = _whole(shape, len(document))
    flat: list[Float64s] = []
    _flatten(document, full, field, flat, nulls)
    return np.concatenate(flat).reshape(full)


def _flatten(
    value: Json, shape: tuple[int, ...], field: str, into: list[Float64s], nulls: bool
) -> None:
    if not isinstance(value, simdjson.Array) or len(value) != shape[0]:
        raise InputError(field, f"a list of {shape[0]}", show_json(value))
    if len(shape) == 1:
        into.append(_numbers(value, field, nulls))
        return
    for index, part in enumerate(value):
        _flatten(part, shape[1:], f"{field}[{index}]", into, nulls)


def _numbers(values: Any, field: str, nulls: bool) -> Float64s:
    """The numbers of a list without lists, float64 `(n,)`; null is NaN where it may be there."""
    try:
        quick = np.frombuffer(values.as_buffer(of_type="d"), np.float64)
        if values.mini.count(b"[") == 1:  # the buffer has the numbers of inner lists, too
            return quick
    except (RuntimeError, ValueError, TypeError, AttributeError):
        pass  # one of them is no number: which one is seen below
    flat = list(values)
    allowed = NUMBERS if nulls else NUMBERS - {NoneType}
    for index, value in enumerate(flat):
        if type(value) not in allowed:
            raise InputError(f"{field}[{index}]", "a number", show_json(value))
    return np.array(flat, dtype=np.float64)
