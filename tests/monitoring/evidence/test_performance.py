import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.intervals import Proportion, proportion
from monitoring.evidence.performance import (
    accuracy_floor,
    expected_accuracy,
    has_fallen,
    judge,
    label_bias,
    observe,
    promised_accuracy,
)
from monitoring.records.store import Recent
from tests.models.report_example import read

CARD = Proportion(0.97, 0.95, 0.98, 300)
EVALUATION = read({"clean": msgspec.to_builtins(CARD)})
RETRAINED = msgspec.structs.replace(EVALUATION, window=Proportion(0.9, 0.8, 0.95, 60))


def live(right: int, n: int):
    return proportion(np.arange(n) < right)


def test_a_retrained_version_is_measured_against_its_window() -> None:
    assert expected_accuracy(promised_accuracy(EVALUATION)) == 0.97
    assert expected_accuracy(promised_accuracy(RETRAINED)) == 0.9
    assert accuracy_floor(promised_accuracy(EVALUATION)) == pytest.approx(0.94)
    assert accuracy_floor(promised_accuracy(RETRAINED)) == 0.8
    assert np.isnan(expected_accuracy(promised_accuracy(None)))


@pytest.mark.parametrize(
    ("right", "n", "verdict"),
    [
        (97, 97, "undecided"),  # too few rows
        (194, 200, "undecided"),  # 93.6 to 98.6 %: across the floor of 94 %
        (196, 200, "passed"),
        (184, 200, "undecided"),  # 87.4 to 95.0 %
        (180, 200, "failed"),  # 85.1 to 93.4 %
        (1890, 2000, "passed"),  # the interval holds the floor, the share is above it
        (1870, 2000, "failed"),
    ],
)
def test_verdict_needs_the_whole_interval_until_there_are_rows_enough(
    right: int, n: int, verdict: str
) -> None:
    told = judge(live(right, n), CARD)
    interval = live(right, n)
    assert told == verdict, interval


@given(n=st.integers(0, 3000), share=st.floats(0, 1))
def test_fallen_and_passed_exclude_each_other(n: int, share: float) -> None:
    seen = live(round(share * n), n)
    if has_fallen(seen, CARD):
        assert judge(seen, CARD) == "failed"
    if n < 100:
        assert judge(seen, CARD) == "undecided"
    if n >= 2000:
        assert judge(seen, CARD) != "undecided"


def recent(p_value: np.ndarray, predicted: np.ndarray, labelled: np.ndarray) -> Recent:
    n = len(p_value)
    return Recent(
        seq=np.arange(n),
        at=np.arange(n, dtype=float),
        predicted=predicted,
        p_value=p_value,
        label=np.where(labelled, predicted, -1),
    )


def traffic(rng: np.random.Generator, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    return rng.random(n), rng.integers(0, 10, n)


def test_labels_of_a_random_choice_are_not_called_biased() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        seen = recent(*traffic(rng), rng.random(2000) < rng.choice([0.03, 0.3, 0.97]))
        assert label_bias(seen) == ""


def test_labels_of_the_ordinary_requests_only_are_called_biased() -> None:
    rng = np.random.default_rng(0)
    p, predicted = traffic(rng)
    assert "median drift p-value" in label_bias(recent(p, predicted, p > rng.random(2000)))
    told = label_bias(recent(p, predicted, (predicted < 5) | (rng.random(2000) < 0.2)))
    assert "predicted classes" in told


def test_requests_after_the_last_label_and_a_few_labels_say_nothing_of_bias() -> None:
    rng = np.random.default_rng(0)
    p, predicted = traffic(rng)
    p[1000:] *= 0.01  # the traffic drifts; its labels are under way
    labelled = (np.arange(2000) < 1000) & (rng.random(2000) < 0.5)
    assert label_bias(recent(p, predicted, labelled)) == ""
    assert label_bias(recent(p, predicted, np.arange(2000) >= 1960)) == ""
    assert label_bias(recent(p, predicted, np.zeros(2000, dtype=bool))) == ""


def test_observed_holds_interval_coverage_and_delay() -> None:
    rng = np.random.default_rng(1)
    seen = recent(*traffic(rng, 400), np.arange(400) % 4 == 0)
    told = observe(np.arange(100) < 90, seen, np.arange(101.0))
    assert (told.accuracy.value, told.accuracy.n) == (0.9, 100)
    assert told.coverage.value == 0.25
    assert told.coverage.low < 0.25 < told.coverage.high
    assert (told.delay_median_seconds, told.delay_p90_seconds) == (50, 90)
    none = observe(
        np.empty(0, dtype=bool), recent(*traffic(rng, 0), np.empty(0, bool)), np.empty(0)
    )
    assert none.delay_median_seconds is None
    assert none.bias == ""
