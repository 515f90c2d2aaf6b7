"""Observed accuracy, corrected for which requests got labels (post-stratification).

    accuracy = sum_k w_k (right_k / labelled_k)

over ten cells of equal size by confidence; w_k is the share of all requests in cell k, labelled or
not. The correction holds where labels are a random sample within each cell: hard requests may be
labelled more often, or less. It cannot mend labels that depend on whether the answer was right.

Interval: Clopper and Pearson's for the effective number of labels, the smaller of

    1 / sum_k w_k^2 / n_k    and    a (1 - a) / sum_k w_k^2 s_k (1 - s_k) / n_k

with n_k labels in cell k, a the corrected accuracy, s_k = (right_k + 2 a) / (n_k + 2). A cell
without labels counts from 0 to 1. The simpler stratified Wilson interval covers 82 to 91 % of the
time where errors are rare (benchmarks/harm.py prints this one's coverage).

Source: Korn & Graubard (1998), "Confidence intervals for proportions with small expected number of
positive counts estimated from survey data"; Kish (1965) for the first number.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools
from models.statistics.clopper_pearson import clopper_pearson

Floats = npt.NDArray[np.float64]
CELLS = 10
LEVEL = 0.95
MOST_UNSEEN = 0.25  # share of requests in cells without labels, above which there is no figure


class Poststratified(msgspec.Struct, frozen=True):
    """An accuracy with its 95 % interval.

    Args:
        value: over the cells that have labels.
        low, high: the interval, over all cells.
        n: labels that it rests on.
        unseen: share of the requests that lie in cells without any label.
    """

    value: float
    low: float
    high: float
    n: int
    unseen: float


def poststratify(requests: Floats, labelled: Floats, right: Bools) -> Poststratified | None:
    """Accuracy over all requests, from labels that some of them got.

    Args:
        requests: `(N,)` confidence of all requests, labelled or not.
        labelled: `(n,)` confidence of those with a label; they may reach further back.
        right: `(n,)` whether their answers were right.

    Returns:
        None without requests or labels, or where more than a quarter of the requests lies in cells
        without labels: then the labels cannot be mended.

    >>> sure = np.linspace(0.5, 1, 1000)
    >>> hard_twice = np.sort(np.concatenate([sure[:250], sure]))  # the hardest quarter, twice
    >>> mended = poststratify(sure, hard_twice, hard_twice > 0.55)
    >>> round(float((hard_twice > 0.55).mean()), 2), round(mended.value, 2)
    (0.84, 0.9)
    """
    assert labelled.shape == right.shape
    if not len(requests) or not len(right):
        return None
    edges = np.quantile(requests, np.arange(1, CELLS) / CELLS)
    weight = np.bincount(np.searchsorted(edges, requests), minlength=CELLS) / len(requests)
    cell = np.searchsorted(edges, labelled)
    count = np.bincount(cell, minlength=CELLS)
    share = np.bincount(cell, right, minlength=CELLS) / np.maximum(count, 1)
    seen = count > 0
    unseen = float(weight[~seen].sum())
    if unseen > MOST_UNSEEN or not weight[seen].sum():
        return None
    value, low, high = _interval(share[seen], count[seen], weight[seen] / weight[seen].sum())
    return Poststratified(
        value=round(value, 4),
        low=round(low * (1 - unseen), 4),
        high=round(high * (1 - unseen) + unseen, 4),
        n=len(right),
        unseen=round(unseen, 4),
    )


def _interval(
    share: Floats, count: npt.NDArray[np.int64], weight: Floats
) -> tuple[float, float, float]:
    """Weighted share of right answers with its interval, for cells `(k,)` that have labels."""
    value = float(weight @ share) if (share < 1).any() else 1.0  # not 1 - 1e-16
    labels = 1 / float((weight**2 / count).sum())
    smooth = (share * count + 2 * value) / (count + 2)
    variance = float((weight**2 * smooth * (1 - smooth) / count).sum())
    if variance > 0:
        labels = min(labels, value * (1 - value) / variance)
    low, high = clopper_pearson(value * labels, labels, LEVEL)
    return value, low, high
