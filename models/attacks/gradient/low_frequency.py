"""Gradient ascent on smooth changes only (after Guo et al. 2019, "Low frequency perturbation")."""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin, value_and_gradient
from models.attacks.threat import Threat

KEPT = 0.5  # share of the frequencies of each side


@torch.no_grad()
def low_frequency(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    kept: float = KEPT,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climbs the margin with the change held to the lowest frequencies of the cosine transform.

    x' = project(x + s P d P), P = C^T M C with C the orthonormal DCT-II and M its lowest rows, and
    s such that the largest value of the change is eps.

    Args:
        logits_of, x, y, threat, generator: as for `models.attacks.gradient.pgd.pgd`, images only.
        steps: of the climb.
        kept: share of the frequencies of each side.

    Returns:
        `x_adv` of the shape of `x`, inside the threat model: per row the widest margin seen.
    """
    down, across = (_low_pass(size, kept, x) for size in x.shape[2:])

    def smooth(change: Tensor) -> Tensor:
        low: Tensor = down @ change @ across
        return low / low.abs().flatten(1).amax(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)

    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) - 0.5
    change = smooth(noise)
    best, widest = x.clone(), margin(logits_of(x), y)
    for _ in range(steps + 1):
        now = threat.project(x + threat.eps * change, x)
        width, gradient, _ = value_and_gradient(logits_of, now, y, margin)
        wider = width > widest
        best[wider], widest[wider] = now[wider], width[wider]
        change = smooth(change + smooth(gradient) * 2.5 / steps)
    return best


def _low_pass(size: int, kept: float, x: Tensor) -> Tensor:
    """The projection `(size, size)` on the lowest frequencies of the cosine transform."""
    place = torch.arange(size, dtype=x.dtype, device=x.device)
    rows = torch.cos(math.pi / size * (place + 0.5) * place[:, None]) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    low = rows[: max(1, round(kept * size))]
    projection: Tensor = low.T @ low
    return projection
