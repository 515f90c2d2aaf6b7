"""What the decision-based attacks share: labels on a budget, a start in noise, a bisection."""

from typing import Literal

import torch
from torch import Tensor

from models.attacks.base import LogitsOf
from models.attacks.queries.search import random

STARTS = 100  # noise images that are tried for a first wrong label


class OutOfQueriesError(Exception):
    """The budget of a row is spent; what was found until then stands in `Asked.best`."""


class BlackBoxRow:
    """One row under attack: what may be asked of the black box, and the best that was seen.

    Args:
        logits_of: `(N, *shape)` to logits `(N, C)`, of which only the largest's place is used.
        x: the row `(*shape)` in [0, 1].
        y: its label.
        norm: the length by which `best` is chosen.
        queries: rows that may be asked.
    """

    def __init__(
        self, logits_of: LogitsOf, x: Tensor, y: int, norm: Literal["l2", "linf"], queries: int
    ) -> None:
        self.x, self.norm, self.best = x, norm, x.clone()
        self._logits_of, self._y, self._left = logits_of, y, queries
        self._distance = float("inf")

    def wrong(self, points: Tensor) -> Tensor:
        """Whether the label of each point `(n, *shape)` is wrong, `(n,)`.

        Raises:
            OutOfQueriesError: fewer than n queries were left (those that were left are asked).
        """
        short = len(points) > self._left
        points = points[: self._left]
        self._left -= len(points)
        if len(points):
            found = self._logits_of(points).argmax(dim=1) != self._y
            for point in points[found]:
                if (distance := length(point - self.x, self.norm)) < self._distance:
                    self._distance, self.best = distance, point.clone()
        if short:
            raise OutOfQueriesError
        return found


def length(change: Tensor, norm: Literal["l2", "linf"]) -> float:
    """Length of a change, L2 or L-inf."""
    return float(change.norm() if norm == "l2" else change.abs().max())


def noise_start(asked: BlackBoxRow, generator: torch.Generator | None) -> Tensor | None:
    """The first of some uniform noise images whose label is wrong, or None."""
    for _ in range(STARTS):
        point = random(tuple(asked.x.shape), asked.x, generator)
        if asked.wrong(point[None])[0]:
            return point
    return None


def bisect(asked: BlackBoxRow, far: Tensor, theta: float) -> Tensor:
    """The point nearest to x, on the way from a wrong point `far` to x, that is wrong.

    L2: on the line, to `theta` of it. L-inf: `far` clipped to a shrinking box around x, to `theta`
    of its half width.
    """
    x, l2 = asked.x, asked.norm == "l2"
    reach = 1.0 if l2 else length(far - x, "linf")

    def at(share: float) -> Tensor:
        if l2:
            return x + share * (far - x)
        return torch.minimum(torch.maximum(far, x - share), x + share)

    low, high = 0.0, reach
    # float32 knows no finer steps than about 1e-7 of the way.
    while high - low > max(theta * (1.0 if l2 else reach), 1e-6 * reach):
        middle = (low + high) / 2
        if asked.wrong(at(middle)[None])[0]:
            high = middle
        else:
            low = middle
    return far if high == reach else at(high)
