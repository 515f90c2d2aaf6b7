"""Figures that a large class does not carry alone: by class, balanced, and by the ranking."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools, IntArray
from models.statistics.intervals import auroc, auroc_interval, proportion
from models.statistics.shares import Proportion

ByClass = dict[str, Proportion]


def recall(
    classes: Sequence[str], y: IntArray, right: Bools, groups: IntArray | None = None
) -> ByClass:
    """Of the rows of each class the share that is right.

    Args:
        classes: names.
        y, right: `(N,)` labels, and which answers are right.
        groups: `(N,)`, equal where rows belong together.
    """
    return {
        name: proportion(right[y == k], None if groups is None else groups[y == k])
        for k, name in enumerate(classes)
    }


def precision(classes: Sequence[str], predicted: IntArray, right: Bools) -> ByClass:
    """Of the answers `(N,)` that name a class the share that is right."""
    return {name: proportion(right[predicted == k]) for k, name in enumerate(classes)}


def balanced_accuracy(recalls: Sequence[Proportion]) -> Proportion:
    """The mean of the classes' own accuracies, over the classes that have rows.

    The interval joins those of the classes: mean -+ sqrt(sum_k (p_k - l_k)^2) / K.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures" (MOVER).

    >>> one, two = Proportion(0.9, 0.8, 0.95, 50), Proportion(0.5, 0.3, 0.7, 20)
    >>> balanced_accuracy([one, two])
    Proportion(share=0.7, low=0.5882, high=0.8031, n=70)
    """
    known = [p for p in recalls if p.n]
    if not known:
        return Proportion(None, 0.0, 1.0, 0)
    count = len(known)
    value = sum(p.value for p in known) / count
    below = math.sqrt(sum((p.value - p.low) ** 2 for p in known)) / count
    above = math.sqrt(sum((p.high - p.value) ** 2 for p in known)) / count
    ends = max(0.0, value - below), min(1.0, value + above)
    rows = sum(p.n for p in known)
    return Proportion(round(value, 4), round(ends[0], 4), round(ends[1], 4), rows)


def mean_auroc(probabilities: npt.NDArray[np.float64], y: IntArray) -> Proportion | None:
    """Mean over the classes of the area under the ROC curve of one class against the rest.

    The interval is the mean of the classes' intervals, as wide as if their errors went together.
    Of two classes both areas are the same.

    Args:
        probabilities: `(N, C)`.
        y: `(N,)` labels.

    Returns:
        None where no class has rows on both sides, or an answer is not finite.
    """
    assert probabilities.shape == (len(y), probabilities.shape[-1])
    if not np.isfinite(probabilities).all():
        return None
    areas = []
    for k in range(probabilities.shape[1]):
        negative, positive = probabilities[y != k, k], probabilities[y == k, k]
        if len(negative) and len(positive):
            areas.append((auroc(negative, positive), *auroc_interval(negative, positive)))
    if not areas:
        return None
    value, low, high = (round(float(v), 4) for v in np.mean(areas, axis=0))
    return Proportion(value, low, high, len(y))
