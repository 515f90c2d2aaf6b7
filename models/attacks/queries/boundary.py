"""Boundary attack (Brendel et al. 2018): a random walk along the boundary that draws nearer.

Decision-based: of the logits only the place of the largest is used.
"""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf
from models.attacks.queries.decisions import BlackBoxRow, OutOfQueriesError, length, noise_start

REMEMBERED = 30  # trials that a step size is judged by
WANTED = (0.2, 0.5)  # success rates between which the step sizes stay as they are
CHANGE = 1.5  # factor by which a step size grows or shrinks


@torch.no_grad()
def boundary(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    queries: int = 1000,
    around: float = 0.01,
    towards: float = 0.01,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The nearest wrongly classified point (L2) that a number of labels finds, row by row.

    A step moves at random on the sphere around x, by `around` of the distance; where the label
    stays wrong, it moves on towards x by `towards` of it. Both adapt to how often the label
    stays wrong: near a flat boundary half of the steps around should.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`; a black box.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        queries: labels per row, at most.
        around, towards: the first step sizes, as shares of the distance.
        generator: makes it reproducible.

    Returns:
        `x_adv` of the shape of `x`: per row the nearest wrong point that was asked; `x` where it is
        wrong by itself, or where none was found.
    """
    found = [
        _row(BlackBoxRow(logits_of, own, int(label), "l2", queries), around, towards, generator)
        for own, label in zip(x, y, strict=True)
    ]
    return torch.stack(found) if found else x.clone()


class _Step:
    """A step size that follows its successes."""

    def __init__(self, size: float) -> None:
        self.size = size
        self._trials: list[bool] = []

    def learn(self, succeeded: bool) -> None:
        self._trials.append(succeeded)
        if len(self._trials) < REMEMBERED:
            return
        rate = sum(self._trials) / len(self._trials)
        if rate < WANTED[0] or rate > WANTED[1]:
            factor = CHANGE if rate > WANTED[1] else 1 / CHANGE
            self.size = min(self.size * factor, 0.5)
        self._trials.clear()


def _row(
    asked: BlackBoxRow, around: float, towards: float, generator: torch.Generator | None
) -> Tensor:
    """Attack one row `(*shape)`."""
    try:
        if asked.wrong(asked.x[None])[0]:
            return asked.x.clone()
        start = noise_start(asked, generator)
        if start is not None:
            _walk(asked, start, _Step(around), _Step(towards), generator)
    except OutOfQueriesError:
        pass  # the budget is how it ends
    return asked.best


def _walk(
    asked: BlackBoxRow,
    point: Tensor,
    around: _Step,
    towards: _Step,
    generator: torch.Generator | None,
) -> None:
    """Iterate from a wrong point until the queries are spent."""
    while True:
        moved = _around(point, asked.x, around.size, generator)
        stayed = bool(asked.wrong(moved[None])[0])
        around.learn(stayed)
        if not stayed:
            continue
        nearer = (moved + towards.size * (asked.x - moved)).clamp(0, 1)
        kept = bool(asked.wrong(nearer[None])[0])
        towards.learn(kept)
        point = nearer if kept else moved


def _around(point: Tensor, x: Tensor, size: float, generator: torch.Generator | None) -> Tensor:
    """A random move of `size` times the distance that keeps the distance to x, in [0, 1]."""
    away = point - x
    distance = length(away, "l2")
    noise = torch.randn(point.shape, generator=generator, dtype=point.dtype, device=point.device)
    noise -= (noise * away).sum() / max(distance, 1e-12) ** 2 * away
    side = away + size * distance * noise / noise.norm().clamp_min(1e-12)
    moved: Tensor = x + side * distance / side.norm().clamp_min(1e-12)
    return moved.clamp(0, 1)
