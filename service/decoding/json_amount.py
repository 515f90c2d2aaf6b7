"""How much a JSON text may hold, looked at before objects are made of it.

A megabyte of `[]` is 350,000 lists, which take sixty times the memory of the text and a while to be
made and to go. A right request has so many rows of so many values at most; what has more lists,
objects or commas than that is refused by counting them, which takes a millisecond per megabyte.
Texts may hold brackets and commas of their own: where there are texts, simdjson, which makes no
objects, says what is what.
"""

import re
from collections.abc import Sequence
from math import prod
from typing import Any

import simdjson

from models.base.errors import InputError, show_value

SMALL_BYTES = 1 << 17  # a text of at most this size costs little, whatever it holds
MOST_OBJECTS = 1000  # of a body whose rows are lists of numbers, or that has none
MOST_BIG = 10_000  # numbers beyond 64 bits, which are rewritten one by one
Json = Any  # a value of simdjson: a list or object that is not read yet, or plain data
_BIG = re.compile(rb"(?<=[\[,\s:])-?\d{19,}(?=[\],\s}])")


def lists_of(shape: Sequence[int]) -> int:
    """How many lists a nested list of `shape` has.

    >>> lists_of((2, 3)), lists_of((5,))
    (3, 1)
    """
    total = level = 1
    for size in shape[:-1]:
        level *= size
        total += level
    return total


def check_numbers(raw: bytes, shape: Sequence[int], field: str) -> None:
    """Refuse a text with more lists or values than nested lists of numbers of `shape` have.

    Raises:
        InputError: says what there may be at most.
    """
    if len(raw) <= SMALL_BYTES:
        return
    lists, values = raw.count(b"[") + raw.count(b"{"), raw.count(b",") + 1
    most_lists, most_values = lists_of(shape), prod(shape)
    if lists > most_lists or values > most_values:
        expected = f"at most {shape[0]} rows: {most_values} values in {most_lists} lists"
        raise InputError(field, expected, f"{values} values in {lists} lists")


def check_count(raw: bytes, sign: bytes, most: int, field: str, what: str) -> None:
    """Refuse a text in which `sign` stands more than `most` times: `{` counts objects.

    Raises:
        InputError: says how many of `what` there may be.
    """
    if len(raw) > SMALL_BYTES and not _occurs_at_most(raw, sign, most):
        raise InputError(field, f"at most {most} {what}", f"{raw.count(sign)}")


def occurs_once(raw: bytes, sign: bytes) -> bool:
    """Whether `sign` stands in a text exactly once; much quicker than counting it."""
    first = raw.find(sign)
    return first >= 0 and raw.find(sign, first + 1) < 0


def _occurs_at_most(raw: bytes, sign: bytes, most: int) -> bool:
    """As `raw.count(sign) <= most`; where there are few, the search for the next one is quicker."""
    at = -1
    for _ in range(most + 1):
        at = raw.find(sign, at + 1)
        if at < 0:
            return True
    return False


def row_form(width: int) -> str:
    """What a row of a table looks like, for a message."""
    return f"a list of {width} in the order of the columns, or an object by column name"


def check_table(raw: bytes, most: int, width: int, field: str) -> None:
    """Refuse a text that cannot be 1 to `most` rows of `width` values, each a list or an object.

    Args:
        raw: the JSON text.
        most: rows at most.
        width: values of a row.
        field: its name, for the message.

    Raises:
        InputError: more rows, a row of another length, or one that holds lists or objects.
    """
    if len(raw) <= SMALL_BYTES:
        return
    if raw.count(b"[") + raw.count(b"{") <= 1 + most and raw.count(b",") < most * width:
        return
    if b'"' not in raw:  # then nothing was counted that is part of a text
        check_numbers(raw, (most, width), field)
    document, form = parse(raw, field, "a list of rows"), row_form(width)
    if not isinstance(document, simdjson.Array):
        raise InputError(field, f"a list of rows, each {form}", show_json(document))
    if len(document) > most:
        raise InputError(field, f"1 to {most} rows", f"{len(document)} rows")
    for index, row in enumerate(document):
        place = f"{field}[{index}]"
        if not isinstance(row, simdjson.Array | simdjson.Object) or len(row) != width:
            raise InputError(place, form, show_json(row))
        values = row if isinstance(row, simdjson.Array) else row.values()
        for value in values:
            if isinstance(value, simdjson.Array | simdjson.Object):
                raise InputError(place, f"{form}, of numbers and texts", show_json(value))


def parse(raw: bytes, field: str, expected: str) -> Json:
    """A JSON text that is known to be well-formed, by a parser of its own; makes no objects.

    A whole number beyond 64 bits is the nearest float64.

    Raises:
        InputError: a number beyond float64 (or very many beyond 64 bits), or too deep.
    """
    try:
        return simdjson.Parser().parse(raw)
    except (RuntimeError, ValueError) as error:
        reason = str(error)
    if "DEPTH" in reason:
        raise InputError(field, expected, "too many levels of nesting")
    try:
        as_float = _BIG.sub(lambda big: repr(float(big[0])).encode(), raw, count=MOST_BIG)
        return simdjson.Parser().parse(as_float)
    except (RuntimeError, ValueError):
        raise InputError(field, expected, "a number that is too large") from None


def show_json(value: Json) -> str:
    """A value for a message: how long a list is, not what it holds.

    >>> show_json(simdjson.Parser().parse(b"[1, 2]")), show_json("seven")
    ('a list of 2', "'seven'")
    """
    if isinstance(value, simdjson.Array):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, simdjson.Object) else show_value(value)
