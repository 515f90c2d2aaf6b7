"""One change for all rows (Moosavi-Dezfooli et al. 2017; as ascent: Shafahi et al. 2020)."""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin, value_and_gradient
from models.attacks.threat import Threat

ENOUGH = 1.0  # a margin beyond this earns nothing: the next row gets its turn


@torch.no_grad()
def universal(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climbs the mean of min(margin, 1) over all rows with one change d: x' = project(x + d).

    Args:
        logits_of, x, y, threat, generator: as for `models.attacks.gradient.pgd.pgd`. The rows are
            what the change is made for; a batch has one change. A column of a table moves alike
            in all rows that have it, as far as each row's bounds let it.
        steps: of 2.5 eps / steps each.

    Returns:
        `x_adv` of the shape of `x`, inside the threat model: by the change of the best mean seen.
    """
    noise = torch.rand(x[:1].shape, generator=generator, dtype=x.dtype, device=x.device)
    change = threat.eps * (noise - 0.5)
    size = 2.5 * threat.eps / max(steps, 1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return margin(logits, labels).clamp_max(ENOUGH)

    best, highest = x.clone(), -math.inf
    for _ in range(steps + 1):  # steps of one size may end in leaps about a ridge
        now = threat.project(x + change, x)
        values, gradient, _ = value_and_gradient(logits_of, now, y, loss)
        if (mean := values.mean().item()) > highest:
            best, highest = now, mean
        slope = gradient.nan_to_num(0.0).mean(dim=0, keepdim=True)
        change = threat.step(change, slope, size)
        moved = (threat.project(x + change, x) - x).nan_to_num(0.0)  # NaN: missing, stays missing
        longest = moved.abs().amax(dim=0, keepdim=True)
        change = change.sign() * torch.minimum(change.abs(), longest)
    return best
