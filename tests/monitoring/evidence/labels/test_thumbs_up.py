"""Laws of the test for thumbs-up-only feedback."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.labels import thumbs_up
from monitoring.evidence.labels.thumbs_up import ThumbsUpEvidence, factors, update


@given(g=st.floats(0, 1), more=st.floats(0, 1))
def test_no_bet_gains_in_the_mean_while_answers_are_wrong_as_often_as_p(
    g: float, more: float
) -> None:
    p = (1 - min(g, thumbs_up.MOST_CONFIDENT)) / thumbs_up.ROOM
    wrong_chance = p + more * (1 - p)
    right, wrong = factors(np.array([g]))
    at_p = (1 - p) * right + p * wrong
    np.testing.assert_allclose(at_p, 1, rtol=1e-9)
    assert ((1 - wrong_chance) * right + wrong_chance * wrong <= 1 + 1e-9).all()


def labels_of(accuracy: float, n: int, rng: np.random.Generator, errors: float = 1.0):
    """Calibrated probabilities, and answers that are wrong `errors` times as often."""
    g = 1 - rng.beta(0.25, 0.25 * (0.5 / (1 - accuracy) - 1), n) / 2
    return g, rng.random(n) >= errors * (1 - g)


@pytest.mark.parametrize("errors", [1 / thumbs_up.ROOM, 1.0, 3.0])
@pytest.mark.parametrize("accuracy", [0.98, 0.9])
def test_honest_labels_are_believed(accuracy: float, errors: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        g, right = labels_of(accuracy, 2000, rng, errors)
        assert not update(ThumbsUpEvidence(), right, g).seen


@pytest.mark.parametrize(("accuracy", "most"), [(0.98, 1000), (0.94, 400), (0.82, 200)])
def test_only_thumbs_up_is_seen_within_a_thousand_labels(accuracy: float, most: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        g, right = labels_of(accuracy, 4 * most, rng)
        praised = g[right][:most]
        assert update(ThumbsUpEvidence(), np.ones(len(praised), bool), praised).seen


def test_nearly_only_thumbs_up_is_seen_too_and_honesty_is_believed_again() -> None:
    rng = np.random.default_rng(2)
    g, right = labels_of(0.9, 6000, rng)
    chosen = right | (rng.random(6000) < 0.1)  # one wrong answer in ten gets its label
    evidence = update(ThumbsUpEvidence(), right[chosen], g[chosen])
    assert evidence.seen
    g, right = labels_of(0.9, 1500, rng)
    assert not update(evidence, right, g).seen


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=60), st.integers(0, 60))
def test_labels_may_come_in_any_pieces(labels: list[tuple[bool, float]], cut: int) -> None:
    right = np.array([answer for answer, _ in labels], bool)
    g = np.array([chance for _, chance in labels], np.float64)
    part = update(ThumbsUpEvidence(), right[:cut], g[:cut])
    whole = update(ThumbsUpEvidence(), right, g)
    assert update(part, right[cut:], g[cut:]) == whole
