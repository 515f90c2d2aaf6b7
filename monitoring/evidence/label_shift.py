"""The true class mix of unlabelled traffic, where the mix is all that changed.

Label shift: p(x | class) stays, the shares of the classes move. Then the predicted classes of the
traffic are a known mixture, mu = A q, with A[i, j] = P(predicted i | true j) from held-out rows,
and q can be solved for (BBSE: Lipton, Wang & Smola 2018). Here q maximises the likelihood of the
predicted counts, which solves the same equations where a solution is a distribution, and stays one
where none is. If p(x | class) moved too, the answer means nothing: ask only while the class
channel alone has an alarm.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.shares import Proportion

CONFUSION = "class/confusion"
SHRINKAGE = 2.0  # rows of the average class that are added to every class
STEPS, CLOSE = 100, 1e-5
REPLICAS, FEWEST_REPLICAS, WORK = 200, 20, 5e8  # of the bootstrap; WORK bounds its multiplications
LEAST_ROWS = 50
Floats = npt.NDArray[np.float64]


class Share(msgspec.Struct, frozen=True):
    """The share of a class among the traffic with its 95 % interval, and before the shift."""

    before: float
    value: float
    low: float
    high: float


class LabelShift(msgspec.Struct, frozen=True):
    """Shares of the true classes by class name, and the accuracy that they make."""

    shares: dict[str, Share]
    accuracy: Proportion
    requests: int


def confusion(predicted: IntArray, truth: IntArray, classes: int) -> FloatArray:
    """Counts `(C, C)` of held-out rows: row the predicted class, column the true one.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    flat = np.bincount(predicted * classes + truth, minlength=classes * classes)
    counts: FloatArray = flat.reshape(classes, classes).astype(np.float32)
    return counts


def rates(counts: FloatArray) -> Floats:
    """A `(C, C)`, A[i, j] = P(predicted i | true j), from counts `(..., C, C)`.

    Two rows of the average class are added to each: right with the accuracy over all, wrong evenly
    over the other classes. So a class of few rows keeps its doubt, and one of none is average.
    """
    filled = np.asarray(counts, np.float64) + SHRINKAGE * _average(counts)
    result: Floats = filled / filled.sum(axis=-2, keepdims=True)
    return result


def true_shares(a: Floats, predicted: npt.NDArray[np.floating], start: Floats) -> Floats:
    """Shares of the true classes `(..., C)` that make the predicted counts likeliest.

    EM on the simplex, from `start`: q_j <- q_j sum_i (n_i / N) A_ij / (A q)_i (Saerens, Latinne &
    Decaestecker 2002, with the predicted class in place of the probabilities).

    Args:
        a: `(..., C, C)` rates.
        predicted: `(..., C)` counts of predicted classes, not all 0.
        start: `(C,)` shares, all above 0.

    >>> a = np.array([[0.9, 0.2], [0.1, 0.8]])
    >>> true_shares(a, np.array([410.0, 590.0]), np.array([0.5, 0.5])).round(3).tolist()
    [0.3, 0.7]
    """
    mu = (predicted / predicted.sum(axis=-1, keepdims=True))[..., None]
    q = np.broadcast_to(start, predicted.shape)[..., None].astype(np.float64)
    transposed = np.swapaxes(a, -1, -2)
    for _ in range(STEPS):
        ahead = q * (transposed @ (mu / np.maximum(a @ q, 1e-12)))
        moved = float(np.abs(ahead - q).max())
        q = ahead
        if moved < CLOSE:
            break
    shares: Floats = q[..., 0] / q[..., 0].sum(axis=-1, keepdims=True)
    return shares


def label_shift(
    reference: Mapping[str, FloatArray],
    classes: tuple[str, ...],
    predicted: npt.NDArray[np.floating],
    *,
    seed: int = 0,
) -> LabelShift | None:
    """Class shares and accuracy of traffic in which only the class mix has changed.

    accuracy = sum_j q_j A_jj. The intervals are the middle 95 % of a bootstrap of the traffic
    (multinomial) and of the held-out rows (Dirichlet).

    Args:
        reference: of the bundle; needs `class/confusion` and `class/alpha`.
        classes: names of the C classes.
        predicted: `(C,)` counts of the predicted classes since the shift.
        seed: of the bootstrap.

    Returns:
        None for a bundle that was made without labels, or for fewer than 50 requests.
    """
    n = int(predicted.sum())
    if CONFUSION not in reference or n < LEAST_ROWS:
        return None
    counts = np.asarray(reference[CONFUSION], np.float64)
    even = np.full(len(classes), 1 / len(classes))
    a = rates(counts)
    before = true_shares(a, np.asarray(reference["class/alpha"], np.float64), even)
    start = (before + 0.1 * even) / 1.1  # a share of 0 could not grow again
    q = true_shares(a, predicted, start)
    drawn_q, drawn_right = _bootstrap(counts, predicted, start, np.random.default_rng(seed))
    low, high = np.quantile(drawn_q, (0.025, 0.975), axis=0)
    low, high = np.minimum(low, q), np.maximum(high, q)
    shares = {
        name: Share(*(round(float(v), 4) for v in row))
        for name, *row in zip(classes, before, q, low, high, strict=True)
    }
    right = float(q @ np.diagonal(a))
    worst, best = np.quantile(drawn_right, (0.025, 0.975))
    low_right, high_right = min(right, float(worst)), max(right, float(best))
    accuracy = Proportion(round(right, 4), round(low_right, 4), round(high_right, 4), n)
    return LabelShift(shares, accuracy, n)


def _average(counts: FloatArray) -> Floats:
    """The average column `(C, C)`: the share of right answers on the diagonal, the rest spread."""
    classes, total = len(counts), float(counts.sum())
    right = (float(np.trace(counts)) + 0.5) / (total + 1)
    spread = np.full((classes, classes), (1 - right) / max(classes - 1, 1))
    np.fill_diagonal(spread, right)
    return spread


def _bootstrap(
    counts: Floats,
    predicted: npt.NDArray[np.floating],
    start: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Shares `(B, C)` and accuracies `(B,)` of B redrawn held-out sets and traffics."""
    classes = len(counts)
    replicas = int(np.clip(WORK / (STEPS * classes**2), FEWEST_REPLICAS, REPLICAS))
    prior = counts + SHRINKAGE * _average(counts)
    n = int(predicted.sum())
    right, shares = np.empty(replicas), np.empty((replicas, classes))
    for k in range(replicas):  # one at a time: of 1000 classes a matrix has 8 MB
        drawn = rng.gamma(prior)
        a = drawn / drawn.sum(axis=0, keepdims=True)
        traffic = rng.multinomial(n, predicted / predicted.sum()).astype(np.float64)
        shares[k] = true_shares(a, traffic, start)
        right[k] = shares[k] @ np.diagonal(a)
    return shares, right
