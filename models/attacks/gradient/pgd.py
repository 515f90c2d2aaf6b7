"""Fast gradient sign (Goodfellow et al. 2015), projected gradient descent (Madry et al. 2018)."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, Loss, cross_entropy, margin, value_and_gradient
from models.attacks.threat import Threat


def fgsm(logits_of: LogitsOf, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """One step of size eps along the gradient of the cross-entropy."""
    _, gradient, _ = value_and_gradient(logits_of, x, y, cross_entropy)
    return threat.project(threat.step(x, gradient, threat.eps), x)


def pgd(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    step_size: float | None = None,
    loss: Loss = cross_entropy,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent from a random start; keeps the point of the largest margin.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        threat: the set to stay in.
        steps: gradient steps per restart.
        step_size: in units of the [0, 1] range; 2.5 eps / steps by default (Madry et al.).
        loss: per-row loss to climb.
        restarts: random starts; the best of all is kept.
        generator: makes the random starts reproducible.

    Returns:
        `x_adv` of the shape of `x`, inside the threat model.
    """
    size = 2.5 * threat.eps / steps if step_size is None else step_size
    best = x.clone()
    with torch.no_grad():
        best_margin = margin(logits_of(x), y)
    for _ in range(restarts):
        x_adv = threat.random(x, generator)
        for _ in range(steps):
            _, gradient, logits = value_and_gradient(logits_of, x_adv, y, loss)
            best, best_margin = _keep(best, best_margin, x_adv, margin(logits, y))
            x_adv = threat.project(threat.step(x_adv, gradient, size), x)
        with torch.no_grad():
            best, best_margin = _keep(best, best_margin, x_adv, margin(logits_of(x_adv), y))
    return best


def _keep(
    best: Tensor, best_margin: Tensor, x_adv: Tensor, new_margin: Tensor
) -> tuple[Tensor, Tensor]:
    better = new_margin > best_margin
    mask = better.view(-1, *[1] * (x_adv.dim() - 1))
    return torch.where(mask, x_adv, best), torch.where(better, new_margin, best_margin)
