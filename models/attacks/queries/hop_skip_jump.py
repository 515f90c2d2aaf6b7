"""HopSkipJump (Chen et al. 2020): the boundary's normal from labels alone, then a jump along it.

Decision-based: of the logits only the place of the largest is used.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from models.attacks.base import LogitsOf
from models.attacks.queries.decisions import (
    BlackBoxRow,
    OutOfQueriesError,
    bisect,
    length,
    noise_start,
)
from models.attacks.queries.search import random

FIRST_DELTA = 0.1  # length of the first probes, before a distance is known
LARGEST_BATCH = 10_000


@torch.no_grad()
def hop_skip_jump(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    norm: Literal["l2", "linf"] = "l2",
    queries: int = 1000,
    first_probes: int = 100,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The nearest wrongly classified point that a number of labels finds, row by row.

    Each iteration t asks B0 sqrt(t) labels of points around the last one on the boundary for the
    direction of its normal, jumps along it by d / sqrt(t), halved until the label is still wrong,
    and bisects back to the boundary.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`; a black box.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        norm: the length that is made small.
        queries: labels per row, at most.
        first_probes: B0, probes of the first iteration.
        generator: makes it reproducible.

    Returns:
        `x_adv` of the shape of `x`: per row the nearest wrong point that was asked; `x` where it is
        wrong by itself, or where none was found.
    """
    found = [
        _row(BlackBoxRow(logits_of, own, int(label), norm, queries), first_probes, generator)
        for own, label in zip(x, y, strict=True)
    ]
    return torch.stack(found) if found else x.clone()


def _row(asked: BlackBoxRow, first_probes: int, generator: torch.Generator | None) -> Tensor:
    """Attack one row `(*shape)`."""
    try:
        if asked.wrong(asked.x[None])[0]:
            return asked.x.clone()
        start = noise_start(asked, generator)
        if start is not None:
            _walk(asked, start, first_probes, generator)
    except OutOfQueriesError:
        pass  # the budget is how it ends
    return asked.best


def _walk(
    asked: BlackBoxRow, start: Tensor, first_probes: int, generator: torch.Generator | None
) -> None:
    """Iterate from a wrong point until the queries are spent."""
    size = asked.x.numel()
    l2 = asked.norm == "l2"
    theta = size**-1.5 if l2 else size**-2.0
    point = bisect(asked, start, theta)
    iteration = 1
    while True:
        distance = length(point - asked.x, asked.norm)
        delta = FIRST_DELTA if iteration == 1 else (size**0.5 if l2 else size) * theta * distance
        probes = min(round(first_probes * math.sqrt(iteration)), LARGEST_BATCH)
        normal = _normal(asked, point, delta, probes, generator)
        direction = normal / normal.norm().clamp_min(1e-12) if l2 else normal.sign()
        step = distance / math.sqrt(iteration)
        while not asked.wrong((jumped := (point + step * direction).clamp(0, 1))[None])[0]:
            step /= 2
        point = bisect(asked, jumped, theta)
        iteration += 1


def _normal(
    asked: BlackBoxRow, point: Tensor, delta: float, probes: int, generator: torch.Generator | None
) -> Tensor:
    """The direction in which labels turn wrong (equation 16), with the mean as the baseline."""
    shape = (probes, *point.shape)
    if asked.norm == "l2":
        noise = torch.randn(shape, generator=generator, dtype=point.dtype, device=point.device)
    else:
        noise = 2 * random(shape, point, generator) - 1
    column = (-1, *[1] * point.dim())
    noise /= noise.flatten(1).norm(dim=1).view(column)
    probed = (point + delta * noise).clamp(0, 1)
    moves = (probed - point) / delta  # what clipping left of them
    signs = 2 * asked.wrong(probed).to(point.dtype) - 1
    mean = signs.mean()
    if mean.abs() < 1:
        signs = signs - mean
    return (signs.view(column) * moves).mean(dim=0)
