"""What is no JSON is told by what is wrong with it and where."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.json_faults import explain_malformed, path_to
from tests.service.decoding.test_codec import json_values


def refusal(text: bytes) -> Any:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(text)
    return explain_malformed(text, str(caught.value))


@pytest.mark.parametrize(
    ("text", "field", "got"),
    [
        (b'{"instances": [[1, NaN]]}', "instances[0][1]", "NaN, which JSON does not have"),
        (b'{"instances": [{"a": 1, "hue": -Infinity}]}', "instances[0].hue", "-Infinity, which"),
        (b'{"inputs": [{"data": [1, 2, nan]}]}', "inputs[0].data[2]", "nan, which"),
        (b'{"a": "NaN, [", "b": Infinity}', "b", "Infinity, which"),
        (b"[1, 2, inf]", "[2]", "inf, which"),
        (b"NaN", "body", "NaN, which"),
        (b'{"a": None}', "a", "None"),
        (b'{"a": [True]}', "a[0]", "True"),
        (b'{"a": undefined}', "a", "undefined"),
        (b'{"a\\"b": NaN}', 'a\\\\"b', "NaN"),
        (b'{"a": nonsense}', "body", "invalid character (byte"),
        (b"{'a': 1}", "body", "object keys must be strings"),
        (b'{"a": 1', "body", "truncated"),
        (b"", "body", "an empty body"),
        (b'\xff\xfe{\x00"\x00', "body", "begins like UTF-16"),
        (b"[" * 900 + b"NaN", "[0]" * 66 + "[0...", "NaN"),
    ],
)
def test_the_fault_is_named_with_its_place(text: bytes, field: str, got: str) -> None:
    error = refusal(text)
    assert error.field == field
    assert got in error.got
    assert str(error).isascii()
    assert len(str(error)) < 500


@given(json_values, st.data())
def test_the_path_of_a_value_leads_to_it(value: Any, data: st.DataObject) -> None:
    """A mark is put in the place of some value; its path leads there."""
    places = list(places_of(value, ()))
    place = data.draw(st.sampled_from(places))
    mark = "mark-of-the-test"
    text = json.dumps(with_mark(value, place, mark)).encode()
    wanted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in place).removeprefix(".")
    if wanted.isascii() and wanted.isprintable() and '"' not in wanted and "\\" not in wanted:
        found = path_to(text, text.index(f'"{mark}"'.encode()))
        assert found is not None
        assert found.replace("\\'", "'") == (wanted or "body") or len(wanted) > 80


def places_of(value: Any, place: tuple[Any, ...]) -> Any:
    yield place
    items = (
        enumerate(value)
        if isinstance(value, list)
        else value.items()
        if isinstance(value, dict)
        else ()
    )
    for key, inner in items:
        yield from places_of(inner, (*place, key))


def with_mark(value: Any, place: tuple[Any, ...], mark: str) -> Any:
    if not place:
        return mark
    copied = list(value) if isinstance(value, list) else dict(value)
    copied[place[0]] = with_mark(value[place[0]], place[1:], mark)
    return copied


def test_a_fault_far_into_a_text_is_told_as_well() -> None:
    rows = [[0.5] * 30] * 4000
    text = json.dumps({"instances": [*rows, [0.5, float("nan")]]}).encode()
    assert refusal(text).field == "instances[4000][1]"


def test_a_fault_behind_too_many_parts_is_told_by_its_byte() -> None:
    text = b"[" + b'"",' * 2_000_000 + b"NaN]"
    assert refusal(text).field == "body (byte 6000001)"
