"""Near-copies: rows that say the same thing again, and count once.

Who sends a row again with a little less light, or a little noise, has said nothing new. So rows
with one label that lie nearer to each other than rows of the data set do are one row. Near is near
in the referee's features, each divided by its standard deviation, within the radius below which 1 %
of the held-out rows have their nearest neighbour of the same class. In the dark all rows come
nearer to each other: the radius shrinks as the spread of the rows that differ does. That is sought
from below, from rows of equal content upwards, so that what has no spread is not joined. And the
radius of a picture shrinks with its own contrast: how far it is from plain grey.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.data import Rows
from models.evaluation.gates.contradictions import first_of, number_contents
from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import InputArray

NEAREST_SHARE = 0.01  # of held-out rows that have a neighbour within the radius
REFERENCE_ROWS = 2000  # held-out rows that are compared, at most
DEAD = 0.01  # of the largest standard deviation: a feature below that tells nothing
ROUNDS = 8  # in which radius and rows that differ are fitted to each other, at most
ROUNDING = 1e-12  # of a difference of squares
BLOCK = 256  # rows that are compared at once

Embed = Callable[[InputArray], FloatArray]  # raw rows to the referee's features `(N, F)`


@dataclass(frozen=True)
class Nearness:
    """What counts as near: in features `embed(x)` divided by `scale` `(F,)`, within `radius`.

    A feature that is constant on held-out rows has the scale inf: it is left out. A radius of 0
    means that the data set has equal rows by nature: only those are one. `spread` is how far
    held-out rows are from the mean of their class (root mean square), `contrast` how far from a
    picture of their own mean grey (median); 0 of rows that are no pictures.
    """

    embed: Embed
    scale: FloatArray
    radius: float
    spread: float
    contrast: float = 0.0

    def number(self, x: InputArray, y: IntArray) -> IntArray:
        """A number `(N,)` for each raw row, the same for near-copies with the same label.

        The rows are taken as one window, of one spread.
        """
        numbers = number_contents(x, y)
        if not len(x) or not self.radius:
            return numbers
        features, own = _scaled(self.embed(x), self.scale), np.ones(len(x))
        if self.contrast:
            own = np.minimum(_contrasts(self.embed, self.scale, x, features) / self.contrast, 1.0)
        for _ in range(ROUNDS):
            different = first_of(numbers)  # copies would make the spread small
            shrunk = min(1.0, _spread(features[different], y[different]) / self.spread)
            found = number_near(features, y, self.radius * np.minimum(own, shrunk))
            if len(np.unique(found)) == int(different.sum()):
                break
            numbers = found
        return numbers


def fit_nearness(embed: Embed, held: Rows) -> Nearness:
    """The nearness in which few of the held-out rows are near each other.

    Args:
        embed: features of raw rows.
        held: rows of the data set, at least one; the first 2000 are used.
    """
    few = held.take(np.arange(min(len(held), REFERENCE_ROWS)))
    features: FloatArray = embed(few.x).astype(np.float64)
    wide = features.std(axis=0)
    scale = np.where(wide > DEAD * wide.max(initial=0.0), wide, np.inf)
    features = _scaled(features, scale)
    distances, spread = _nearest(features, few.y), _spread(features, few.y)
    finite = distances[np.isfinite(distances)]
    radius = float(np.quantile(finite, NEAREST_SHARE)) if len(finite) and spread else 0.0
    contrasts = _contrasts(embed, scale, few.x, features) if few.x.ndim > 2 else np.zeros(1)
    return Nearness(embed, scale, radius, spread, float(np.median(contrasts)))


def number_near(features: FloatArray, y: IntArray, radius: float | FloatArray) -> IntArray:
    """A number `(N,)` for each row; rows within `radius` of an earlier one of their label share it.

    The first row of a number stands for it: others are near to that one, so no chain of small steps
    joins rows that are far from each other. Distances are Euclidean.

    Args:
        features: `(N, F)`.
        y: `(N,)` labels.
        radius: in the units of the features; of all, or of each row `(N,)`.

    >>> number_near(np.array([[0.0], [0.1], [0.2], [0.1]]), np.array([3, 3, 3, 8]), 0.15).tolist()
    [0, 0, 2, 3]
    """
    assert len(features) == len(y)
    numbers, within = np.arange(len(y)), np.broadcast_to(np.square(radius), len(y))[:, None]
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        own = features[places].astype(np.float64)
        own -= own.mean(axis=0)  # near 0 the differences of squares are exact
        leaders: list[int] = []  # places in `own`
        for start in range(0, len(places), BLOCK):
            block = np.arange(start, min(start + BLOCK, len(places)))
            near = _squares(own[block], own[leaders]) <= within[places[block]]
            known = near.any(axis=1)
            if known.any():
                first = np.array(leaders)[near[known].argmax(axis=1)]
                numbers[places[block[known]]] = places[first]
            rest = block[~known]
            near = _squares(own[rest], own[rest]) <= within[places[rest]]
            waiting = np.ones(len(rest), dtype=np.bool_)
            for k in range(len(rest)):
                if not waiting[k]:
                    continue
                joined = near[:, k] & waiting
                joined[k] = True
                numbers[places[rest[joined]]] = places[rest[k]]
                waiting &= ~joined
                leaders.append(int(rest[k]))
    return numbers


def _scaled(features: FloatArray, scale: FloatArray) -> FloatArray:
    used = np.isfinite(scale)
    scaled: FloatArray = features[:, used].astype(np.float64) / scale[used]
    return scaled


def _contrasts(embed: Embed, scale: FloatArray, x: InputArray, features: FloatArray) -> FloatArray:
    """How far pictures `(N, *shape)` are from pictures of their mean grey, in features: `(N,)`."""
    grey = x.mean(axis=tuple(range(1, x.ndim)), keepdims=True).astype(x.dtype)
    plain = _scaled(embed(np.broadcast_to(grey, x.shape).copy()), scale)
    apart: FloatArray = np.sqrt(np.square(features - plain).sum(axis=1))
    return apart


def _squares(a: FloatArray, b: FloatArray) -> FloatArray:
    """The squared distance `(N, M)` of each row `(N, F)` to each `(M, F)`."""
    total = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None]
    apart: FloatArray = total - 2 * a @ b.T
    apart[apart < ROUNDING * total] = 0.0  # equal rows are 0 apart
    return apart


def _nearest(features: FloatArray, y: IntArray) -> FloatArray:
    """The distance `(N,)` of each row to the nearest other one of its class; inf without one."""
    found = np.full(len(y), np.inf)
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        own = features[places] - features[places].mean(axis=0)
        apart = _squares(own, own)
        np.fill_diagonal(apart, np.inf)
        found[places] = np.sqrt(apart.min(axis=1))
    return found


def _spread(features: FloatArray, y: IntArray) -> float:
    """How far rows are from the mean of their class: a root mean square; 0 of single rows."""
    squares, degrees = 0.0, 0
    for label in np.unique(y):
        own = features[y == label]
        squares += float(np.square(own - own.mean(axis=0)).sum())
        degrees += len(own) - 1
    return float(np.sqrt(squares / degrees)) if degrees else 0.0
