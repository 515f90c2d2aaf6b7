"""Split conformal prediction sets, and those that hold under any change within eps.

The score of a row and class is the lead of the likeliest class, s(x, k) = max z - z_k. With q the
ceil((n + 1) coverage)-th smallest score of the true classes of n held-out rows, the set
{k: s(x, k) <= q} holds the true class of a fresh row with at least that probability (Vovk et al.
2005; Angelopoulos & Bates 2021, section 1). The lead does not depend on the temperature, so both
may rest on the same rows. In probabilities: p_k >= exp(-q / T) max p, and no set is empty.

Under change: let s*(x, y) be the largest score that any change within eps gives to the true class
(bounded from above by interval bounds). A set with the quantile of s* holds the true class of a
fresh row just as often, whatever the change (as Gendler et al. 2022, with a proof for the noise).
"""

import math

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.versions.promises import SetFacts

COVERAGES = (0.99, 0.95, 0.9)  # the first that the calibration rows suffice for
HAIR = 1e-5  # of the ratio, so that rounding never leaves a class out


def fit_sets(
    logits: FloatArray, y: IntArray, heat: float, worst: FloatArray | None = None
) -> SetFacts | None:
    """The rule of a version's sets; None where the rows suffice for no coverage.

    Args:
        logits: `(n, C)` of held-out rows.
        y: `(n,)` their classes.
        heat: temperature of the served probabilities.
        worst: `(n,)` lower bounds of z_y - max_{k != y} z_k under any change; None: no certificate.
    """
    coverage = next((c for c in COVERAGES if place(len(y), c) <= len(y)), None)
    if coverage is None:
        return None
    own = np.take_along_axis(logits, y[:, None].astype(np.int64), axis=1)[:, 0]
    leads = np.nan_to_num(logits.max(axis=1) - own, nan=np.inf)
    ratio = _ratio(leads, coverage, heat)
    if worst is None:
        return SetFacts(coverage, len(y), ratio)
    pushed = np.maximum(-np.nan_to_num(worst, nan=-np.inf), 0.0)
    return SetFacts(coverage, len(y), ratio, _ratio(np.maximum(pushed, leads), coverage, heat))


def place(n: int, coverage: float) -> int:
    """Which of the sorted scores of n rows is the quantile, from 1.

    >>> place(99, 0.99), place(98, 0.99)
    (99, 99)
    """
    return math.ceil(round((n + 1) * coverage, 9))


def _ratio(scores: npt.NDArray[np.floating], coverage: float, heat: float) -> float:
    quantile = float(np.sort(scores)[place(len(scores), coverage) - 1])
    return math.exp(-quantile / heat) * (1 - HAIR)
