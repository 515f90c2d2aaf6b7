"""One battery over all kinds of stress on tables, and what each is for."""

import numpy as np
import pytest
from sklearn.datasets import load_wine

from models.base.errors import InputError
from models.corruptions import random_benign
from models.corruptions.tables import BENIGN, FACTORS, SENTINELS, STRESS, applies, apply
from models.versions.schema import Column, InputSchema

SEVERITIES = (1, 2, 3, 4, 5)
battery = pytest.mark.parametrize("name", STRESS)


@pytest.fixture(scope="module")
def wine() -> np.ndarray:
    """178 wines, 13 numbers each; then three categories and two columns that may miss values."""
    numbers = load_wine().data
    rng = np.random.default_rng(0)
    town = rng.integers(0, 4, (len(numbers), 3))
    gaps = rng.normal(5, 1, (len(numbers), 2))
    gaps[rng.random(gaps.shape) < 0.1] = np.nan
    return np.hstack([numbers, town, gaps]).astype(np.float32)


@pytest.fixture(scope="module")
def schema(wine: np.ndarray) -> InputSchema:
    ranges = zip(np.nanmin(wine, axis=0), np.nanmax(wine, axis=0), strict=True)
    columns = [Column(f"c{i}", low=float(a), high=float(b)) for i, (a, b) in enumerate(ranges)]
    towns = ("A", "B", "C", "D")
    columns[13:16] = [Column(c.name, "categorical", categories=towns) for c in columns[13:16]]
    columns[16:] = [Column(c.name, low=c.low, high=c.high, missing=True) for c in columns[16:]]
    return InputSchema("x", (18,), "float32", 0, 1, "tabular", tuple(columns))


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | (np.isnan(a) & np.isnan(b))


@battery
@pytest.mark.parametrize("severity", SEVERITIES)
def test_rows_stay_valid_and_the_input_stays_as_it_was(
    name: str, severity: int, schema: InputSchema, wine: np.ndarray
) -> None:
    before = wine.copy()
    one, two, other = (
        apply(name, schema, wine, severity, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    schema.check(one)
    assert (one.shape, one.dtype) == (wine.shape, wine.dtype)
    np.testing.assert_array_equal(wine, before)
    np.testing.assert_array_equal(one, two)
    assert same(one, other).all() == (
        name == "rounding" or (name, severity) == ("unseen_category", 5)
    )


@battery
def test_severity_five_changes_more_than_one(
    name: str, schema: InputSchema, wine: np.ndarray
) -> None:
    changed = [apply(name, schema, wine, s, np.random.default_rng(0)) for s in (1, 5)]
    if name == "missing":
        amount = [float(np.isnan(c).mean()) for c in changed]
    else:
        amount = [float(np.nanmean(np.abs(c - wine) / schema.span)) for c in changed]
    assert 0 < amount[0] < amount[1]


@battery
def test_touches_only_the_columns_it_is_about(
    name: str, schema: InputSchema, wine: np.ndarray
) -> None:
    touched = ~same(apply(name, schema, wine, 5, np.random.default_rng(0)), wine)
    about = {"missing": [16, 17], "unseen_category": [13, 14, 15]}.get(name, [*range(13), 16, 17])
    assert not np.delete(touched, about, axis=1).any()
    assert touched[:, about].any()


@battery
def test_applies_only_where_the_schema_has_what_it_needs(name: str) -> None:
    number, other = Column("a"), Column("b")
    town = Column("t", kind="categorical", categories=("A", "B"))
    gaps = Column("g", missing=True)

    def table(*columns: Column) -> InputSchema:
        return InputSchema("x", (len(columns),), "float32", 0, 1, "tabular", columns)

    needs = {"missing": table(gaps), "unseen_category": table(town)}
    needs["swapped_columns"] = table(number, other)
    enough = needs.get(name, table(number))
    short = {"missing": table(number, town), "unseen_category": table(number)}
    short["swapped_columns"] = table(number, town)
    lacking = short.get(name, table(town))
    assert applies(name, enough)
    assert not applies(name, lacking)
    assert not applies(name, InputSchema("x", (1, 8, 8), "uint8", 0, 255, "image"))
    with pytest.raises(InputError, match=name):
        apply(name, lacking, np.zeros((1, *lacking.shape), np.float32), 1, np.random.default_rng(0))


def test_each_does_what_its_name_says(schema: InputSchema, wine: np.ndarray) -> None:
    after = {name: apply(name, schema, wine, 4, np.random.default_rng(3)) for name in STRESS}
    changed = {name: ~same(x, wine) for name, x in after.items()}
    assert np.isin(after["sentinel"][changed["sentinel"]], SENTINELS).all()
    assert (after["unseen_category"][changed["unseen_category"]] == -1).all()
    assert np.isnan(after["missing"][changed["missing"]]).all()
    unit = schema.to_unit(after["out_of_range"])[changed["out_of_range"]]
    np.testing.assert_allclose(np.abs(unit - 0.5), 4.5, rtol=1e-3)
    other = changed["unit_change"]
    ratio = after["unit_change"][other] / wine[other]
    assert np.isclose(ratio[:, None], FACTORS, rtol=1e-4).any(axis=1).all()
    stuck = after["constant_column"]
    for column in (0, 5, 12):
        assert len(np.unique(stuck[changed["constant_column"][:, column], column])) == 1
    steps = schema.to_unit(after["rounding"])[:, :13] + schema.offset[:13] / schema.span[:13]
    np.testing.assert_allclose(steps * 10, np.rint(steps * 10), atol=1e-3)


def test_swapped_rows_hold_the_same_numbers(schema: InputSchema, wine: np.ndarray) -> None:
    swapped = apply("swapped_columns", schema, wine, 5, np.random.default_rng(0))
    whole = ~np.isnan(wine).any(axis=1)  # a missing value stays where it may be
    np.testing.assert_array_equal(np.sort(swapped[whole]), np.sort(wine[whole]))


def test_values_too_large_for_float32_are_still_answered() -> None:
    schema = InputSchema("x", (1,), "float32", 0, 1, "tabular", (Column("a", high=3e38),))
    x = np.full((50, 1), 3e38, dtype=np.float32)
    for name in ("unit_change", "out_of_range"):
        schema.check(apply(name, schema, x, 5, np.random.default_rng(0)))


def test_random_benign_changes_every_kind_of_table_and_stays_valid(
    schema: InputSchema, wine: np.ndarray
) -> None:
    one, two = (random_benign(schema, wine, np.random.default_rng(4)) for _ in range(2))
    schema.check(one)
    np.testing.assert_array_equal(one, two)
    assert (~same(one, wine)).any(axis=1).mean() > 0.9
    towns = InputSchema(
        "x", (1,), "float32", 0, 1, "tabular",
        (Column("t", kind="categorical", categories=("A", "B")),),
    )  # fmt: skip
    rows = np.ones((20, 1), dtype=np.float32)
    assert (random_benign(towns, rows, np.random.default_rng(0)) == -1).all()
    assert set(BENIGN) == {"unseen_category", "noise", "rounding", "gain", "offset"}
