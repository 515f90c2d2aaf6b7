"""Intervals and tests for shares of right answers."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from models.statistics.arrays import Bools, FloatArray, IntArray
from models.statistics.shares import Proportion


def proportion(right: Bools, groups: IntArray | None = None) -> Proportion:
    """The share of True in `(n,)` with its interval.

    Rows of a group are not independent: the interval is then Wilson's for n / d rows, where d is
    the design effect (`design_effect`).

    Args:
        right: `(n,)`.
        groups: `(n,)`, equal where rows belong together; None: every row for itself.

    >>> proportion(np.array([True] * 9 + [False]))
    Proportion(share=0.9, low=0.5958, high=0.9821, n=10)
    >>> proportion(np.array([True] * 90 + [False] * 10), np.arange(100) // 10)
    Proportion(share=0.9, low=0.5958, high=0.9821, n=100)
    """
    n = len(right)
    if n == 0:
        return Proportion(None, 0.0, 1.0, 0)
    if groups is None:
        interval = stats.binomtest(int(right.sum()), n).proportion_ci(0.95, method="wilson")
        low, high = interval.low, interval.high
    else:
        low, high = wilson(float(right.mean()), n / design_effect(right, groups))
    value, low, high = (round(float(v), 4) for v in (right.mean(), low, high))
    return Proportion(value, low, high, n)


def design_effect(values: Bools | FloatArray, groups: IntArray) -> float:
    """How many rows in groups tell as much as one independent row; between 1 and what Kish says.

    With s_g the sum of the values in group g of n_g rows, and p their mean over all n rows,

        d = [k/(k-1) sum_g (s_g - n_g p)^2] / (n v) (t / z)^2,    1 <= d <= sum_g n_g^2 / n,

    v the variance of a value; the upper end is that of groups whose rows are all alike, and holds
    for fewer than two groups, and (t / z)^2 is for the few degrees of freedom that k groups leave.
    Two groups of usual size, one all high and one all low, are added, so that few errors, each in a
    group of its own, do not pass for independence.

    Args:
        values: `(n,)`, n >= 1.
        groups: `(n,)`, equal where rows belong together.

    Source: Kish 1965, *Survey Sampling*, sections 5.4 and 8.2; Korn & Graubard 1998 (t for z);
    Franco, Little, Louis & Slud 2019 (Wilson's interval with it).

    >>> design_effect(np.arange(100) % 2 == 0, np.arange(100))
    1.0
    >>> round(design_effect(np.arange(100) % 20 < 10, np.arange(100) // 10), 1)
    10.0
    """
    assert values.shape == groups.shape
    assert len(values)
    _, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place).astype(np.float64)
    most = float((sizes**2).sum() / len(values))
    if len(sizes) < 2 or most <= 1:
        return max(most, 1.0)
    sums = np.bincount(place, weights=values.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if low == high:  # nothing differs, so nothing tells how alike the rows of a group are
        return most
    sizes = np.append(sizes, [most, most])
    sums = np.append(sums, [most * low, most * high])
    n, k = float(sizes.sum()), len(sizes)
    mean = sums.sum() / n
    squares = float((values.astype(np.float64) ** 2).sum()) + most * (low**2 + high**2)
    variance = squares / n - mean**2
    between = k / (k - 1) * float(((sums - sizes * mean) ** 2).sum())
    freedom = float(stats.t.ppf(0.975, len(sizes) - 3) / stats.norm.ppf(0.975)) ** 2
    return float(np.clip(between / (n * variance) * freedom, 1.0, most))


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that rests on `n` rows, which need be no whole number."""
    z2 = float(stats.norm.ppf(0.975)) ** 2
    middle = (value + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (value * (1 - value) + z2 / (4 * n)) / n) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired_difference(
    before: Bools, after: Bools, confidence: float = 0.95, groups: IntArray | None = None
) -> tuple[float, float]:
    """Difference of accuracies on the same rows, `after - before`, and its one-sided lower bound.

    The interval is Agresti & Min's (2005): half a row is added to each cell of the 2x2 table, so
    that it stays honest where few rows changed. With `groups` `(n,)` its width is that of n / d
    rows, d the design effect of the differences.
    """
    assert before.shape == after.shape
    n = len(before)
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if n == 0:
        return math.nan, -1.0
    shifted, total = (won - lost) / (n + 2), n + 2
    error = math.sqrt((won + lost + 1) / total - shifted**2) / math.sqrt(total)
    if groups is not None:
        changes = after.astype(np.float64) - before.astype(np.float64)
        error *= math.sqrt(design_effect(changes, groups))
    return (won - lost) / n, float(shifted - stats.norm.ppf(confidence) * error)


def false_positive_interval(
    alpha: float, held: int, n: int, level: float = 0.999
) -> tuple[int, int]:
    """Between how many of `n` fresh clean rows a conformal threshold at `alpha` flags.

    The rate given the `held` calibration rows is Beta(k, held + 1 - k) with
    k = floor(alpha (held + 1)), so the count is beta-binomial (Vovk 2012).
    """
    k = math.floor(alpha * (held + 1))
    if k == 0:
        return 0, 0
    law = stats.betabinom(n, k, held + 1 - k)
    return int(law.ppf((1 - level) / 2)), int(law.ppf((1 + level) / 2))


def auroc(negative: npt.NDArray[np.floating], positive: npt.NDArray[np.floating]) -> float:
    """Probability that a positive scores above a negative (ties count half)."""
    ranks = stats.rankdata(np.concatenate([negative, positive]))
    n, m = len(negative), len(positive)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def auroc_interval(
    negative: npt.NDArray[np.floating], positive: npt.NDArray[np.floating], level: float = 0.95
) -> tuple[float, float]:
    """The interval of `auroc`: where its distance from theta is 1.96 standard errors (at 95 %).

    var(theta) = theta (1 - theta) (1 + k (1 - theta)/(2 - theta) + k theta/(1 + theta)) / (m n),
    k = (m + n)/2 - 1. With the error at theta, not at the estimate, it has a width where the scores
    part all rows, too. Source: Newcombe 2006, "Confidence intervals for an effect size measure
    based on the Mann-Whitney statistic, part 2", method 5.

    >>> low, high = auroc_interval(np.arange(50.0), np.arange(50.0) + 50)
    >>> round(low, 2), high
    (0.96, 1.0)
    """
    n, m = len(negative), len(positive)
    value, k = auroc(negative, positive), (n + m) / 2 - 1
    reach = float(stats.norm.ppf((1 + level) / 2)) ** 2 / (m * n)

    def beyond(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + k * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return (theta - value) ** 2 - reach * spread

    near = min(max(value, 1e-12), 1 - 1e-12)  # at 0 and 1 themselves the error vanishes
    low = optimize.brentq(beyond, 0.0, near) if value > 0 else 0.0
    high = optimize.brentq(beyond, near, 1.0) if value < 1 else 1.0
    return float(low), float(high)


def roc(
    negative: npt.NDArray[np.floating], positive: npt.NDArray[np.floating], points: int = 60
) -> tuple[tuple[float, float], ...]:
    """The ROC curve as `(false-positive rate, true-positive rate)`, from (0, 0) to (1, 1).

    Where there are more than `points`, those evenly spread along the curve.

    >>> roc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    ((0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0))
    """
    cuts = np.unique(np.concatenate([negative, positive]))
    rates = [
        np.append(1 - np.searchsorted(np.sort(scores), cuts, side="left") / len(scores), 0.0)[::-1]
        for scores in (negative, positive)
    ]
    along = rates[0] + rates[1]  # both rise, so this is the way along the curve
    if len(along) > points:
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)))
        rates = [rate[kept] for rate in rates]
    return tuple((round(float(a), 4), round(float(b), 4)) for a, b in zip(*rates, strict=True))


def mean_corruption_error(
    wrong: Sequence[npt.NDArray[np.bool_]], reference: Sequence[npt.NDArray[np.float64]], rows: int
) -> tuple[float, float, float]:
    """Mean over kinds of corruption of (own errors / reference errors), with its 95 % interval.

    mCE = mean_c (sum_s E_cs / sum_s R_cs) (Hendrycks & Dietterich 2019, section 4). Given the
    reference it is a mean over one's own rows, so that part of the interval is exact, with every
    row's errors under all kinds together. Of the reference only rates are known: its errors are
    taken as wholly dependent among kinds and severities, and independent of one's own; both can
    only widen the interval.

    Args:
        wrong: per kind `(severities, n)`: which of one's own answers were wrong.
        reference: per kind `(severities,)`: the reference's error rates.
        rows: how many rows the reference's rates rest on.

    >>> errs = np.array([[True, False, False, False]] * 5)
    >>> mean_corruption_error([errs], [np.full(5, 0.5)], 4)[0]
    0.5
    """
    assert len(wrong) == len(reference) > 0
    n = wrong[0].shape[1]
    shares, doubt = np.zeros(n), 0.0
    for own, theirs in zip(wrong, reference, strict=True):
        least = 0.5 / rows  # half an error, so that a kind without any has a ratio
        total = max(float(theirs.sum()), least)
        mine = own.sum(axis=0) / total
        if not own.any():
            mine = np.full(n, least / total)
        shares += mine / len(wrong)
        smoothed = (theirs * rows + 1) / (rows + 2)
        spread = float(np.sqrt(smoothed * (1 - smoothed) / rows).sum())
        doubt += float(mine.mean()) * spread / total / len(wrong)
    value = float(shares.mean())
    error = math.hypot(float(shares.std(ddof=min(1, n - 1))) / math.sqrt(n), doubt)
    reach = float(stats.norm.ppf(0.975)) * error
    return value, max(0.0, value - reach), value + reach
