"""Elastic-net attack (Chen et al. 2018, "EAD"): the smallest change in L1 with a little L2."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, column, margin, value_and_gradient

GROWTH = 10.0  # of the weight while a row is not wrong


@torch.no_grad()
def ead(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 30,
    searches: int = 4,
    beta: float = 0.05,
    rate: float = 0.05,
    weight: float = 1.0,
) -> Tensor:
    """ISTA on c max(-margin, 0) + ||d||_2^2 + beta ||d||_1, c by bisection row by row.

    d <- S_beta(d - rate (2 d - c gradient)), S the soft threshold at beta, x + d in [0, 1].

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        steps: per search.
        searches: values of c.
        beta: weight of L1; what a step moves less is not moved at all.
        rate: of the first step; it falls with the root of the rest.
        weight: first c.

    Returns:
        `x_adv`: per row the wrong point of the least ||d||_2^2 + beta ||d||_1; `x` where it is
        wrong by itself or none was found.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    x_adv, least = x.clone(), x.new_full((len(x),), torch.inf)
    least[logits_of(x).argmax(dim=1) != y] = 0.0
    low, high = x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
    c = x.new_full((len(x),), weight)
    for _ in range(searches):
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        change = torch.zeros_like(x)
        for step in range(steps + 1):
            width, gradient, _ = value_and_gradient(logits_of, x + change, y, margin)
            cost = _elastic(change, beta)
            better = (width > 0) & (cost < least)
            x_adv[better], least[better] = (x + change)[better], cost[better]
            found |= width > 0
            size = rate * (1 - step / (steps + 1)) ** 0.5
            pull = c.view(column(x)) * gradient * (width <= 0).view(column(x))
            moved = change - size * (2 * change - pull)
            shrunk = (moved.abs() - size * beta).clamp_min(0) * moved.sign()
            change = (x + shrunk).clamp(0, 1) - x
        high, low = torch.where(found, c, high), torch.where(found, low, c)
        c = torch.where(high.isinf(), c * GROWTH, (low + high) / 2)
    return x_adv


def _elastic(change: Tensor, beta: float) -> Tensor:
    flat = change.flatten(1)
    return flat.square().sum(dim=1) + beta * flat.abs().sum(dim=1)
