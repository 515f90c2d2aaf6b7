"""Laws of the corrected accuracy: right on average, honest about what it cannot know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.labels.poststratified import poststratify


def one(times: float, n: int, rng: np.random.Generator):
    """True accuracy, the labelled rows' own, and the correction, where some are labelled more."""
    confidence = rng.random(2000)
    error = 0.12 * np.exp(-6 * confidence)
    right = rng.random(2000) >= error
    weight = np.where(confidence < 0.25, times, 1.0)
    some = rng.choice(2000, n, replace=False, p=weight / weight.sum())
    corrected = poststratify(confidence, confidence[some], right[some])
    return 1 - error.mean(), right[some].mean(), corrected


@pytest.mark.parametrize("times", [1.0, 4.0, 0.25])
def test_a_choice_by_confidence_is_mended_and_the_interval_covers(times: float) -> None:
    rng = np.random.default_rng(0)
    true, raw, corrected = zip(*(one(times, 500, rng) for _ in range(200)), strict=True)
    assert np.mean([c.value for c in corrected]) == pytest.approx(np.mean(true), abs=0.003)
    if times == 4.0:
        assert np.mean(true) - np.mean(raw) > 0.012, "the labels alone mislead"
    covered = [c.low <= t <= c.high for c, t in zip(corrected, true, strict=True)]
    assert np.mean(covered) >= 0.92


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
)
def test_the_interval_holds_the_value_and_lies_in_the_unit_range(
    requests: list[float], labels: list[tuple[float, bool]]
) -> None:
    labelled = np.array([confidence for confidence, _ in labels])
    right = np.array([answer for _, answer in labels], bool)
    corrected = poststratify(np.array(requests), labelled, right)
    if corrected is not None:
        assert 0 <= corrected.low <= corrected.high <= 1
        assert corrected.low - 1e-4 <= corrected.value * (1 - corrected.unseen) + 1e-4
        assert corrected.n == len(labels)
        assert corrected.value == 1.0 or not right.all()


def test_cells_without_labels_widen_the_interval_and_many_of_them_leave_no_figure() -> None:
    confidence, rng = np.linspace(0, 1, 1000), np.random.default_rng(0)
    sure = rng.uniform(0.21, 1, 400)
    corrected = poststratify(confidence, sure, np.ones(400, bool))
    assert corrected is not None
    assert corrected.unseen == pytest.approx(0.2, abs=0.02)
    assert corrected.low < 0.81, "they may all be wrong"
    assert corrected.high == 1
    assert poststratify(confidence, rng.uniform(0.5, 1, 400), np.ones(400, bool)) is None
    assert poststratify(confidence, np.empty(0), np.empty(0, bool)) is None
    assert poststratify(np.empty(0), sure, np.ones(400, bool)) is None
