"""Which unlabelled requests are worth a person's time.

The first labels are a random sample. After that the cells of confidence that `poststratify` weighs
are asked by what one more label is expected to take from the variance of the accuracy,

    w_k^2 c_k (1 - c_k) (1 / n_k - 1 / (n_k + 1))

w_k the share of the requests in cell k, c_k their mean confidence, n_k the labels of the cell.
Within a cell the choice is random, and c_k is no observed share: a choice that followed the labels
would leave cells alone whose first labels were right by luck, and the accuracy would come out too
high (by 0.4 points in `benchmarks/asking.py`). So the accuracy that is weighted by w_k is unbiased.

Source: Neyman (1934), "On the two different aspects of the representative method"; Sawade et al.
(2010), "Active risk estimation".
"""

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools, IntArray
from monitoring.evidence.labels.poststratified import CELLS

Floats = npt.NDArray[np.float64]
RANDOM_FIRST = 100  # labels that are drawn from all requests alike
LEAST_DOUBT = 0.02  # a cell whose answers all seem sure is asked now and then


def choose_to_label(
    confidence: Floats, labelled: Bools, count: int, rng: np.random.Generator
) -> IntArray:
    """Choose requests that have no label yet.

    Args:
        confidence: `(N,)` of the answers.
        labelled: `(N,)` whether a label came.
        count: how many are wanted.
        rng: for the choice within a cell.

    Returns:
        `(n,)` places, at most `count`, in the order in which they are to be asked.

    >>> sure = np.linspace(0.5, 1, 1000)
    >>> none = np.zeros(1000, np.bool_)
    >>> len(choose_to_label(sure, none, 20, np.random.default_rng(0)))
    20
    """
    assert confidence.shape == labelled.shape
    free = rng.permutation(np.flatnonzero(~labelled))
    if int(labelled.sum()) < RANDOM_FIRST:
        return free[:count].astype(np.int64)
    edges = np.quantile(confidence, np.arange(1, CELLS) / CELLS)
    cell = np.searchsorted(edges, confidence)
    size = np.bincount(cell, minlength=CELLS)
    asked = np.bincount(cell[labelled], minlength=CELLS).astype(np.float64)
    sure = np.bincount(cell, confidence, minlength=CELLS) / np.maximum(size, 1)
    sure = np.clip(sure, LEAST_DOUBT, 1 - LEAST_DOUBT)
    spread = (size / len(confidence)) ** 2 * sure * (1 - sure)
    left = [free[cell[free] == k].tolist() for k in range(CELLS)]
    chosen: list[int] = []
    while len(chosen) < count and any(left):
        gain = spread * (1 / np.maximum(asked, 0.5) - 1 / (asked + 1))
        gain[[not rows for rows in left]] = -1.0
        best = int(gain.argmax())
        chosen.append(left[best].pop())
        asked[best] += 1
    return np.array(chosen, dtype=np.int64)
