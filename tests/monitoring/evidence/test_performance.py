import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from monitoring.evidence.performance import (
    accuracy_floor,
    expected_accuracy,
    has_fallen,
    judge,
    observe,
    promised_accuracy,
)
from monitoring.records.store import LabelledAnswers, Recent
from tests.models.report_example import read

CARD = Proportion(0.97, 0.95, 0.98, 300)
EVALUATION = read({"clean": msgspec.to_builtins(CARD)})
RETRAINED = msgspec.structs.replace(EVALUATION, window=Proportion(0.9, 0.8, 0.95, 60))


def live(right: int, n: int):
    return proportion(np.arange(n) < right)


def test_a_retrained_version_is_measured_against_its_window() -> None:
    assert expected_accuracy(promised_accuracy(EVALUATION)) == 0.97
    assert expected_accuracy(promised_accuracy(RETRAINED)) == 0.9
    assert accuracy_floor(promised_accuracy(EVALUATION)) == 0.95
    many = Proportion(0.97, 0.965, 0.975, 5000)
    assert accuracy_floor(many) == pytest.approx(0.96)
    assert accuracy_floor(promised_accuracy(RETRAINED)) == 0.8
    assert np.isnan(expected_accuracy(promised_accuracy(None)))


@pytest.mark.parametrize(
    ("right", "n", "verdict"),
    [
        (97, 97, "undecided"),  # too few rows
        (194, 200, "undecided"),  # 93.6 to 98.6 %: across the floor of 95 %
        (198, 200, "passed"),
        (186, 200, "undecided"),  # 88.6 to 95.8 %
        (180, 200, "failed"),  # 85.1 to 93.4 %
        (1910, 2000, "passed"),  # the interval holds the floor, the share is above it
        (1890, 2000, "undecided"),  # the share is below it, the interval is not: harm will show
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
    if n >= 2000 and seen.value >= accuracy_floor(CARD):
        assert judge(seen, CARD) == "passed"


def recent(confidence: np.ndarray, labelled: np.ndarray) -> Recent:
    n = len(confidence)
    return Recent(
        seq=np.arange(n),
        at=np.arange(n, dtype=float),
        predicted=np.zeros(n, np.int64),
        p_value=np.full(n, 0.5),
        confidence=confidence,
        label=np.where(labelled, 0, -1),
    )


def answers(confidence: np.ndarray, right: np.ndarray) -> LabelledAnswers:
    number, rest = np.arange(len(right)), np.full(len(right), 0.5)
    return LabelledAnswers(number, number, rest, number, right, rest, confidence, rest)


def test_observed_holds_interval_coverage_delay_and_the_corrected_accuracy() -> None:
    confidence = np.linspace(0, 1, 400)
    labelled = np.arange(400) % 4 == 0
    seen = observe(
        answers(confidence[labelled], np.arange(100) >= 10),
        recent(confidence, labelled),
        np.arange(101.0),
        "who knows",
    )
    assert (seen.accuracy.value, seen.accuracy.n) == (0.9, 100)
    assert seen.coverage.value == 0.25
    assert seen.coverage.low < 0.25 < seen.coverage.high
    assert (seen.delay_median_seconds, seen.delay_p90_seconds) == (50, 90)
    assert seen.bias == "who knows"
    assert seen.corrected is not None
    assert seen.corrected.value == pytest.approx(0.9, abs=0.001), "a sample needs no correction"
    none = observe(
        answers(np.empty(0), np.empty(0, bool)),
        recent(np.empty(0), np.empty(0, bool)),
        np.empty(0),
    )
    assert none.delay_median_seconds is None
    assert none.bias == ""
    assert none.corrected is None
