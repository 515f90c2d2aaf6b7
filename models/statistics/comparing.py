"""Laws of repeated comparisons: alpha over many tries, rows that are needed, many classes at once.

They answer what one paired interval (`models.statistics.intervals`) cannot: how often one may try,
when a comparison is too small to say anything, and which of many classes got worse.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from models.statistics.arrays import Bools, FloatArray

LEVEL = 0.05
POWER_Z = 1.28  # an equal challenger passes with 90 %


def fallback_alpha(attempt: int, before: float = 0.0, passed: bool = False) -> float:
    """The level of the k-th attempt, so that all attempts together err with 5 % at most.

    alpha_k = .05 · 6 / (pi² k²), plus alpha_(k-1) where attempt k-1 passed.

    Args:
        attempt: k, from 1 on.
        before: alpha_(k-1).
        passed: whether attempt k-1 passed.

    Source: Wiens & Dmitrienko 2005, "The fallback procedure for evaluating a single family of
    hypotheses"; Tian & Ramdas 2021 for a series without an end.

    >>> [round(fallback_alpha(k), 4) for k in (1, 2, 3)]
    [0.0304, 0.0076, 0.0034]
    >>> round(fallback_alpha(2, before=0.0304, passed=True), 4)
    0.038
    """
    assert attempt >= 1
    return LEVEL * 6 / (math.pi**2 * attempt**2) + (before if passed else 0.0)


def rows_needed(discordant: float, alpha: float, margin: float) -> int:
    """How many rows a paired test of non-inferiority needs: n = d ((z_alpha + 1.28) / margin)².

    With fewer an equal challenger is refused more often than once in ten.

    Args:
        discordant: d, the share of rows on which the two differ in being right.
        alpha: one-sided level, in (0, 1).
        margin: how much worse is allowed, above 0.

    >>> rows_needed(0.03, 0.05, 0.03)
    286
    """
    return math.ceil(discordant * ((float(stats.norm.isf(alpha)) + POWER_Z) / margin) ** 2)


def mcnemar(before: Bools, after: Bools) -> float:
    """The exact one-sided p-value of "no worse": P(Bin(won + lost, 1/2) >= lost).

    Source: McNemar 1947.

    >>> mcnemar(np.array([True] * 5), np.array([False] * 5))
    0.03125
    """
    assert before.shape == after.shape
    lost, changed = int((before & ~after).sum()), int((before ^ after).sum())
    return float(stats.binom.sf(lost - 1, changed, 0.5)) if changed else 1.0


def fisher_greater(hits: int, n: int, hits_elsewhere: int, n_elsewhere: int) -> float:
    """Fisher's exact one-sided p-value of "no larger a share than elsewhere".

    >>> round(fisher_greater(5, 5, 0, 5), 4)
    0.004
    """
    every, all_hits = n + n_elsewhere, hits + hits_elsewhere
    return float(stats.hypergeom.sf(hits - 1, every, all_hits, n)) if n else 1.0


def holm(p_values: Sequence[float]) -> FloatArray:
    """The p-values `(m,)` adjusted for being m: one below alpha errs with alpha for all together.

    Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty(len(p))
    result[order] = np.minimum(adjusted, 1.0)
    return result


def wilson_low(hits: int, n: int) -> float:
    """The lower end of Wilson's 95 % interval of `hits` among `n`; 0 of nothing.

    >>> round(wilson_low(9, 10), 4)
    0.5958
    """
    if n == 0:
        return 0.0
    return float(stats.binomtest(hits, n).proportion_ci(0.95, method="wilson").low)
