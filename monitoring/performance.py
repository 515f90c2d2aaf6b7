"""Whether live accuracy still is what the evaluation promised."""

from typing import Any, Literal

from models.stats import Proportion

TOLERANCE = 0.03
MIN_ROWS = 100
DECISIVE_ROWS = 2000


def expected_accuracy(evaluation: dict[str, Any]) -> float:
    """The accuracy to expect of live traffic.

    On held-out rows of the window that a version was retrained for; of the data set without one.
    """
    return float((evaluation.get("window") or evaluation["clean"])["value"])


def accuracy_floor(evaluation: dict[str, Any]) -> float:
    """Live accuracy below this has fallen: 3 points under the expected, or its interval's end.

    >>> round(accuracy_floor({"clean": {"value": 0.97, "low": 0.95}}), 2)
    0.94
    >>> accuracy_floor({"clean": {}, "window": {"value": 0.9, "low": 0.8}})
    0.8
    """
    expected = evaluation.get("window") or evaluation["clean"]
    return float(min(expected["value"] - TOLERANCE, expected["low"]))


def judge(live: Proportion, evaluation: dict[str, Any]) -> Literal["passed", "failed", "undecided"]:
    """Whether live accuracy holds: its interval lies above the floor, below it, or across it.

    On 2000 rows and more the share itself decides.

    >>> card = {"clean": {"value": 0.97, "low": 0.95}}
    >>> judge(Proportion(0.90, 0.85, 0.95, 200), card)
    'undecided'
    >>> judge(Proportion(0.90, 0.88, 0.92, 900), card)
    'failed'
    """
    floor = accuracy_floor(evaluation)
    if has_fallen(live, evaluation):
        return "failed"
    if live.n >= MIN_ROWS and live.low >= floor:
        return "passed"
    if live.n >= DECISIVE_ROWS:
        return "passed" if live.value >= floor else "failed"
    return "undecided"


def has_fallen(live: Proportion, evaluation: dict[str, Any]) -> bool:
    """Whether live accuracy lies below the floor with its whole interval, on enough rows."""
    return live.n >= MIN_ROWS and live.high < accuracy_floor(evaluation)
