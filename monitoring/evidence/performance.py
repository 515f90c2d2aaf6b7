"""Whether live accuracy still is what the evaluation promised, and what its labels are worth."""

import math
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from models.statistics.arrays import IntArray
from models.statistics.intervals import Bools, Proportion, proportion
from models.versions.figures import Evaluation
from monitoring.records.store import Recent

TOLERANCE = 0.03
MIN_ROWS = 100
DECISIVE_ROWS = 2000
BIAS_ROWS = 50  # with and without a label, from which on the two are compared
BIAS_LEVEL = 1e-4  # of either test: it is asked again and again
BIAS_DISTANCE = 0.1  # between the two distributions; a smaller one hardly moves the accuracy
FEW = 5.0  # expected rows of a class below which classes are joined


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
    """Live accuracy below this has fallen: 3 points under the expected, or its interval's end.

    NaN where nothing is promised: nothing can fall below it.

    >>> round(accuracy_floor(Proportion(0.97, 0.95, 0.98, 300)), 2)
    0.94
    >>> accuracy_floor(Proportion(0.9, 0.8, 0.95, 60))
    0.8
    """
    if promised is None:
        return math.nan
    return float(np.minimum(promised.value - TOLERANCE, promised.low))  # of NaN: NaN


def judge(
    live: Proportion, promised: Proportion | None
) -> Literal["passed", "failed", "undecided"]:
    """Whether live accuracy holds: its interval lies above the floor, below it, or across it.

    On 2000 rows and more the share itself decides. With nothing to hold it against: undecided.

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
    if live.n >= DECISIVE_ROWS and not math.isnan(floor):
        return "passed" if live.value >= floor else "failed"
    return "undecided"


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


def observe(right: Bools, recent: Recent, delays: npt.NDArray[np.float64]) -> Observed:
    """Observed accuracy with its interval, coverage, delay and bias.

    Args:
        right: whether the answer was right `(n,)`, of the latest labelled requests.
        recent: the latest requests, labelled or not.
        delays: `(n,)` seconds from request to label of the latest labelled requests.
    """
    median, p90 = np.quantile(delays, (0.5, 0.9)).tolist() if len(delays) else (None, None)
    return Observed(
        accuracy=proportion(right),
        coverage=proportion(recent.labelled),
        delay_median_seconds=median,
        delay_p90_seconds=p90,
        bias=label_bias(recent),
    )


def label_bias(recent: Recent) -> str:
    """How the labelled of the recent requests differ from the others, in words; empty: they don't.

    Drift p-values are compared by the Kolmogorov-Smirnov test, predicted classes by Pearson's
    chi-squared. Requests after the last labelled one are left out: their labels may be under way,
    and a change of the traffic would look like a choice of what is labelled. Both a small
    probability (1e-4) and a distance that matters (0.1) are needed. What differs neither in
    p-values nor in predicted classes is not seen.
    """
    with_label = recent.labelled
    if not with_label.any():
        return ""
    known = np.arange(len(recent)) <= np.flatnonzero(with_label)[-1]
    ours, others = with_label & known, ~with_label & known
    if min(ours.sum(), others.sum()) < BIAS_ROWS:
        return ""
    test = stats.ks_2samp(recent.p_value[ours], recent.p_value[others], method="asymp")
    if test.pvalue < BIAS_LEVEL and test.statistic >= BIAS_DISTANCE:
        mine, theirs = (float(np.median(recent.p_value[rows])) for rows in (ours, others))
        return (
            f"labelled requests have a median drift p-value of {mine:.2f}, the others {theirs:.2f}"
        )
    distance, probability = _classes_apart(recent.predicted[ours], recent.predicted[others])
    if probability < BIAS_LEVEL and distance >= BIAS_DISTANCE:
        return f"the predicted classes of labelled requests and of others are {distance:.0%} apart"
    return ""


def _classes_apart(one: IntArray, two: IntArray) -> tuple[float, float]:
    """Total variation between the classes of `(n,)` and `(m,)` rows, and Pearson's p-value."""
    classes = int(max(one.max(), two.max())) + 1
    counts = np.stack([np.bincount(rows, minlength=classes) for rows in (one, two)])
    total = counts.sum(axis=0)
    few = total * (counts.sum(axis=1).min() / total.sum()) < FEW
    pooled = np.column_stack([counts[:, ~few], counts[:, few].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    shares = pooled / pooled.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return distance, float(stats.chi2_contingency(pooled).pvalue)
