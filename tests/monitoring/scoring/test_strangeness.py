"""Laws of the strangeness: which side counts, and that classes are measured alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.arrays import FloatArray
from monitoring.scoring.strangeness import MOST, ClassStrangeness, Excess, whitening


def usual(seed: int, rows: int = 2000) -> FloatArray:
    """Two scores of training rows: the second is strange where it is low, and is mostly 1."""
    rng = np.random.default_rng(seed)
    low = np.where(rng.random(rows) < 0.004, 0.9, 1.0)
    return np.stack([rng.normal(size=rows), low], axis=1).astype(np.float32)


def test_only_the_strange_side_of_a_tables_score_counts() -> None:
    measure = Excess.fit(usual(0), np.array([1, -1]))
    rows = np.float32([[-1, 1], [-5, 1], [5, 1], [-1, 1.5], [-1, 0.5]])
    told = measure.of(rows)
    assert told[1] == told[3] == 0, "low energy and more than all inside are no strangeness"
    assert told[2] == pytest.approx((5 / 1.645) ** 2, rel=0.15)
    assert told[4] == MOST**2, "one score counts 50 spreads at most"


def test_score_that_never_varies_has_a_spread() -> None:
    measure = Excess.fit(np.ones((50, 1), np.float32), np.array([1]))
    assert np.isfinite(measure.slope).all()
    assert measure.of(np.float32([[1.0]])) == 0


def test_classes_of_another_spread_are_measured_alike() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.integers(0, 2, 4000)
    scores = (np.abs(rng.normal(size=4000)) * (1 + 4 * predicted))[:, None].astype(np.float32)
    measure = Excess(np.zeros(1, np.float32), np.ones(1, np.float32))
    half = np.arange(4000) < 2000
    fitted = ClassStrangeness.fit(measure, scores[half], predicted[half], 2)
    told, own = fitted.of(scores[~half], predicted[~half]), predicted[~half]
    cut = np.quantile(told, 0.9)
    rates = [float((told[own == label] > cut).mean()) for label in (0, 1)]
    assert max(rates) < 0.13
    plain = scores[~half, 0]
    assert (plain[own == 0] > np.quantile(plain, 0.9)).mean() < 0.01, "without it none of class 0"


def test_class_without_rows_is_measured_like_all() -> None:
    rng = np.random.default_rng(2)
    scores = np.abs(rng.normal(size=(500, 1))).astype(np.float32)
    measure = Excess(np.zeros(1, np.float32), np.ones(1, np.float32))
    fitted = ClassStrangeness.fit(measure, scores, np.zeros(500, np.int64), 3)
    np.testing.assert_allclose(fitted.slope[1:], fitted.slope[0], rtol=1e-3)
    np.testing.assert_allclose(fitted.shift[1:], fitted.shift[0], rtol=1e-3)


@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.1, 1.0, 1e4, -1e4]), min_size=12, max_size=60),
    st.integers(1, 4),
)
def test_whitening_is_finite_for_scores_that_hardly_vary_or_repeat_each_other(
    values: list[float], columns: int
) -> None:
    one = np.array(values)
    scores = np.stack([one * 10.0**-k for k in range(columns)], axis=1).astype(np.float32)
    centre, matrix = whitening(scores)
    distance = ((scores @ matrix - centre @ matrix) ** 2).sum(axis=1)
    assert np.isfinite(matrix).all()
    assert np.isfinite(distance).all()
    assert np.median(distance) <= 2e3
