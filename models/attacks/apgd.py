"""Auto-PGD (Croce & Hein 2020, "Reliable evaluation of adversarial robustness", section 3)."""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, Loss, cross_entropy, margin, value_and_gradient
from models.threat import Threat

RHO = 0.75
MOMENTUM = 0.75


def checkpoints(steps: int) -> list[int]:
    """Iterations at which the step size is reviewed: p_0 = 0, p_1 = .22, falling increments."""
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return [math.ceil(round(q * steps, 9)) for q in p if q <= 1]  # .57 is .5700000000000001


def apgd(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Auto-PGD: momentum, and a step of 2 eps that halves per row when progress stalls.

    At a checkpoint a row halves its step and returns to its best point when fewer than 75 % of
    the steps since the last one raised the loss, or when neither step nor best value changed.

    Args and returns as `models.attacks.pgd.pgd`; the point of the largest margin is kept.
    """
    column = (-1, *[1] * (x.dim() - 1))
    review = checkpoints(steps)
    size = torch.full((len(x),), 2 * threat.eps, dtype=x.dtype)
    x_now = threat.random(x, generator)
    value, gradient, logits = value_and_gradient(logits_of, x_now, y, loss)
    x_best, best, gradient_best = x_now.clone(), value.clone(), gradient.clone()
    x_adv, adv_margin = x_now.clone(), margin(logits, y)
    x_before = x_now.clone()
    raised = torch.zeros(len(x), dtype=torch.int64)
    stalled_size, stalled_best = torch.zeros(len(x), dtype=torch.bool), best.clone()
    last = 0
    for step in range(1, steps + 1):
        ahead = threat.project(threat.step(x_now, gradient, size.view(column)), x)
        momentum = 1.0 if step == 1 else MOMENTUM
        x_next = threat.project(
            x_now + momentum * (ahead - x_now) + (1 - momentum) * (x_now - x_before), x
        )
        x_before, x_now = x_now, x_next
        before = value
        value, gradient, logits = value_and_gradient(logits_of, x_now, y, loss)
        raised += value > before
        better = value > best
        best = torch.where(better, value, best)
        x_best = torch.where(better.view(column), x_now, x_best)
        gradient_best = torch.where(better.view(column), gradient, gradient_best)
        wider = margin(logits, y) > adv_margin
        adv_margin = torch.where(wider, margin(logits, y), adv_margin)
        x_adv = torch.where(wider.view(column), x_now, x_adv)
        if step in review:
            halve = (raised < RHO * (step - last)) | (~stalled_size & (stalled_best >= best))
            size = torch.where(halve, size / 2, size)
            x_now = torch.where(halve.view(column), x_best, x_now)
            gradient = torch.where(halve.view(column), gradient_best, gradient)
            value = torch.where(halve, best, value)
            stalled_size, stalled_best, last = halve, best.clone(), step
            raised.zero_()
    return x_adv
