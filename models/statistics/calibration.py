"""Whether confidence means what it says: expected calibration error and a reliability diagram."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from models.statistics.arrays import Bools, FloatArray, IntArray
from models.statistics.shares import Bin, Proportion, Reliability

BINS = 15
LOG_TEMPERATURES = (-4.0, 4.0)


def temperature(logits: FloatArray, y: IntArray) -> float:
    """T that makes softmax(logits / T) fit held-out labels best (Guo et al. 2017, section 4.2).

    It minimises the negative log-likelihood. Robustly trained nets are less sure than they may
    be: T < 1. Labels are smoothed by 1 / (n + 2), so that few rows, all right, do not make the
    model certain.

    Args:
        logits: `(N, C)` of rows that were not trained on.
        y: `(N,)` labels.
    """
    n, classes = logits.shape
    doubt = 1 / (n + 2)
    target = np.full(logits.shape, doubt / max(classes - 1, 1))
    target[np.arange(n), y] = 1 - doubt

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(np.asarray(logits, np.float64) / np.exp(log_temperature), axis=1)
        return float(-(target * log_p).sum() / n)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def reliability(
    confidence: npt.NDArray[np.floating[Any]], right: Bools, bins: int = BINS
) -> Reliability:
    """Calibration error over bins of equal mass, with a 95 % interval.

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b|. The bins hold equally many rows (but equal
    confidences stay together), because fixed widths leave most bins of a good classifier empty.

    The interval is ECE -+ q: by the triangle inequality the error of the estimate is at most
    sum_b (n_b / n) |e_b|, where e_b is the sampling error of the accuracy in bin b, and q bounds
    that sum for independent normal errors: its mean and 1.96 standard deviations. It covers the
    calibration error *of these bins* in at least 95 of 100 cases; errors that cancel inside a bin
    are seen by no binned estimate. A plain bootstrap would not do: the estimate is too high where
    a model is calibrated, and so would be every copy of it.

    Args:
        confidence: probability of the predicted class `(N,)`, in [0, 1].
        right: whether the prediction was right `(N,)`.
        bins: at most so many.

    Source: Naeini, Cooper & Hauskrecht 2015 (ECE); Nixon et al. 2019 (equal mass).

    >>> sure = np.full(100, 0.9)
    >>> reliability(sure, np.arange(100) < 70).ece
    Proportion(share=0.2, low=0.109, high=0.291, n=100)
    """
    assert confidence.shape == right.shape
    n = len(right)
    if n == 0:
        return Reliability(Proportion(None, 0.0, 1.0, 0))
    order = np.argsort(confidence, kind="stable")
    told, hit = np.asarray(confidence, dtype=np.float64)[order], right[order]
    parts = [slice(a, b) for a, b in _equal_mass(told, bins)]
    table = [_bin(told[part], hit[part]) for part in parts]
    value = sum(b.n * abs(b.accuracy - b.confidence) for b in table) / n
    mean, variance = 0.0, 0.0
    for part, b in zip(parts, table, strict=True):
        # One right and one wrong answer more, so that a bin without a mistake is not exact.
        share = (int(hit[part].sum()) + 1) / (b.n + 2)
        spread = (b.n / n) ** 2 * share * (1 - share) / b.n
        mean += math.sqrt(spread * 2 / math.pi)
        variance += spread * (1 - 2 / math.pi)
    reach = mean + 1.96 * math.sqrt(variance)
    ends = max(0.0, value - reach), min(1.0, value + reach)
    ece = Proportion(round(value, 4), round(ends[0], 4), round(ends[1], 4), n)
    return Reliability(ece, tuple(map(_rounded, table)))


def _equal_mass(told: npt.NDArray[np.float64], bins: int) -> list[tuple[int, int]]:
    """Bounds of bins over sorted confidences; a cut inside equal ones moves to their start."""
    wanted = np.linspace(0, len(told), bins + 1).round().astype(int)[1:-1]
    inside = wanted[wanted < len(told)]
    cuts = sorted({0, len(told), *np.searchsorted(told, told[inside]).tolist()})
    return list(itertools.pairwise(cuts))


def _bin(told: npt.NDArray[np.float64], hit: Bools) -> Bin:
    return Bin(
        low=float(told[0]),
        high=float(told[-1]),
        n=len(told),
        confidence=float(told.mean()),
        accuracy=float(hit.mean()),
    )


def _rounded(b: Bin) -> Bin:
    """To four digits, as all figures."""
    return Bin(round(b.low, 4), round(b.high, 4), b.n, round(b.confidence, 4), round(b.accuracy, 4))
