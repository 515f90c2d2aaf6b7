"""Names of many classes: as many as counters may have, and one for all others.

Each class has a series of its own in every replica, a cell in the evidence and bets on it. Of more
than 1,000 classes the 999 that were predicted most in the reference are named; a class that has no
row there could not be watched anyhow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import Manifest

MOST_CLASSES = 1000
OTHERS = "other classes"


class Folded(NamedTuple):
    """Labels (G,), G <= 1000, and for each of C classes which one is its own."""

    labels: tuple[str, ...]
    place: IntArray  # (C,) int64


def fold_classes(classes: Sequence[str], counts: IntArray | FloatArray) -> Folded:
    """Name the classes with the most rows, and the others together where there are too many.

    Args:
        classes: names of C classes.
        counts: (C,) rows of each in the reference.

    >>> fold_classes(("cat", "dog"), np.array([3, 5])).labels
    ('cat', 'dog')
    """
    if len(classes) <= MOST_CLASSES:
        return Folded(tuple(classes), np.arange(len(classes)))
    named = np.sort(np.argsort(-np.asarray(counts), kind="stable")[: MOST_CLASSES - 1])
    place = np.full(len(classes), MOST_CLASSES - 1)
    place[named] = np.arange(len(named))
    return Folded((*(classes[k] for k in named.tolist()), OTHERS), place)


def name_classes(manifest: Manifest) -> Folded:
    """The names that predictions of a version are counted by: those of its class channel.

    A version that was made before there was a limit has the first 999 of its classes.
    """
    classes = manifest.classes
    cells = next((c.labels for c in manifest.channels if c.kind == "class"), ())
    counts = np.zeros(len(classes))
    if MOST_CLASSES == len(cells) < len(classes):
        counts[np.isin(classes, cells[:-1])] = 1
    return fold_classes(classes, counts)
