"""Laws of the input contract: every bad input is refused by name, every good one passes."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import InputError
from models.schema import InputSchema

IMAGE = InputSchema("input", (1, 2, 2), "float32", 0.0, 16.0, "image")
GREY = InputSchema("input", (1, 2, 2), "uint8", 0.0, 255.0, "image")
GOOD = np.zeros((3, 1, 2, 2), dtype=np.float32)


def with_value(value: float) -> np.ndarray[Any, Any]:
    """Good rows with one broken value in row 1."""
    x = GOOD.copy()
    x[1, 0, 1, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "field", "expected", "got"),
    [
        (np.zeros((3, 4), np.float32), "instances", "shape [N, 1, 2, 2]", "shape [3, 4]"),
        (np.zeros((1, 2, 2), np.float32), "instances", "shape [N, 1, 2, 2]", "shape [1, 2, 2]"),
        (np.zeros((3, 1, 2, 3), np.float32), "instances", "shape [N, 1, 2, 2]", "[3, 1, 2, 3]"),
        (np.zeros((0, 1, 2, 2), np.float32), "instances", "at least one row", "an empty batch"),
        (GOOD.astype(np.float64), "instances", "float32", "float64"),
        (GOOD.astype(np.uint8), "instances", "float32", "uint8"),
        (with_value(np.nan), "instances[1]", "finite values in [0, 16]", "nan"),
        (with_value(np.inf), "instances[1]", "finite values in [0, 16]", "inf"),
        (with_value(-np.inf), "instances[1]", "finite values in [0, 16]", "-inf"),
        (with_value(16.5), "instances[1]", "finite values in [0, 16]", "16.5"),
        (with_value(-0.25), "instances[1]", "finite values in [0, 16]", "-0.25"),
    ],
)
def test_bad_input_is_refused_with_field_and_row(
    x: np.ndarray[Any, Any], field: str, expected: str, got: str
) -> None:
    with pytest.raises(InputError) as caught:
        IMAGE.check(x)
    assert caught.value.field == field
    assert expected in caught.value.expected
    assert got in caught.value.got
    assert str(caught.value).startswith(f"{field}: expected ")


def test_field_is_named_as_the_caller_calls_it() -> None:
    with pytest.raises(InputError, match=re.escape("inputs[0].data[1]: expected finite")):
        IMAGE.check(with_value(np.nan), field="inputs[0].data")


@given(st.data(), st.integers(1, 9), st.sampled_from([np.nan, np.inf, -np.inf, 17.0, -1e-3]))
def test_first_bad_row_is_named_wherever_it_stands(
    data: st.DataObject, rows: int, value: float
) -> None:
    x = np.full((rows, 1, 2, 2), 8.0, dtype=np.float32)
    bad = data.draw(st.sets(st.integers(0, rows * 4 - 1), min_size=1))
    x.reshape(-1)[list(bad)] = value
    with pytest.raises(InputError) as caught:
        IMAGE.check(x)
    assert caught.value.field == f"instances[{min(bad) // 4}]"


@given(hnp.arrays(np.float32, (2, 1, 2, 2), elements=st.floats(0, 16, width=32)))
def test_every_value_in_range_passes_and_scales_to_the_unit_range(
    x: np.ndarray[Any, np.dtype[np.float32]],
) -> None:
    IMAGE.check(x)
    unit = IMAGE.to_unit(x)
    assert unit.dtype == np.float32
    assert unit.min() >= 0
    assert unit.max() <= 1
    np.testing.assert_allclose(IMAGE.from_unit(unit), x, atol=2e-6)


def test_all_bytes_survive_the_way_to_the_unit_range_and_back() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    GREY.check(x)
    back = GREY.from_unit(GREY.to_unit(x))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, x)


@given(hnp.arrays(np.float32, (1, 1, 2, 2), elements=st.floats(-1, 2, width=32)))
def test_integers_are_rounded_and_clipped_never_wrapped(
    unit: np.ndarray[Any, np.dtype[np.float32]],
) -> None:
    raw = GREY.from_unit(unit).astype(float)
    assert (np.abs(raw - np.clip(unit, 0, 1) * 255) <= 0.5 + 1e-4).all()


def test_schema_survives_json() -> None:
    tabular = InputSchema("x", (3,), "float32", -2.0, 5.0, "tabular", ("a", "b", "c"))
    for schema in (IMAGE, GREY, tabular):
        assert msgspec.json.decode(msgspec.json.encode(schema), type=InputSchema) == schema
    assert IMAGE.size == 4
    assert tabular.to_unit(np.array([[-2, 1.5, 5]], dtype=np.float32)).tolist() == [[0, 0.5, 1]]
