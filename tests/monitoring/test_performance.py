import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.stats import proportion
from monitoring.performance import accuracy_floor, expected_accuracy, has_fallen, judge

CARD = {"clean": {"value": 0.97, "low": 0.95}, "window": None}
RETRAINED = CARD | {"window": {"value": 0.9, "low": 0.8}}


def live(right: int, n: int):
    return proportion(np.arange(n) < right)


def test_a_retrained_version_is_measured_against_its_window() -> None:
    assert expected_accuracy(CARD) == 0.97
    assert expected_accuracy(RETRAINED) == 0.9
    assert accuracy_floor(CARD) == pytest.approx(0.94)
    assert accuracy_floor(RETRAINED) == 0.8


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
