"""The smallest change that fools the net, per row: bisection over eps with a warm start."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin
from models.attacks.gradient.apgd import apgd
from models.attacks.queries.square import square
from models.attacks.threat import Threat


@torch.no_grad()
def smallest(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat_at: Callable[[float], Threat],
    *,
    eps_max: float,
    rounds: int = 8,
    steps: int = 20,
    queries: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Per row the smallest eps at which an attack succeeds, to eps_max / 2^rounds.

    Each attack starts at the last success, brought into the smaller set. It is an upper bound of
    the true distance: attacks may miss.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64; some dozens of rows, since rows part ways.
        threat_at: the threat model of a given eps.
        eps_max: the largest eps to try.
        rounds: halvings of the interval.
        steps: of APGD on the margin, per attack.
        queries: of the square attack instead, per attack (for a black box without gradient).
        generator: makes it reproducible.

    Returns:
        `x_adv` (`x` where nothing was found) and eps `(N,)`: 0 where `x` is wrong by itself, inf
        where nothing was found up to `eps_max`.
    """

    def attack(rows: Tensor, eps: float) -> None:
        """Try `rows` at `eps`, and note where it succeeds."""
        threat, own, labels = threat_at(eps), x[rows], y[rows]
        start = threat.project(x_adv[rows], own) if eps < eps_max else None
        if queries is None:
            found = apgd(
                logits_of, own, labels, threat,
                steps=steps, loss=margin, start=start, stop_when_wrong=True, generator=generator,
            )  # fmt: skip
        else:
            found = square(logits_of, own, labels, threat, queries=queries, generator=generator)
        fell = logits_of(found).argmax(dim=1) != labels
        x_adv[rows[fell]] = found[fell]
        high[rows[fell]], low[rows[~fell]] = eps, eps

    x_adv = x.clone()
    # Double, so that halves of halves of eps_max are exact and rows of the same eps are found.
    high = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
    low = torch.zeros_like(high)
    high[logits_of(x).argmax(dim=1) != y] = 0.0
    if (high > 0).any():
        attack((high > 0).nonzero()[:, 0], eps_max)
    for _ in range(rounds):
        middle = (low + high) / 2
        for eps in sorted(set(middle[(high > 0) & high.isfinite()].tolist())):
            attack((middle == eps).nonzero()[:, 0], eps)
    return x_adv, high.to(x.dtype)
