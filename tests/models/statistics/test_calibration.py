"""Laws of the calibration error: known values, equal mass, honest coverage."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.calibration import BINS, reliability, temperature
from models.statistics.shares import Proportion, Reliability


def test_known_value() -> None:
    confidence = np.repeat([0.6, 0.8, 1.0], 100)
    right = np.concatenate([np.arange(100) < share for share in (50, 80, 90)])
    told = reliability(confidence, right)
    assert told.ece.value == pytest.approx((0.1 + 0.0 + 0.1) / 3, abs=1e-4)
    assert told.ece.n == 300
    assert [b.accuracy for b in told.bins] == [0.5, 0.8, 0.9]
    assert [(b.low, b.high, b.n) for b in told.bins] == [
        (0.6, 0.6, 100), (0.8, 0.8, 100), (1.0, 1.0, 100),
    ]  # fmt: skip


def test_bins_are_of_equal_mass_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    spread = reliability(rng.random(1500), rng.random(1500) < 0.5).bins
    assert [b.n for b in spread] == [100] * BINS
    sure = np.where(rng.random(1000) < 0.8, 1.0, rng.random(1000))
    bins = reliability(sure, np.ones(1000, dtype=bool)).bins
    assert sum(b.low <= 1.0 <= b.high for b in bins) == 1
    assert bins[-1].n >= 780


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=200))
def test_every_row_is_in_one_bin_and_the_interval_holds_the_value(
    rows: list[tuple[float, bool]],
) -> None:
    confidence, right = (np.array(column) for column in zip(*rows, strict=True))
    told = reliability(confidence, right)
    ece, bins = told.ece, told.bins
    assert 0 <= ece.low <= ece.value <= ece.high <= 1
    assert sum(b.n for b in bins) == ece.n == len(rows)
    assert 1 <= len(bins) <= BINS
    for before, after in pairwise(bins):
        assert before.high <= after.low
    order = np.random.default_rng(0).permutation(len(rows))
    assert reliability(confidence[order], right[order]) == told


def test_no_rows_have_no_value() -> None:
    told = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    assert told == Reliability(Proportion(None, 0.0, 1.0, 0))


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("n", [300, 3000])
def test_interval_covers_the_true_error_as_often_as_promised(gap: float, n: int) -> None:
    # Over-confident by `gap` everywhere, so that the error of any bins is the gap.
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        confidence = rng.uniform(0.4 + gap, 1.0, n)
        ece = reliability(confidence, rng.random(n) < confidence - gap).ece
        covered += ece.low <= gap <= ece.high
    assert covered >= 0.95 * 300


def test_interval_narrows_with_the_rows_and_excludes_zero_when_the_error_is_plain() -> None:
    rng = np.random.default_rng(2)
    widths = []
    for n in (300, 3000, 30_000):
        confidence = rng.uniform(0.5, 1.0, n)
        ece = reliability(confidence, rng.random(n) < confidence - 0.2).ece
        widths.append(ece.high - ece.low)
        assert ece.low > 0
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]


@given(st.floats(-1.5, 1.5), st.integers(2, 6), st.integers(0, 5))
def test_temperature_is_recovered_from_labels_drawn_at_it(
    log_heat: float, classes: int, seed: int
) -> None:
    rng, heat = np.random.default_rng(seed), np.exp(log_heat)
    logits = rng.normal(0, 2 * heat, (4000, classes))
    gumbel = rng.gumbel(size=logits.shape)
    y = (logits / heat + gumbel).argmax(axis=1)  # drawn from softmax(logits / heat)
    assert temperature(logits, y) == pytest.approx(heat, rel=0.15)


def test_temperature_stays_in_doubt_where_all_rows_are_right() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    logits = 5.0 * np.eye(3)[y]
    heat = temperature(logits, y)
    p = np.exp(5 / heat) / (np.exp(5 / heat) + 2)
    assert p == pytest.approx(1 - 1 / 42, abs=0.01)
