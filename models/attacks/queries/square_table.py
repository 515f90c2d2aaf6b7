"""Random search over the columns of a table: the square attack where neighbours mean nothing."""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin
from models.attacks.queries.search import random, stages
from models.attacks.threat import Threat


def square_table(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    queries: int,
    p_init: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Sets a random subset of the columns anew; keeps it when the margin did not fall.

    The subsets shrink on the schedule of the square attack (Andriushchenko et al. 2020, section
    3). A column goes to either end of its interval or to a point inside, with equal odds: trees
    may be wrong only there. Moves that change nothing are kept, or the steps of trees would hold
    the search up. Columns that cannot move (fixed, missing) are never drawn.

    Arguments and result as for `models.attacks.queries.square.square`, on rows `(N, D)`.
    """
    low = threat.project(torch.full_like(x, -math.inf), x)
    high = threat.project(torch.full_like(x, math.inf), x)
    movable = high > low
    x_adv = torch.where(random(tuple(x.shape), x, generator) < 0.5, low, high)
    widest = margin(logits_of(x_adv), y)
    most = int(movable.sum(dim=1).max()) if len(x) else 0
    for size, asks in stages(queries, p_init, lambda p: max(1, round(p * most))):
        for _ in range(asks if most else 0):
            rows = (widest <= 0).nonzero()[:, 0]
            if len(rows) == 0:
                return x_adv
            shape = (len(rows), x.shape[1])
            rank = random(shape, x, generator).masked_fill(~movable[rows], 2.0)
            chosen = (rank <= rank.kthvalue(size, dim=1, keepdim=True).values) & movable[rows]
            share = (3 * random(shape, x, generator) - 1).clamp(0, 1)
            inside = torch.lerp(low[rows], high[rows], share)
            after = threat.project(torch.where(chosen, inside, x_adv[rows]), x[rows])
            found = margin(logits_of(after), y[rows])
            up = found >= widest[rows]
            x_adv[rows[up]], widest[rows[up]] = after[up], found[up]
    return x_adv
