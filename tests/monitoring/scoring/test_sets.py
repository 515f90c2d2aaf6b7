"""Laws of prediction sets: they hold the true class as often as told, over many splits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.promises import SetFacts, sets_of
from monitoring.scoring.sets import fit_sets, place


def world(n: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are often, not always, right."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y], y


def softmax(logits: np.ndarray, heat: float) -> np.ndarray:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / heat)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_coverage_holds_over_fifty_splits(heat: float) -> None:
    logits, y = world(1200, 0)
    rng, covered, sizes = np.random.default_rng(1), [], []
    for _ in range(50):
        order = rng.permutation(len(y))
        held, fresh = order[:400], order[400:]
        facts = fit_sets(logits[held], y[held], heat)
        assert facts is not None
        assert facts.coverage == 0.99
        members = sets_of(softmax(logits[fresh], heat), facts.ratio)
        covered.append(members[np.arange(len(fresh)), y[fresh]].mean())
        sizes.append(members.sum(axis=1).mean())
    # The mean over splits is at least .99, and at most 1 / 401 more, but for the rows that repeat.
    assert 0.985 < np.mean(covered) < 0.9965
    assert 1 < np.mean(sizes) < 4


def test_the_rule_does_not_depend_on_the_temperature() -> None:
    logits, y = world(500, 3)
    sets = []
    for heat in (0.5, 2.0):
        facts = fit_sets(logits, y, heat)
        assert facts is not None
        sets.append(sets_of(softmax(logits, heat), facts.ratio))
    assert (sets[0] == sets[1]).mean() > 0.999


@given(st.integers(1, 400))
def test_few_rows_promise_less_or_nothing(n: int) -> None:
    logits, y = world(n, 5)
    facts = fit_sets(logits, y, 1.0)
    if n < 9:
        assert facts is None
    else:
        assert facts is not None
        assert facts.coverage == (0.99 if n >= 99 else 0.95 if n >= 19 else 0.9)
        assert place(n, facts.coverage) <= n


@given(st.integers(0, 50), st.floats(0, 1))
def test_no_set_is_empty_and_a_smaller_ratio_gives_larger_ones(seed: int, ratio: float) -> None:
    p = softmax(*[world(20, seed)[0]], 1.0)
    members = sets_of(p, ratio)
    assert members.any(axis=1).all()
    assert members[np.arange(20), p.argmax(axis=1)].all()
    assert (sets_of(p, ratio / 2) >= members).all()


def test_sets_that_hold_under_change_are_larger() -> None:
    logits, y = world(500, 7)
    own = logits[np.arange(500), y]
    lead = own - np.where(np.eye(4, dtype=bool)[y], -np.inf, logits).max(axis=1)
    facts = fit_sets(logits, y, 1.0, lead - 0.8)
    assert isinstance(facts, SetFacts)
    assert facts.certified_ratio is not None
    assert facts.certified_ratio == pytest.approx(facts.ratio * math.exp(-0.8), rel=1e-3)


def test_rows_without_finite_logits_are_never_called_covered() -> None:
    logits, y = world(300, 9)
    logits[:20] = np.nan
    facts = fit_sets(logits, y, 1.0)
    assert facts is not None
    assert facts.ratio == 0  # every class: nothing else holds so often
