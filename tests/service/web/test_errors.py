"""How errors look on the wire, whatever was sent."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.base.errors import SHOWN_CHARACTERS, InputError, show_value
from models.versions.schema import Column, InputSchema
from service.decoding.codec import Float64s, read_numbers
from service.decoding.rows import read_rows
from service.web.error_reply import error_reply
from service.web.errors import FlaggedError, NotFoundError, UnavailableError

TABLE = InputSchema(
    "row", (3,), "float32", 0.0, 1.0, "tabular",
    (
        Column("age", low=0, high=99, missing=True),
        Column("colour", "categorical", categories=("red", "1", "true")),
        Column("size", low=0, high=9),
    ),
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
texts = st.text(st.characters(codec=None), max_size=200)


@given(values)
@example("\u202e\ud800\x00\n" * 100)
@example(b"\xff" * 1000)
@example(10**400)
def test_a_value_is_shown_short_in_ascii_on_one_line(value: Any) -> None:
    text = show_value(value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= SHOWN_CHARACTERS + 3


@pytest.mark.parametrize("path", ["/predict", "/v2", "/v2/models/a/infer", "/v1/models/a:predict"])
@given(texts, texts, texts)
def test_every_refusal_is_json_in_the_dialect_of_its_address(
    path: str, field: str, expected: str, got: str
) -> None:
    known = show_value(got)
    for error, status in (
        (InputError(show_value(field), show_value(expected), known), 400),
        (NotFoundError(known, field=show_value(field)), 404),
        (FlaggedError(known, predictions=[1.5]), 409),
        (UnavailableError(known), 503),
    ):
        reply = error_reply(path, error, "rule")
        document = json.loads(reply.body)
        assert reply.status == status
        assert reply.body.isascii()
        if path.startswith("/v"):
            assert set(document) == {"error"}
            assert known in document["error"]
        else:
            assert reply.media == "application/problem+json"
            assert (document["status"], document["type"]) == (status, "about:blank")
            assert known in document["detail"]
        assert ("Retry-After" in dict(reply.headers)) == (status == 503)


@given(st.lists(values, max_size=3) | values)
def test_any_rows_of_a_table_are_read_or_refused_with_a_short_reason(value: Any) -> None:
    try:
        raw = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return  # bytes, large integers, half a surrogate pair
    read = outcome(lambda: read_rows(raw, TABLE, 4, "instances"))
    if isinstance(read, str):
        assert read.isprintable()
        assert len(read) < 500
    else:
        assert read.dtype == np.float64
        assert read.shape == (len(value), 3)


def outcome(read: Callable[[], Float64s]) -> Float64s | str:
    """What is read, or the words with which it is refused."""
    try:
        return read()
    except InputError as error:
        return str(error)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_rows_and_numbers_or_refused(raw: bytes, nulls: bool) -> None:
    for read in (
        outcome(lambda: read_rows(raw, TABLE, 4, "instances")),
        outcome(lambda: read_numbers(raw, (None, 3), 4, "instances", nulls=nulls)),
    ):
        assert len(read) < 500 if isinstance(read, str) else read.shape[1:] == (3,)


@given(st.lists(st.sampled_from([0.0, 1.5, -2.0, 3e38]), min_size=3, max_size=3), st.data())
def test_a_row_means_the_same_as_a_list_and_as_an_object_in_any_order(
    row: list[float], data: st.DataObject
) -> None:
    size, colour = row[2], data.draw(st.sampled_from(["red", " red ", 1, 1.0, "1", "true", True]))
    items = [("age", row[0]), ("colour", colour), ("size", size)]
    mixed = dict(data.draw(st.permutations(items)))
    listed = read_rows(orjson.dumps([[row[0], colour, size]]), TABLE, 4, "instances")
    named = read_rows(orjson.dumps([mixed]), TABLE, 4, "instances")
    np.testing.assert_array_equal(listed, named)
    assert (
        listed[0, 1] == {"red": 0, "1": 1, "true": 2}[str(colour).strip().lower().partition(".")[0]]
    )
