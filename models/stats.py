"""Intervals and tests for shares of right answers."""

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

Bools = npt.NDArray[np.bool_]


class Proportion(msgspec.Struct, frozen=True):
    """A share with its 95 % Wilson interval and the number of rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, Any]:
        """As plain data; the value of no rows is None, for JSON knows no NaN."""
        figures: dict[str, Any] = msgspec.to_builtins(self)
        return figures | {"value": self.value if self.n else None}


def proportion(right: Bools) -> Proportion:
    """The share of True in `(n,)` with its interval.

    >>> proportion(np.array([True] * 9 + [False]))
    Proportion(value=0.9, low=0.5958, high=0.9821, n=10)
    """
    n = len(right)
    if n == 0:
        return Proportion(math.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(int(right.sum()), n).proportion_ci(0.95, method="wilson")
    value, low, high = (round(float(v), 4) for v in (right.mean(), interval.low, interval.high))
    return Proportion(value, low, high, n)


def paired_difference(before: Bools, after: Bools, confidence: float = 0.95) -> tuple[float, float]:
    """Difference of accuracies on the same rows, `after - before`, and its one-sided lower bound.

    The interval is Agresti & Min's (2005): half a row is added to each cell of the 2x2 table, so
    that it stays honest where few rows changed.
    """
    assert before.shape == after.shape
    n = len(before)
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if n == 0:
        return math.nan, -1.0
    shifted, total = (won - lost) / (n + 2), n + 2
    error = math.sqrt((won + lost + 1) / total - shifted**2) / math.sqrt(total)
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
