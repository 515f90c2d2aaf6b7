"""Laws of the statistics: known values, honest coverage, agreement with other libraries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from models.statistics.intervals import (
    auroc,
    auroc_interval,
    design_effect,
    false_positive_interval,
    mean_corruption_error,
    paired_difference,
    proportion,
    roc,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Wilson's score interval without continuity correction: (p + z^2/2n -+ ...) / (1 + z^2/n)
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_of_a_share_is_newcombes_table(
    right: int, n: int, low: float, high: float
) -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    told = proportion(np.arange(n) < right)
    assert (told.value, told.n) == (round(right / n, 4), n)
    assert told.low == pytest.approx(low, abs=1e-4)
    assert told.high == pytest.approx(high, abs=1e-4)


def test_share_of_nothing_is_unknown_with_the_widest_interval() -> None:
    told = proportion(np.zeros(0, dtype=bool))
    assert math.isnan(told.value)
    assert (told.low, told.high, told.n) == (0, 1, 0)


def test_interval_of_a_share_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.97):
        told = [proportion(rng.random(300) < truth) for _ in range(600)]
        covered = np.mean([t.low <= truth <= t.high for t in told])
        assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize("alike", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("count", "truth"), [(10, 0.9), (50, 0.5), (50, 0.97), (200, 0.9)])
def test_interval_over_groups_covers_the_truth_however_alike_their_rows_are(
    count: int, truth: float, alike: float
) -> None:
    """Rows of a group share a beta-distributed rate with intraclass correlation `alike`."""
    rng, covered, covered_by_rows = np.random.default_rng(4), [], []
    for _ in range(300):
        groups = np.repeat(np.arange(count), rng.geometric(0.1, size=count))
        rates = np.full(count, truth)
        if alike == 1:
            rates = (rng.random(count) < truth).astype(float)
        elif alike > 0:
            rest = (1 - alike) / alike
            rates = rng.beta(truth * rest, (1 - truth) * rest, size=count)
        right = rng.random(len(groups)) < rates[groups]
        for told, of in (
            (proportion(right, groups), covered),
            (proportion(right), covered_by_rows),
        ):
            of.append(told.low <= truth <= told.high)
    assert np.mean(covered) >= 0.91
    if alike >= 0.5:
        assert np.mean(covered_by_rows) < 0.75, "counting rows would promise too much"


@given(st.integers(0, 1000))
def test_design_effect_lies_between_independent_rows_and_groups_of_one_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(1, 30), 100)
    right = rng.random(100) < 0.8
    sizes = np.bincount(groups)
    assert 1 <= design_effect(right, groups) <= (sizes**2).sum() / 100 + 1e-9
    assert design_effect(right, np.arange(100)) == 1
    assert design_effect(right, np.zeros(100, np.int64)) == 100


def test_paired_bound_over_groups_is_lower_where_they_change_together() -> None:
    groups = np.repeat(np.arange(20), 20)
    before, after = np.ones(400, bool), groups >= 2
    one_by_one = np.random.default_rng(3).permutation(after)
    together = paired_difference(before, after, groups=groups)
    assert together[0] == paired_difference(before, after)[0]
    assert together[1] < paired_difference(before, after)[1] - 0.05
    assert together[1] < paired_difference(before, one_by_one, groups=groups)[1]


@pytest.mark.parametrize(
    ("lost", "won", "n"), [(0.02, 0.02, 360), (0.1, 0.15, 100), (0.0, 0.01, 360), (0.2, 0.1, 60)]
)
def test_paired_bound_lies_below_the_truth_95_times_in_100(lost: float, won: float, n: int) -> None:
    rng, runs = np.random.default_rng(1), 3000
    u = rng.random((runs, n))
    before, after = u >= won, (u < won) | (u >= won + lost)  # of every row's three fates
    below = np.mean(
        [paired_difference(b, a)[1] <= won - lost for b, a in zip(before, after, strict=True)]
    )
    assert below >= 0.935
    if lost + won > 0.1:
        assert below <= 0.985, "a bound that is far too low proves nothing"


def test_paired_bound_uses_the_pairing() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(400) < 0.8
    same, other = before.copy(), rng.permutation(before)
    same[:2] = ~same[:2]
    assert paired_difference(before, same)[1] > -0.02
    assert paired_difference(before, other)[1] < -0.03


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_paired_difference_is_that_of_the_accuracies(pairs: list[tuple[bool, bool]]) -> None:
    before, after = np.array(pairs).T
    difference, low = paired_difference(before, after)
    assert difference == pytest.approx(after.mean() - before.mean())
    assert low < difference
    opposite, other_low = paired_difference(after, before)
    assert opposite == pytest.approx(-difference)
    assert low <= -other_low


def test_no_pairs_prove_nothing() -> None:
    nothing = np.zeros(0, dtype=bool)
    difference, low = paired_difference(nothing, nothing)
    assert math.isnan(difference)
    assert low == -1


@pytest.mark.parametrize("held", [99, 361, 2000])
def test_false_positives_of_a_conformal_threshold_fall_into_the_interval(held: int) -> None:
    alpha, n, runs = 0.01, 368, 4000
    rng = np.random.default_rng(3)
    k = math.floor(alpha * (held + 1))
    limits = np.partition(rng.random((runs, held)), held - k, axis=1)[:, held - k]
    flagged = (rng.random((runs, n)) >= limits[:, None]).sum(axis=1)
    low, high = false_positive_interval(alpha, held, n)
    assert np.mean((flagged < low) | (flagged > high)) <= 0.003
    low, high = false_positive_interval(alpha, held, n, level=0.5)
    assert 0.4 < np.mean((flagged >= low) & (flagged <= high)) < 0.85


@pytest.mark.parametrize("held", [99, 361, 1000])
def test_one_fresh_row_is_flagged_with_probability_k_in_held_plus_one(held: int) -> None:
    rate = math.floor(0.01 * (held + 1)) / (held + 1)
    for upper, high in ((1 - rate * 1.001, 0), (1 - rate * 0.999, 1)):
        assert false_positive_interval(0.01, held, 1, level=2 * upper - 1) == (0, high)


def test_threshold_that_cannot_be_set_flags_nothing() -> None:
    assert false_positive_interval(0.01, 98, 1000) == (0, 0)
    assert false_positive_interval(0.01, 99, 1000)[1] > 0


scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(lambda v: np.array(v, float))


@given(scores, scores)
def test_auroc_is_scikit_learns_with_ties(negative: np.ndarray, positive: np.ndarray) -> None:
    labels = np.repeat([0, 1], [len(negative), len(positive)])
    expected = roc_auc_score(labels, np.concatenate([negative, positive]))
    assert auroc(negative, positive) == pytest.approx(expected)
    assert auroc(negative, positive) + auroc(positive, negative) == pytest.approx(1)


@given(scores, scores)
def test_interval_of_the_auroc_holds_it_and_mirrors(
    negative: np.ndarray, positive: np.ndarray
) -> None:
    low, high = auroc_interval(negative, positive)
    assert 0 <= low <= auroc(negative, positive) + 1e-9
    assert auroc(negative, positive) - 1e-9 <= high <= 1
    assert high - low > 0.05, "thirty rows never say so much"
    mirrored = auroc_interval(positive, negative)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


@pytest.mark.parametrize(("distance", "n", "m"), [(0.0, 60, 60), (1.0, 60, 40), (2.5, 100, 100)])
def test_interval_of_the_auroc_covers_the_truth(distance: float, n: int, m: int) -> None:
    rng, runs = np.random.default_rng(4), 500
    truth = stats.norm.cdf(distance / math.sqrt(2))
    covered = 0
    for _ in range(runs):
        low, high = auroc_interval(rng.normal(size=n), rng.normal(distance, size=m))
        covered += low <= truth <= high
    assert covered / runs >= 0.93


@given(scores, scores, st.integers(2, 60))
def test_roc_rises_from_corner_to_corner_with_the_area_of_the_auroc(
    negative: np.ndarray, positive: np.ndarray, points: int
) -> None:
    curve = np.array(roc(negative, positive))
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert (np.diff(curve, axis=0) >= 0).all()
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(
        auroc(negative, positive), abs=1e-3
    )
    thin = roc(negative, positive, points)
    assert len(thin) <= points
    assert {tuple(p) for p in thin} <= {tuple(p) for p in curve.tolist()}
    assert (thin[0], thin[-1]) == ((0, 0), (1, 1))


def test_corruption_error_covers_the_truth_though_kinds_share_their_rows() -> None:
    # Rows are easy or hard under all kinds at once, as real ones are.
    rng, runs, n = np.random.default_rng(5), 400, 200
    covered = 0
    for _ in range(runs):
        own, theirs = (
            [rng.random((5, n)) < hard * rate for rate in (0.3, 0.5)]
            for hard in rng.uniform(0, 1, (2, n))
        )
        rates = [wrong.mean(axis=1) for wrong in theirs]
        value, low, high = mean_corruption_error(own, rates, n)
        assert low <= value <= high
        covered += low <= 1 <= high
    assert covered / runs >= 0.95


def test_corruption_error_of_a_reference_without_errors_is_finite() -> None:
    none, some = np.zeros((5, 100), dtype=bool), np.arange(500).reshape(5, 100) < 3
    assert mean_corruption_error([none], [np.zeros(5)], 100)[0] == 1
    value, low, high = mean_corruption_error([some], [np.zeros(5)], 100)
    assert value == pytest.approx(6)
    assert low < value < high < math.inf
