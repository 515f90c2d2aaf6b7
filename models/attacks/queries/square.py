"""Square attack (Andriushchenko et al. 2020): random search that needs no gradient.

A proposal fills a random square with one end of the ball; it stays when the margin grew. The net
is deterministic, so a proposal that changes nothing, or that was refused since the row last
changed, is counted but not asked: the outcome is the same, and small images need a fraction of
the passes.
"""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin
from models.attacks.queries.search import random, stages, wider
from models.attacks.queries.square_l2 import square_l2
from models.attacks.queries.square_table import square_table
from models.attacks.threat import Threat

AHEAD = 8  # proposals drawn at a time, of which the first whose answer is not known is asked
BITS = 16  # channels beyond share their signs


def square(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    queries: int = 5000,
    p_init: float = 0.8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random search over squares (L-inf: algorithm 2, L2: 3) or over columns of a table.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`; log-probabilities do as well.
        x, y: inputs in [0, 1], images `(N, C, H, W)` or rows `(N, D)`, and labels `(N,)` int64.
        threat: the set to stay in.
        queries: per row, besides the first.
        p_init: share of the pixels in the first squares; it halves along the schedule.
        generator: makes it reproducible.

    Returns:
        `x_adv` of the shape of `x`: per row the point of the largest margin that was seen.
    """
    search = square_table if x.dim() != 4 else square_l2 if threat.norm == "l2" else _square_linf
    with torch.no_grad():
        return search(logits_of, x, y, threat, queries, p_init, generator)


def _square_linf(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    queries: int,
    p_init: float,
    generator: torch.Generator | None,
) -> Tensor:
    count, channels, height, width = x.shape
    low = threat.project(torch.full_like(x, -math.inf), x)
    high = threat.project(torch.full_like(x, math.inf), x)
    stripes = random((count, channels, 1, width), x, generator) < 0.5
    x_adv = torch.where(stripes, low, high)
    widest = margin(logits_of(x_adv), y)

    def side(p: float) -> int:
        return min(max(round(math.sqrt(p * height * width)), 1), height, width)

    for size, asks in stages(queries, p_init, side):
        _stage(logits_of, y, low, high, x_adv, widest, size, asks, generator)
    return x_adv


def _stage(
    logits_of: LogitsOf,
    y: Tensor,
    low: Tensor,
    high: Tensor,
    x_adv: Tensor,
    widest: Tensor,
    side: int,
    queries: int,
    generator: torch.Generator | None,
) -> None:
    """Squares of one size: `queries` per row, each row at its own pace; updates in place."""
    _, channels, height, width = low.shape
    kinds = 2 ** min(channels, BITS) * (height - side + 1) * (width - side + 1)
    # With more kinds than queries repeats are rare, and the table is large.
    remember = kinds <= queries
    known = torch.zeros((len(y), kinds if remember else 1), dtype=torch.bool, device=y.device)
    asked = torch.zeros_like(y)
    rows = (widest <= 0).nonzero()[:, 0]
    while len(rows):
        drawn = torch.randint(
            kinds, (len(rows), AHEAD if remember else 1), generator=generator, device=y.device
        )
        fresh = ~known[rows[:, None], drawn if remember else 0]
        first = fresh.int().argmax(dim=1)
        asked[rows] += torch.where(fresh.any(dim=1), first + 1, drawn.shape[1])
        go = fresh.any(dim=1) & (asked[rows] <= queries)
        at, kind = rows[go], drawn.gather(1, first[:, None])[go, 0]
        before = x_adv[at]
        after = torch.where(*_fill(kind, side, low[at], high[at]), before)
        if remember:
            known[at, kind] = True
        changed = (after != before).flatten(1).any(dim=1)
        at, after = at[changed], after[changed]
        if len(at):
            found = margin(logits_of(after), y[at])
            up = wider(found, widest[at])
            x_adv[at[up]], widest[at[up]] = after[up], found[up]
            known[at[up]] = False
        rows = rows[(widest[rows] <= 0) & (asked[rows] < queries) & ~known[rows].all(dim=1)]


def _fill(kind: Tensor, side: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The square `(n, 1, H, W)` that a proposal stands for, and what fills it `(n, C, H, W)`."""
    _, channels, height, width = low.shape
    spots = (height - side + 1) * (width - side + 1)
    spot, bits = kind % spots, kind // spots
    top, left = spot // (width - side + 1), spot % (width - side + 1)

    def band(begin: Tensor, length: int) -> Tensor:
        offset = torch.arange(length, device=kind.device) - begin[:, None]
        return (offset >= 0) & (offset < side)

    inside = band(top, height)[:, None, :, None] & band(left, width)[:, None, None, :]
    channel = torch.arange(channels, device=kind.device) % BITS
    upward = (bits[:, None] >> channel & 1).bool()[:, :, None, None]
    return inside, torch.where(upward, high, low)
