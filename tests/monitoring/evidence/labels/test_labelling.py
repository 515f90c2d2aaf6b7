"""Laws of the test for the choice of labels: fair under any traffic, and soon aware of a choice."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from monitoring.evidence.labels import labelling
from monitoring.evidence.labels.labelling import (
    INTERVAL,
    LN_OMEGA,
    LabellingEvidence,
    accumulate,
    cells_of,
    ln_e_values,
    ln_normaliser,
    update,
)

CLASSES = ("ant", "bee", "cat", "dog")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@given(st.integers(0, INTERVAL), st.integers(0, INTERVAL))
def test_mean_of_every_e_value_of_a_random_sample_is_exactly_one(in_cell: int, n: int) -> None:
    both = np.arange(max(0, in_cell + n - INTERVAL), min(in_cell, n) + 1)
    probability = hypergeom(INTERVAL, in_cell, n).pmf(both)
    e = np.exp(both * LN_OMEGA[:, None] - ln_normaliser(in_cell, n)[:, None])
    np.testing.assert_allclose(e @ probability, 1, rtol=1e-8)


def test_the_weights_of_all_beginnings_add_up_to_one() -> None:
    m = np.zeros((1, 1))
    for t in range(1, 2000):
        m = accumulate(m, np.zeros((1, 1)), t)  # e-values of 1
        assert m[0, 0] <= 1
    assert m[0, 0] > 0.999


def test_a_random_sample_of_drifting_traffic_passes_any_bar_as_seldom_as_promised() -> None:
    """At a bar of 20 in place of 1000: 1 in 20 streams at most, over 60 intervals each."""
    rng, streams, bar = np.random.default_rng(0), 150, 20.0
    crossed = 0
    for _ in range(streams):
        m, peak = np.zeros((8 + len(CLASSES), len(LN_OMEGA))), 0.0
        for t in range(1, 61):
            confidence = rng.beta(8 - t / 10, 1, INTERVAL)
            mix = np.array([0.1 + t / 100, 0.3, 0.2, 0.1])
            predicted = rng.choice(len(CLASSES), INTERVAL, p=mix / mix.sum())
            p_value = rng.random(INTERVAL) ** (1 + t / 20)
            cells = cells_of(confidence, p_value, predicted, len(CLASSES))
            m = accumulate(m, ln_e_values(cells, rng.random(INTERVAL) < 0.3), t)
            peak = max(peak, float(m.mean()))
        crossed += peak >= bar
    assert crossed / streams <= 1 / bar + 3 * np.sqrt(0.05 * 0.95 / streams)


Chance = Callable[[Floats, Ints], Floats]  # of a label, from ranks in [0, 1] and classes


def labels_until_seen(chance: Chance, seed: int, *, random: int = 0) -> tuple[int, str]:
    """Labels until a choice is seen after some intervals of random ones; and its words."""
    rng, evidence, labels = np.random.default_rng(seed), LabellingEvidence(), 0
    for t in range(200):
        confidence, predicted = rng.random(INTERVAL), rng.integers(0, len(CLASSES), INTERVAL)
        rate = np.full(INTERVAL, 0.2) if t < random else chance(confidence, predicted)
        labelled = rng.random(INTERVAL) < rate
        labels += int(labelled.sum()) * (t >= random)
        p_value = rng.random(INTERVAL)
        evidence = update(evidence, confidence, p_value, predicted, labelled, classes=len(CLASSES))
        if evidence.choice is not None:
            return labels, evidence.choice.words(CLASSES)
    return 10**6, ""


@pytest.mark.parametrize(
    ("chance", "most", "words"),
    [
        (lambda rank, _: np.where(rank < 0.25, 0.4, 0.1), 90, "25 % of requests with the lowest"),
        (lambda rank, _: np.where(rank < 0.25, 0.0, 0.2), 90, "get labels less often"),
        (lambda rank, _: np.where(rank < 0.05, 1.0, 0.1), 150, "5 % of requests with the lowest"),
        (lambda _, answered: np.where(answered == 2, 0.0, 0.2), 120, "'cat' get labels less"),
        (lambda _, answered: np.where(answered == 3, 0.6, 0.1), 90, "'dog' get labels more"),
    ],
    ids=["hardest four times", "hardest never", "few hardest always", "class never", "class often"],
)
def test_a_choice_is_seen_soon_and_named(chance: Chance, most: int, words: str) -> None:
    seen = [labels_until_seen(chance, seed) for seed in range(15)]
    assert np.median([labels for labels, _ in seen]) <= most
    assert sum(words in sentence for _, sentence in seen) >= 12, seen


def test_labels_of_strange_inputs_only_are_seen() -> None:
    rng, evidence = np.random.default_rng(0), LabellingEvidence()
    for _ in range(20):
        p_value, predicted = rng.random(INTERVAL), rng.integers(0, 4, INTERVAL)
        labelled = rng.random(INTERVAL) < np.where(p_value < 0.2, 0.8, 0.05)
        evidence = update(evidence, rng.random(INTERVAL), p_value, predicted, labelled, classes=4)
    assert evidence.choice is not None
    assert "lowest drift p-values get labels more often" in evidence.choice.words(CLASSES)


def test_a_choice_that_begins_late_is_seen_as_well() -> None:
    def hardest(rank: Floats, _: Ints) -> Floats:
        return np.where(rank < 0.25, 0.4, 0.1)

    seen = [labels_until_seen(hardest, seed, random=60)[0] for seed in range(10)]
    assert np.median(seen) <= 150


def test_a_choice_is_forgotten_when_labels_are_a_random_sample_again() -> None:
    rng, evidence = np.random.default_rng(0), LabellingEvidence()
    seen = []
    for t in range(140):
        confidence, predicted = rng.random(INTERVAL), rng.integers(0, 4, INTERVAL)
        labelled = confidence < 0.2 if t < 20 else rng.random(INTERVAL) < 0.2
        evidence = update(
            evidence, confidence, rng.random(INTERVAL), predicted, labelled, classes=4
        )
        seen.append(evidence.choice is not None)
    assert seen[19]
    assert seen[40]
    assert not seen[-1]


def test_intervals_without_a_choice_say_nothing() -> None:
    confidence, predicted = np.linspace(0, 1, INTERVAL), np.zeros(INTERVAL, np.int64)
    for labelled in (np.zeros(INTERVAL, bool), np.ones(INTERVAL, bool)):
        before = LabellingEvidence()
        assert update(before, confidence, confidence, predicted, labelled, classes=2) == before


def test_cells_rank_within_the_interval_and_many_classes_share_cells() -> None:
    confidence = np.full(INTERVAL, 1.0)  # a model that is always sure
    cells = cells_of(confidence, confidence, np.arange(INTERVAL) * 10, 1000)
    assert cells[:, :8].sum(axis=0).tolist() == [2, 5, 25, 50] * 2
    assert cells.shape[1] == labelling.RANK_CELLS + labelling.CLASS_CELLS
    assert (cells[:, 8:].sum(axis=1) == 1).all()
