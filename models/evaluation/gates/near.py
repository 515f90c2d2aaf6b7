"""Near-copies: rows that say the same thing again, and count once.

Who sends a row again with a little less light, or a little noise, has said nothing new. So rows
with one label that lie nearer to each other than rows of the data set do are one row. Near is near
in the referee's features, each divided by its standard deviation, within the radius below which 1 %
of the held-out rows have their nearest neighbour of the same class. In the dark all rows come
nearer to each other: the radius shrinks as the spread of the rows that differ does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.data import Rows
from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import InputArray

NEAREST_SHARE = 0.01  # of held-out rows that have a neighbour within the radius
REFERENCE_ROWS = 2000  # held-out rows that are compared, at most
TINY = 1e-6  # of a feature's standard deviation: one that is constant tells nothing

Embed = Callable[[InputArray], FloatArray]  # raw rows to the referee's features `(N, F)`


@dataclass(frozen=True)
class Nearness:
    """What counts as near: in features `embed(x)` divided by `scale` `(F,)`, within `radius`.

    A radius of 0 means that the data set has equal rows by nature: only those are one. `spread` is
    how far held-out rows are from the mean of their class (root mean square).
    """

    embed: Embed
    scale: FloatArray
    radius: float
    spread: float

    def number(self, x: InputArray, y: IntArray) -> IntArray:
        """A number `(N,)` for each raw row, the same for near-copies with the same label."""
        if not len(x):
            return np.zeros(0, dtype=np.int64)
        features = self.embed(x) / self.scale
        numbers = number_near(features, y, self.radius)
        different = numbers == np.arange(len(y))  # copies would make the spread small
        shrunk = _spread(features[different], y[different]) / max(self.spread, TINY)
        return numbers if shrunk >= 1 else number_near(features, y, shrunk * self.radius)


def fit_nearness(embed: Embed, held: Rows) -> Nearness:
    """The nearness in which few of the held-out rows are near each other.

    Args:
        embed: features of raw rows.
        held: rows of the data set, at least one; the first 2000 are used.
    """
    few = held.take(np.arange(min(len(held), REFERENCE_ROWS)))
    features = embed(few.x)
    scale = np.maximum(features.std(axis=0), TINY)
    features = features / scale
    distances = _nearest(features, few.y)
    finite = distances[np.isfinite(distances)]
    radius = float(np.quantile(finite, NEAREST_SHARE)) if len(finite) else 0.0
    return Nearness(embed, scale, radius, _spread(features, few.y))


def number_near(features: FloatArray, y: IntArray, radius: float) -> IntArray:
    """A number `(N,)` for each row; rows within `radius` of an earlier one of their label share it.

    The first row of a number stands for it: others are near to that one, so no chain of small steps
    joins rows that are far from each other. Distances are Euclidean.

    Args:
        features: `(N, F)`.
        y: `(N,)` labels.
        radius: in the units of the features.

    >>> number_near(np.array([[0.0], [0.1], [0.2], [0.1]]), np.array([3, 3, 3, 8]), 0.15).tolist()
    [0, 0, 2, 3]
    """
    assert len(features) == len(y)
    numbers = np.arange(len(y))
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        leaders = np.empty((len(places), features.shape[1]), dtype=features.dtype)
        names = np.empty(len(places), dtype=np.int64)
        count = 0
        for place in places:
            apart = np.square(leaders[:count] - features[place]).sum(axis=1)
            near = np.flatnonzero(apart <= radius * radius)
            if len(near):
                numbers[place] = names[near[0]]
                continue
            leaders[count], names[count] = features[place], place
            count += 1
    return numbers


def _nearest(features: FloatArray, y: IntArray) -> FloatArray:
    """The distance `(N,)` of each row to the nearest other one of its class; inf without one."""
    found = np.full(len(y), np.inf)
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        own = features[places]
        squares = np.square(own).sum(axis=1)
        apart = np.maximum(squares[:, None] + squares[None] - 2 * own @ own.T, 0.0)
        np.fill_diagonal(apart, np.inf)
        found[places] = np.sqrt(apart.min(axis=1))
    return found


def _spread(features: FloatArray, y: IntArray) -> float:
    """How far rows are from the mean of their class: a root mean square; inf of single rows."""
    squares, degrees = 0.0, 0
    for label in np.unique(y):
        own = features[y == label]
        squares += float(np.square(own - own.mean(axis=0)).sum())
        degrees += len(own) - 1
    return float(np.sqrt(squares / degrees)) if degrees else np.inf
