"""Whether live accuracy still is what the evaluation promised, and what its labels are worth."""

import math
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from models.versions.figures import Evaluation
from monitoring.evidence.labels.harm import floor_of
from monitoring.evidence.labels.poststratified import Poststratified, poststratify
from monitoring.records.store import LabelledAnswers, Recent

MIN_ROWS = 100
DECISIVE_ROWS = 2000


def promised_accuracy(evaluation: Evaluation | None) -> Proportion | None:
    """The accuracy that an evaluation promises of live traffic; None without one.

    On held-out rows of the window that it was retrained for; of the data set without one.
    """
    if evaluation is None:
        return None
    return evaluation.clean if evaluation.window is None else evaluation.window


def expected_accuracy(promised: Proportion | None) -> float:
    """The accuracy to expect of live traffic; NaN where nothing is promised."""
    return math.nan if promised is None else promised.value


def accuracy_floor(promised: Proportion | None) -> float:
    """Live accuracy below this has fallen: a point under the expected, or its interval's end.

    NaN where nothing is promised: nothing can fall below it.

    >>> round(accuracy_floor(Proportion(0.97, 0.965, 0.98, 3000)), 2)
    0.96
    >>> accuracy_floor(Proportion(0.9, 0.8, 0.95, 60))
    0.8
    """
    if promised is None:
        return math.nan
    return floor_of(promised.value, promised.low)


def judge(
    live: Proportion, promised: Proportion | None
) -> Literal["passed", "failed", "undecided"]:
    """Whether live accuracy holds: its interval lies above the floor, below it, or across it.

    On 2000 rows and more a share above the floor is enough. With nothing to hold it against:
    undecided.

    >>> card = Proportion(0.97, 0.95, 0.98, 300)
    >>> judge(Proportion(0.90, 0.85, 0.95, 200), card)
    'undecided'
    >>> judge(Proportion(0.90, 0.88, 0.92, 900), card)
    'failed'
    """
    floor = accuracy_floor(promised)
    if has_fallen(live, promised):
        return "failed"
    if live.n >= MIN_ROWS and live.low >= floor:
        return "passed"
    return "passed" if live.n >= DECISIVE_ROWS and live.value >= floor else "undecided"


def has_fallen(live: Proportion, promised: Proportion | None) -> bool:
    """Whether live accuracy lies below the floor with its whole interval, on enough rows."""
    return live.n >= MIN_ROWS and live.high < accuracy_floor(promised)


class Observed(msgspec.Struct, frozen=True):
    """What the labels say of the champion, and what they rest on."""

    accuracy: Proportion  # of the latest labelled requests
    coverage: Proportion  # share of the latest requests that have a label
    delay_median_seconds: float | None  # from request to label; None without labels
    delay_p90_seconds: float | None
    bias: str  # why the labelled requests do not speak for all; empty: no reason is known
    corrected: Poststratified | None  # for which requests got labels; None: that is not possible


def observe(
    labels: LabelledAnswers, recent: Recent, delays: npt.NDArray[np.float64], bias: str = ""
) -> Observed:
    """Observed accuracy with its interval, coverage, delay, and what speaks against it.

    Args:
        labels: the latest labelled requests.
        recent: the latest requests, labelled or not.
        delays: `(n,)` seconds from request to label of the latest labelled requests.
        bias: why the labelled requests do not speak for all.
    """
    median, p90 = np.quantile(delays, (0.5, 0.9)).tolist() if len(delays) else (None, None)
    return Observed(
        accuracy=proportion(labels.right),
        coverage=proportion(recent.labelled),
        delay_median_seconds=median,
        delay_p90_seconds=p90,
        bias=bias,
        corrected=poststratify(recent.confidence, labels.confidence, labels.right),
    )
