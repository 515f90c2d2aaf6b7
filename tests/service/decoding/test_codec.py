import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from models.versions.schema import InputArray, InputSchema
from service.decoding import codec
from service.decoding.codec import read_instances, read_numbers
from service.decoding.instances import read_predict_body

SCHEMA = InputSchema(
    name="input", shape=(2, 3), dtype="float32", low=-10.0, high=10.0, kind="image"
)
BYTES = InputSchema(name="input", shape=(2, 3), dtype="uint8", low=0, high=255, kind="image")
MOST = 5

numbers = st.floats(-10, 10, width=32) | st.integers(-10, 10)
spaces = st.sampled_from([None, 0, 2])


def nested(shape: tuple[int, ...], leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    for size in reversed(shape):
        leaf = st.lists(leaf, min_size=size, max_size=size)
    return leaf


def decode_instances(text: bytes, schema: InputSchema, most: int) -> InputArray:
    """A body of `/predict` as rows."""
    return read_instances(read_predict_body(text, schema), schema, most, "instances")


def body(instances: Any, indent: int | None = None) -> bytes:
    return json.dumps({"instances": instances}, indent=indent).encode()


@given(st.integers(1, MOST).flatmap(lambda n: nested((n, 2, 3), numbers)), spaces)
def test_lists_of_the_right_shape_decode_to_their_values(value: Any, indent: int | None) -> None:
    x = decode_instances(body(value, indent), SCHEMA, MOST)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.array(value, dtype=np.float32))


@st.composite
def ragged(draw: st.DrawFn) -> Any:
    """A list of the right shape in which one number has moved, or has been wrapped or spread."""
    value = draw(nested((2, 2, 3), numbers))
    i, j = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    kind = draw(st.sampled_from(["move", "wrap", "spread", "empty", "lift", "drop", "add"]))
    row = value[i][j]
    if kind == "move":  # the count stays right
        value[i][1 - j].append(row.pop())
    elif kind == "wrap":
        row[1] = [row[1]]
    elif kind == "spread":  # the count and the lengths stay right
        row[0], row[1] = [row[0], row[1]], []
    elif kind == "empty":
        value[i].append([])
    elif kind == "lift":
        value[i][j] = row[0]
    elif kind == "drop":
        row.pop()
    else:
        row.append(0)
    return value


@given(ragged())
def test_ragged_lists_are_refused_even_with_the_right_count(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        decode_instances(body(value), SCHEMA, MOST)
    assert caught.value.field.startswith("instances[")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_decoded_or_refused_as_input(value: Any) -> None:
    for document in (value, {"instances": value}, {"instances": [[[1, 2, 3], value]]}):
        try:
            x = decode_instances(json.dumps(document).encode(), SCHEMA, MOST)
        except InputError as error:
            named = error.field and error.expected and error.got
            assert named
        else:
            np.testing.assert_array_equal(x, np.array(document["instances"], dtype=np.float32))


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_as_input(data: bytes) -> None:
    with pytest.raises(InputError):
        decode_instances(data, SCHEMA, MOST)


def test_the_quick_and_the_slow_reader_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.random.default_rng(0).uniform(-10, 10, (4, 2, 3))
    raw = json.dumps(value.tolist()).encode()
    quick = read_numbers(raw, (None, 2, 3), MOST, "x")
    monkeypatch.setattr(codec, "_read_fast", lambda *_: None)
    np.testing.assert_array_equal(read_numbers(raw, (None, 2, 3), MOST, "x"), quick)
    np.testing.assert_array_equal(quick, value)


def test_a_parser_whose_document_is_held_is_replaced() -> None:
    raw = json.dumps(np.zeros((1, 2, 3)).tolist()).encode()
    held = codec._parser().parse(raw)
    for _ in range(2):
        assert read_numbers(raw, (None, 2, 3), MOST, "x").shape == (1, 2, 3)
    assert len(held) == 1


@pytest.mark.parametrize(
    ("leaf", "got"),
    [("null", "null"), ("true", "true"), ('"1"', "'1'"), ("{}", "an object"), ("[1]", "a list")],
)
def test_a_value_that_is_no_number_is_named_with_its_place(leaf: str, got: str) -> None:
    text = '{"instances": [[[1, 2, 3], [4, 5, 6]], [[1, LEAF, 3], [4, 5, 6]]]}'
    text = text.replace("LEAF", leaf)
    with pytest.raises(InputError) as caught:
        decode_instances(text.encode(), SCHEMA, MOST)
    assert caught.value.field == "instances[1][0][1]"
    assert caught.value.got.startswith(got)


@pytest.mark.parametrize("value", [-1, 256, 1.5, 1e300])
def test_uint8_takes_only_whole_numbers_from_0_to_255(value: float) -> None:
    rows: list[list[list[float]]] = [[[0, 255, 7], [1, 2, 3]]]
    x = decode_instances(body(rows), BYTES, MOST)
    assert x.dtype == np.uint8
    assert x.tolist() == rows
    rows.append([[0, value, 7], [1, 2, 3]])
    with pytest.raises(InputError, match=r"instances\[1\]: expected integers from 0 to 255"):
        decode_instances(body(rows), BYTES, MOST)


def test_numbers_beyond_float32_are_out_of_range_not_a_warning() -> None:
    with pytest.raises(InputError, match=r"instances\[0\]: expected finite values"):
        decode_instances(body([[[1e39, 2, 3], [4, 5, 6]]]), SCHEMA, MOST)
    with pytest.raises(InputError, match=r"instances\[0\]: expected finite values"):
        decode_instances(body([[[10**30, 2, 3], [4, 5, 6]]]), SCHEMA, MOST)


def test_the_number_of_rows_is_checked_before_they_are_read() -> None:
    row = [[0, 0, 0], [0, 0, 0]]
    assert len(decode_instances(body([row] * MOST), SCHEMA, MOST)) == MOST
    with pytest.raises(InputError, match="expected 1 to 5 rows, got 6 rows"):
        decode_instances(body([row] * 6), SCHEMA, MOST)
    with pytest.raises(InputError, match="got an empty batch"):
        decode_instances(body([]), SCHEMA, MOST)
