"""Laws of the cuts: every value has a bin, and what training never showed has its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.schema import Column, InputSchema
from monitoring.scoring.channels.table_cuts import (
    MOST_TOGETHER,
    choose_together,
    count_bins,
    cut_column,
    few_values,
    find_bins,
)

NUMBER = Column("n", missing=True)
numbers = st.floats(-1e6, 1e6, width=32)


@given(st.lists(numbers | st.just(float("nan")), min_size=1, max_size=200))
def test_training_values_lie_inside_and_others_in_the_outer_bins(values: list[float]) -> None:
    x = np.array(values, np.float32)
    cuts = cut_column(NUMBER, x)
    bins, known = find_bins(x, cuts), np.isfinite(x)
    assert (np.diff(cuts) >= 0).all()
    assert (bins[~known] == 0).all()
    if known.any():
        assert bins[known].min() > 1
        assert bins[known].max() < len(cuts)
        far = np.float32([np.nan, x[known].min() * 2 - 1e7, x[known].max() * 2 + 1e7])
        assert find_bins(far, cuts).tolist() == [0, 1, len(cuts)]


def test_values_that_differ_by_rounding_are_in_one_bin() -> None:
    rng = np.random.default_rng(0)
    for x in (np.repeat(np.float32([0, 0.3, 1]), 40), rng.random(300).astype(np.float32)):
        cuts, inside = cut_column(NUMBER, x), (x > x.min()) & (x < x.max())
        for end in (-10, 10):
            moved = np.nextafter(x, np.float32(end))
            np.testing.assert_array_equal(
                find_bins(moved, cuts)[inside], find_bins(x, cuts)[inside]
            )


def test_few_values_have_a_bin_each_and_so_has_what_lies_between() -> None:
    x = np.repeat(np.float32([0, 0.25, 1]), 40)
    assert few_values(x).tolist() == [0, 0.25, 1]  # type: ignore[union-attr]
    cuts = cut_column(NUMBER, x)
    bins = find_bins(np.float32([0, 0.1, 0.25, 0.5, 1]), cuts)
    assert len(set(bins.tolist())) == 5


def test_many_values_are_cut_at_quantiles() -> None:
    x = np.random.default_rng(0).random(1000).astype(np.float32)
    cuts = cut_column(NUMBER, x)
    counts = np.bincount(find_bins(x, cuts))
    assert few_values(x) is None
    assert len(counts[counts > 0]) == count_bins(1000) == 12
    assert counts[counts > 0].min() == pytest.approx(1000 / 12, rel=0.1)


def test_rare_categories_next_to_each_other_share_a_bin() -> None:
    column = Column("c", "categorical", categories=tuple(map(str, range(60))))
    codes = np.concatenate([np.repeat(np.arange(0, 48, 2), 20), np.arange(60)])
    cuts = cut_column(column, codes.astype(np.float32))
    bins = find_bins(np.arange(-1, 61).astype(np.float32), cuts)
    assert bins[0] == 1, "an unseen category"
    assert bins[-1] == len(cuts)
    assert bins[-2] < len(cuts), "the last category is one"
    frequent = bins[1:-1][0:48:2]
    assert len(set(frequent.tolist())) == 24
    assert len(set(bins[50:60].tolist())) == 1


def test_of_many_columns_those_that_tell_most_are_looked_at() -> None:
    rng, width = np.random.default_rng(0), MOST_TOGETHER + 6
    x = rng.random((300, width)).astype(np.float32)
    x[:, 3:9] = 0.5
    columns = tuple(Column(f"n{k}") for k in range(width))
    schema = InputSchema("row", (width,), "float32", 0.0, 1.0, "tabular", columns)
    assert choose_together(schema, x) == [k for k in range(width) if not 3 <= k < 9]
