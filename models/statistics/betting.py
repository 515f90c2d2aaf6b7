"""Bets on a share: evidence that may be looked at after every trial."""

import numpy as np
import numpy.typing as npt
from scipy import special

from models.statistics.arrays import FloatArray

BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])  # of what may be lost on one trial


def log_above(right: npt.ArrayLike, n: npt.ArrayLike, least: float) -> FloatArray:
    """ln of an e-value of "the chance of success lies above `least`".

    The mean over lambda of prod (1 + lambda (D - least) / least), D = 1 for a success and 0 else.
    Where the chance of every trial, given those before, is at most `least`, the product is a
    supermartingale: that it ever reaches 1/a has a probability of at most a.

    Args:
        right: successes.
        n: trials, of the same shape.
        least: in (0, 1).

    References:
        Waudby-Smith & Ramdas (2023), *Estimating means of bounded random variables by betting*.

    >>> np.exp(log_above([0, 194], [0, 200], 0.9)).round(1).tolist()
    [1.0, 288.8]
    """
    assert 0 < least < 1
    won, lost = np.asarray(right)[..., None], (np.asarray(n) - right)[..., None]
    growth = won * np.log1p(BETS * (1 - least) / least) + lost * np.log1p(-BETS)
    return np.asarray(special.logsumexp(growth, axis=-1) - np.log(len(BETS)))
