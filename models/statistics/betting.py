"""Bets on a share: evidence that may be looked at after every trial."""

import numpy as np
from scipy import special

BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])  # of what may be lost on one trial


def log_above(right: int, n: int, least: float) -> float:
    """ln of an e-value of "the chance of success lies above `least`".

    The mean over lambda of prod (1 + lambda (D - least) / least), D = 1 for a success and 0 else.
    Where the chance of every trial, given those before, is at most `least`, the product is a
    supermartingale: that it ever reaches 1/a has a probability of at most a.

    Args:
        right: successes.
        n: trials.
        least: in (0, 1).

    References:
        Waudby-Smith & Ramdas (2023), *Estimating means of bounded random variables by betting*.

    >>> round(float(np.exp(log_above(194, 200, 0.9))), 1), log_above(0, 0, 0.9)
    (288.8, 0.0)
    """
    assert 0 < least < 1
    assert 0 <= right <= n
    growth = right * np.log1p(BETS * (1 - least) / least) + (n - right) * np.log1p(-BETS)
    return float(special.logsumexp(growth) - np.log(len(BETS)))
