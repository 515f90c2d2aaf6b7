"""Bodies are decoded into records, or refused with the field, what was expected and what came."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from models.base.json_body import SHOWN_MESSAGE, decode_body


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["a", "b"]
    size: int = 0


class Outer(msgspec.Struct):
    items: list[Inner]


DECODER = msgspec.json.Decoder(Outer)


@pytest.mark.parametrize(
    ("body", "field", "expected", "got"),
    [
        (b"", "body", "JSON", "an empty body"),
        (b"[]", "body", "object", "array"),
        (b"{}", "items", "a value", "the field is missing"),
        (b'{"items": [{}]}', "items[...].kind", "a value", "the field is missing"),
        (b'{"items": [{"kind": 3}]}', "items[...].kind", "str", "int"),
        (b'{"items": [{"kind": "c"}]}', "items[...].kind", "documentation lists", "'c'"),
        (b'{"items": [{"kind": "a", "size": 1.5}]}', "items[...].size", "int", "float"),
        (b'{"items": [{"kind": "a", "x": 1}]}', "items[...]", "only known members", "'x'"),
        (b'{"items": NaN}', "items", "a finite number", "NaN"),
    ],
)
def test_a_refusal_names_the_field_what_was_expected_and_what_came(
    body: bytes, field: str, expected: str, got: str
) -> None:
    with pytest.raises(InputError) as caught:
        decode_body(DECODER, body)
    error = caught.value
    assert error.field == field.replace("...", "0") or error.field == field
    assert expected in error.expected
    assert got in error.got


def test_a_byte_order_mark_is_skipped_and_a_part_is_named_within_its_field() -> None:
    assert decode_body(DECODER, b'\xef\xbb\xbf{"items": []}') == Outer([])
    with pytest.raises(InputError) as caught:
        decode_body(DECODER, b'{"items": 1}', "alerts[3]")
    assert caught.value.field == "alerts[3].items"


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="body: expected JSON, got too many levels of nesting"):
        decode_body(msgspec.json.Decoder(list[msgspec.Raw]), b"[" * 100_000)


@given(st.text(min_size=1))
def test_a_refusal_is_short_whatever_came(text: str) -> None:
    body = msgspec.json.encode({"items": [{"kind": "no " + text * 50}]})
    with pytest.raises(InputError) as caught:
        decode_body(DECODER, body)
    assert len(caught.value.got) <= SHOWN_MESSAGE
