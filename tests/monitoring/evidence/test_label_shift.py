"""Laws of the class shares: known mixtures are recovered, and the intervals are honest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics.arrays import FloatArray
from monitoring.evidence.label_shift import CONFUSION, confusion, label_shift, rates, true_shares

CLASSES = tuple("abcde")
RECALL = np.array([0.99, 0.95, 0.9, 0.97, 0.85])
EVEN = np.full(5, 0.2)


def truth() -> FloatArray:
    """P(predicted | true): wrong answers go to the next class."""
    a = np.diag(RECALL)
    a[(np.arange(5) + 1) % 5, np.arange(5)] = 1 - RECALL
    return a


def reference(rng: np.random.Generator, rows: int = 500) -> dict[str, FloatArray]:
    """What a bundle keeps of held-out rows, `rows` of each class."""
    counts = np.stack([rng.multinomial(rows, column) for column in truth().T], axis=1)
    return {CONFUSION: counts, "class/alpha": counts.sum(axis=1) + 0.2}


shares = st.lists(st.floats(0.02, 1), min_size=5, max_size=5).map(lambda q: np.array(q) / sum(q))


@given(q=shares)
def test_exact_mixtures_are_recovered(q: FloatArray) -> None:
    a = truth()
    np.testing.assert_allclose(true_shares(a, 1e6 * (a @ q), EVEN), q, atol=2e-3)


@given(counts=st.lists(st.integers(0, 500), min_size=5, max_size=5).filter(any))
def test_shares_are_a_distribution_whatever_is_predicted(counts: list[int]) -> None:
    q = true_shares(truth(), np.array(counts, dtype=float), EVEN)
    assert q.min() >= 0
    assert q.sum() == pytest.approx(1)


def test_intervals_cover_shares_and_accuracy_of_a_shifted_mix() -> None:
    q, inside, right, errors = np.array([0.5, 0.3, 0.1, 0.06, 0.04]), 0, 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        told = label_shift(reference(rng), CLASSES, rng.multinomial(1500, truth() @ q))
        assert told is not None
        inside += sum(s.low <= v <= s.high for s, v in zip(told.shares.values(), q, strict=True))
        right += told.accuracy.low <= RECALL @ q <= told.accuracy.high
        errors.append(told.accuracy.value - RECALL @ q)
    assert inside / 150 >= 0.9
    assert right >= 26
    assert abs(np.mean(errors)) < 0.004


def test_shares_before_are_those_of_the_reference() -> None:
    rng = np.random.default_rng(1)
    made = reference(rng)
    told = label_shift(made, CLASSES, rng.multinomial(1000, truth() @ EVEN))
    assert told is not None
    assert [s.before for s in told.shares.values()] == pytest.approx([0.2] * 5, abs=0.02)
    assert all(s.low <= s.value <= s.high for s in told.shares.values())
    assert told.requests == 1000


@given(st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=20)
def test_rates_are_distributions_and_shrink_to_the_average_class(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes - 1, 300)  # the last class has no row
    predicted = np.where(rng.random(300) < 0.9, y, rng.integers(0, classes, 300))
    counts = confusion(predicted, y, classes)
    assert counts.sum() == 300
    assert np.trace(counts) == (predicted == y).sum()
    a = rates(counts)
    np.testing.assert_allclose(a.sum(axis=0), 1)
    assert a[-1, -1] == pytest.approx((predicted == y).mean(), abs=0.01)


def test_no_confusion_or_hardly_any_requests_give_no_shares() -> None:
    made = reference(np.random.default_rng(0))
    assert label_shift({"class/alpha": EVEN}, CLASSES, np.full(5, 100.0)) is None
    assert label_shift(made, CLASSES, np.full(5, 9.0)) is None


def test_many_classes_cost_no_more_than_a_second_or_so() -> None:
    counts = np.eye(300) * 10
    names = tuple(map(str, range(300)))
    told = label_shift({CONFUSION: counts, "class/alpha": np.ones(300)}, names, np.full(300, 3.0))
    assert told is not None
    assert len(told.shares) == 300
