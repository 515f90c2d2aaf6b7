"""Which rows are worth a label: random first, then the doubtful cells, and the figure unbiased."""

import numpy as np

from monitoring.evidence.labels.asking import RANDOM_FIRST, choose_to_label
from monitoring.evidence.labels.poststratified import poststratify


def test_nothing_is_asked_twice_and_not_more_than_wanted() -> None:
    rng = np.random.default_rng(0)
    sure, labelled = rng.random(500), rng.random(500) < 0.5
    for count in (0, 20, 1000):
        chosen = choose_to_label(sure, labelled, count, rng)
        assert len(set(chosen.tolist())) == len(chosen) <= count
        assert not labelled[chosen].any()


def test_the_first_labels_are_a_random_sample() -> None:
    rng, sure = np.random.default_rng(1), np.linspace(0.1, 1, 2000)
    labelled = np.zeros(2000, np.bool_)
    labelled[: RANDOM_FIRST - 1] = True
    mean = np.mean([sure[choose_to_label(sure, labelled, 50, rng)].mean() for _ in range(200)])
    assert abs(mean - sure[~labelled].mean()) < 0.01


def test_later_ones_go_where_answers_are_in_doubt() -> None:
    rng, sure = np.random.default_rng(2), np.concatenate([np.full(1000, 0.6), np.full(1000, 0.999)])
    sure += rng.uniform(-1e-4, 1e-4, 2000)
    labelled = np.zeros(2000, np.bool_)
    labelled[rng.permutation(2000)[:RANDOM_FIRST]] = True
    chosen = choose_to_label(sure, labelled, 100, rng)
    assert (sure[chosen] < 0.8).mean() > 0.7


def test_the_weighted_accuracy_stays_unbiased() -> None:
    rng, errors = np.random.default_rng(3), []
    for _ in range(60):
        sure = 0.1 + 0.9 * rng.beta(6.0, 0.5, 1000)
        right, labelled = rng.random(1000) < sure, np.zeros(1000, np.bool_)
        labelled[rng.permutation(1000)[:RANDOM_FIRST]] = True
        labelled[choose_to_label(sure, labelled, 150, rng)] = True
        told = poststratify(sure, sure[labelled], right[labelled])
        assert told is not None
        errors.append(told.value - right.mean())
    assert abs(float(np.mean(errors))) < 3 * float(np.std(errors)) / np.sqrt(60) + 1e-3
