"""Laws of the shifts of `holdfast traffic`: what is sent is accepted, and is what was asked for."""

from typing import Any

import click
import numpy as np
import pytest

from models.base.errors import DataError
from models.data import DataSet
from models.versions.schema import Column, InputSchema
from service.cli.traffic import shifts
from service.cli.traffic.command import as_sent
from tests import bundles
from tests.service.tables import colours

TABLE_SHIFTS = [*shifts.TABLES, "clean"]
IMAGE_SHIFTS = [*shifts.IMAGES, *shifts.PLAIN]


def shifted(shift: str, data: DataSet, seed: int = 0) -> np.ndarray[Any, Any]:
    """The test rows under a shift."""
    name, value = shifts.parse(shift, data.schema)
    rng = np.random.default_rng(seed)
    return shifts.change_of(name, value, data.schema, rng)(data.test.x)


@pytest.mark.parametrize("shift", TABLE_SHIFTS)
def test_shifted_rows_of_a_table_pass_its_schema_and_follow_the_seed(shift: str) -> None:
    data = bundles.table()
    x = shifted(shift, data)
    data.schema.check(x)
    np.testing.assert_array_equal(shifted(shift, data), x)
    assert (np.array_equal(x, data.test.x, equal_nan=True)) == (shift == "clean")


@pytest.mark.parametrize("data", [bundles.digits(), colours()], ids=["grey", "bytes"])
@pytest.mark.parametrize("shift", IMAGE_SHIFTS)
def test_shifted_images_pass_their_schema(shift: str, data: DataSet) -> None:
    data.schema.check(shifted(shift, data))


def test_table_shifts_do_what_their_names_say() -> None:
    data = bundles.table()
    schema, x = data.schema, data.test.x
    numeric = np.array([c.kind == "numeric" for c in schema.columns])
    for share in (0.0, 0.5, 1.0):
        gaps = np.isnan(shifted(f"missing:{share}", data))[:, [8, 9, 11]].mean()
        assert gaps == pytest.approx(
            share + (1 - share) * np.isnan(x[:, [8, 9, 11]]).mean(), abs=0.05
        )
    assert (shifted("unseen:1", data)[:, ~numeric] == -1).all()
    unit = shifted("unit:1000", data)
    scaled = [j for j in range(10) if not np.allclose(unit[:, j], x[:, j], equal_nan=True)]
    assert len(scaled) == 3, "a third of the ten numbers, the same ones in all rows"
    np.testing.assert_allclose(unit[:, scaled], x[:, scaled] * 1000, rtol=1e-6)
    swapped = shifted("swap:2", data)
    first, second = np.flatnonzero(~np.isclose(swapped, x, equal_nan=True).all(axis=0))
    rows = ~np.isnan(x[:, [first, second]]).any(axis=1)
    np.testing.assert_array_equal(swapped[rows][:, first], x[rows][:, second])
    np.testing.assert_array_equal(swapped[rows][:, second], x[rows][:, first])
    moved = (shifted("noise:0.1", data) - x)[:, numeric] / schema.span[numeric]
    assert np.nanstd(moved) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "shift", ["rotate", "invert", "blur:1", "clean:2", "swap:x", "unit:inf", ""]
)
def test_shift_that_a_table_does_not_have_is_a_usage_error(shift: str) -> None:
    with pytest.raises(click.UsageError):
        shifts.parse(shift, bundles.table().schema)


def test_shift_that_images_do_not_have_is_a_usage_error() -> None:
    for shift in ("missing", "swap", "unit:2"):
        with pytest.raises(click.UsageError, match="one of those for images"):
            shifts.parse(shift, bundles.digits().schema)


def test_shift_without_a_column_to_change_says_so() -> None:
    numbers = InputSchema("x", (1,), "float32", 0.0, 1.0, "tabular", (Column("a"),))
    words = InputSchema(
        "x", (1,), "float32", 0.0, 1.0, "tabular", (Column("a", "categorical", categories=("b",)),)
    )
    rng = np.random.default_rng(0)
    for name, schema in (("missing", numbers), ("unseen", numbers), ("swap", words)):
        with pytest.raises(DataError, match=f"--shift {name} needs a"):
            shifts.change_of(name, 1.0, schema, rng)


def test_rows_are_sent_as_people_write_them() -> None:
    data = bundles.table()
    x = np.repeat(data.test.x[~np.isnan(data.test.x).any(axis=1)][:1], 2, axis=0)
    x[0, 8], x[0, 10], x[0, 11] = np.nan, -1, np.nan
    x[1, 10], x[1, 11] = 2, 0
    strange, plain = as_sent(type(data.test)(x, np.zeros(2, np.int64)), data.schema).x.tolist()
    assert strange[8] is None
    assert strange[10] == shifts.UNSEEN
    assert strange[11] is None
    assert plain[10:] == ["blue", "S"]
    assert plain[0] == pytest.approx(x[1, 0])
    assert isinstance(plain[0], float)
    images = bundles.digits()
    assert as_sent(images.test, images.schema) is images.test
