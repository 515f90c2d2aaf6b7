"""Laws of rank cells: weights that sum to n + 1, and shares that fresh scores really have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.arrays import FloatArray
from models.statistics.ranks import (
    RANKS,
    class_weights,
    rank_cells,
    rank_edges,
    score_weights,
    steady,
)

distinct = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=150, unique=True).map(
    lambda v: np.array(v, dtype=np.float32)
)
tied = st.lists(st.integers(-4, 4), min_size=1, max_size=150).map(lambda v: np.array(v, np.float32))


@given(st.one_of(distinct, tied))
def test_weights_sum_to_n_plus_one_and_cells_are_in_range(scores: FloatArray) -> None:
    edges = rank_edges(scores)
    assert (np.diff(edges) < 0).all(), "falling, ties merged"
    assert 1 <= len(edges) <= len(RANKS)
    assert np.isin(edges, scores).all()
    weights = score_weights(scores, edges)
    assert weights.shape == (len(edges) + 1,)
    assert weights.sum() == len(scores) + 1
    assert (weights >= 1).all(), "a cell without weight would refuse requests"
    for values in (scores, np.array([-np.inf, np.inf, -1e30, 1e30, 0.0], dtype=np.float32)):
        cells = rank_cells(values, edges)
        assert cells.min() >= 0
        assert cells.max() <= len(edges)


# Closer than two hairs is one score to the cells: these lie a thousandth apart or are equal.
apart = distinct.map(lambda v: np.unique(np.round(v, 3)).astype(np.float32))


@given(st.one_of(apart, tied), st.integers(0, 9))
def test_steady_cells_keep_their_weights_and_do_not_part_equal_scores(
    scores: FloatArray, seed: int
) -> None:
    edges = steady(rank_edges(scores))
    assert (np.diff(edges) < 0).all()
    weights = score_weights(scores, edges)
    assert weights.sum() == len(scores) + 1
    assert (weights >= 1).all()
    near = 3e-7 * np.maximum(1.0, np.abs(scores))
    rounded = scores + near * np.random.default_rng(seed).choice([-1.0, 1.0], len(scores))
    ties = np.isin(scores, rank_edges(scores)) & (np.abs(scores - np.rint(scores)) == 0)
    np.testing.assert_array_equal(rank_cells(rounded, edges)[ties], rank_cells(scores, edges)[ties])


@given(distinct)
def test_fresh_exchangeable_scores_fall_into_cells_with_the_urns_shares(pool: FloatArray) -> None:
    # Exact: n held-out scores and a fresh one are a pool, each as likely the fresh one.
    n = len(pool) - 1
    alpha = np.zeros(0)
    landed = np.zeros(0)
    for k, fresh in enumerate(pool):
        held = np.delete(pool, k)
        edges = rank_edges(held)
        alpha = score_weights(held, edges)
        landed = np.zeros(len(alpha)) if k == 0 else landed
        landed[rank_cells(np.array([fresh]), edges)[0]] += 1
    assert alpha.sum() == n + 1
    np.testing.assert_array_equal(landed, alpha)


@given(tied)
def test_cells_fall_with_the_score(scores: FloatArray) -> None:
    cells = rank_cells(np.sort(scores), rank_edges(scores))
    assert (np.diff(cells) <= 0).all()
    assert cells[-1] == 0, "the largest held-out score lies in the top cell"


def test_many_scores_are_cut_into_72_cells_fine_in_the_tails() -> None:
    scores = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    weights = score_weights(scores, rank_edges(scores))
    assert len(weights) == len(RANKS) + 1
    upper, lower = np.cumsum(weights), np.cumsum(weights[::-1])
    np.testing.assert_allclose(upper[:3] / 5001, [0.001, 0.002, 0.005], atol=2e-4)
    np.testing.assert_allclose(lower[:3] / 5001, [0.001, 0.002, 0.005], atol=4e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_class_weights_sum_to_n_plus_one_and_leave_no_class_out(predicted: list[int]) -> None:
    weights = class_weights(np.array(predicted), 5)
    assert weights.sum() == pytest.approx(len(predicted) + 1)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights - 0.2, np.bincount(predicted, minlength=5))
