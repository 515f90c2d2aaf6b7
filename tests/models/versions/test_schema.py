"""Laws of the input contract: every bad input is refused by name, every good one passes."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.base.errors import InputError
from models.versions.schema import Column, InputSchema

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
    tabular = InputSchema(
        "x", (3,), "float32", -2.0, 5.0, "tabular", tuple(Column(n, low=-2, high=5) for n in "abc")
    )
    for schema in (IMAGE, GREY, tabular):
        assert msgspec.json.decode(msgspec.json.encode(schema), type=InputSchema) == schema
    assert IMAGE.size == 4
    assert tabular.to_unit(np.array([[-2, 1.5, 5]], dtype=np.float32)).tolist() == [[0, 0.5, 1]]


# Tables.

ROWS = InputSchema(
    "row",
    (4,),
    "float32",
    0.0,
    1.0,
    "tabular",
    (
        Column("age", low=18.0, high=98.0),
        Column("income", low=-1e3, high=1e6, missing=True),
        Column("colour", "categorical", categories=("red", "green", "blue")),
        Column("size", "categorical", categories=("S", "L"), missing=True),
    ),
)
TABLE = np.tile(np.array([[40, 1e5, 2, 0]], np.float32), (3, 1))


def table_with(column: int, value: float) -> np.ndarray[Any, Any]:
    """Good rows with one other value in row 1."""
    x = TABLE.copy()
    x[1, column] = value
    return x


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, 17.0), (0, 1e30), (0, -1e30), (0, 3.4e38), (1, np.nan), (1, -5e3),
        (2, 0.0), (2, -1.0), (3, 1.0), (3, -1.0), (3, np.nan),
    ],
)  # fmt: skip
def test_what_a_table_may_send_passes(column: int, value: float) -> None:
    ROWS.check(table_with(column, value))


@pytest.mark.parametrize(
    ("column", "value", "name", "expected", "got"),
    [
        (0, np.nan, "age", "a finite number", "a missing value"),
        (0, np.inf, "age", "a finite number", "inf"),
        (1, -np.inf, "income", "a finite number or a missing value", "-inf"),
        (2, np.nan, "colour", "0 to 2, or -1 for another", "a missing value"),
        (2, 3.0, "colour", "0 to 2, or -1 for another", "3"),
        (2, -2.0, "colour", "0 to 2", "-2"),
        (2, 0.5, "colour", "a category's number", "0.5"),
        (3, 2.0, "size", "0 to 1, or -1 for another or a missing value", "2"),
        (3, np.inf, "size", "0 to 1", "inf"),
    ],
)
def test_what_a_table_may_not_send_is_refused_by_row_and_column(
    column: int, value: float, name: str, expected: str, got: str
) -> None:
    with pytest.raises(InputError) as caught:
        ROWS.check(table_with(column, value))
    assert caught.value.field == f"instances[1].{name}"
    assert expected in caught.value.expected
    assert caught.value.got == got


def test_table_of_another_width_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("shape [N, 4]")):
        ROWS.check(TABLE[:, :3])


numbers = st.floats(-1e6, 1e6, width=32)


@given(
    hnp.arrays(np.float32, (5, 2), elements=st.one_of(numbers, st.just(np.nan))),
    hnp.arrays(np.float32, (5, 2), elements=st.sampled_from([-1.0, 0.0, 1.0])),
)
def test_scaling_of_a_table_is_linear_per_column_and_leaves_categories_and_gaps(
    values: np.ndarray[Any, Any], places: np.ndarray[Any, Any]
) -> None:
    x = np.concatenate([values, places], axis=1)
    unit = ROWS.to_unit(x)
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(unit), np.isnan(x))
    np.testing.assert_array_equal(unit[:, 2:], places)
    np.testing.assert_allclose(unit[:, 0], (values[:, 0] - 18) / 80, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ROWS.from_unit(unit), x, rtol=1e-5, atol=0.5)


def test_training_range_is_the_unit_range_and_constants_do_not_divide_by_zero() -> None:
    low, high = np.array([[18, -1e3, 0, 0], [98, 1e6, 0, 0]], np.float32)
    np.testing.assert_array_equal(ROWS.to_unit(np.stack([low, high]))[:, :2], [[0, 0], [1, 1]])
    same = InputSchema("x", (1,), "float32", 0.0, 1.0, "tabular", (Column("c", low=7.0, high=7.0),))
    np.testing.assert_array_equal(same.to_unit(np.array([[7.0]], np.float32)), [[0]])


def test_table_schema_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ROWS), type=InputSchema) == ROWS
