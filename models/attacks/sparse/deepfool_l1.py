"""DeepFool in L1 (Moosavi-Dezfooli et al. 2016, section 3.3 with p = 1): one value at a time."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, check_gradient, column

PUSH = 1e-3  # beyond the boundary of the linear model, in units of logits


@torch.no_grad()
def deepfool_l1(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 4,
) -> Tensor:
    """Moves the steepest value to the nearest boundary of the linear model, or to its end.

    l = argmin_k |f_k| / max_i |w_ki| with f_k = z_k - z_y and w_k its gradient, i of the values
    that may still go that way; then x_i += (1 + overshoot) (|f_l| + 1e-3) / w_li, clipped.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        steps: at most; a row that is wrong leaves the batch.
        overshoot: share by which a step is lengthened.
        candidates: how many classes, by falling clean logit, `y` included.

    Returns:
        `x_adv` of the shape of `x`: wrong, or where the walk ended; `x` where it is wrong by
        itself.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    x_adv = x.clone()
    logits = logits_of(x)
    others = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    others = others[:, : max(1, min(candidates, logits.shape[1]) - 1)]
    rows = (logits.argmax(dim=1) == y).nonzero()[:, 0]
    for _ in range(steps):
        if len(rows) == 0:
            break
        now = x_adv[rows]
        gap, slope = steepest(logits_of, now, y[rows], others[rows])
        place = slope.abs().flatten(1).argmax(dim=1, keepdim=True)
        steep = slope.flatten(1).gather(1, place)
        move = (1 + overshoot) * (gap[:, None] + PUSH) / steep.abs().clamp_min(1e-12) * steep.sign()
        x_adv[rows] = now.flatten(1).scatter_add(1, place, move).view_as(now).clamp(0, 1)
        rows = rows[logits_of(x_adv[rows]).argmax(dim=1) == y[rows]]
    return x_adv


def steepest(logits_of: LogitsOf, x: Tensor, y: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The gap `(n,)` to the class that is nearest in L1, and its gradient where x may follow it."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = logits_of(x)
        check_gradient(logits)
        behind = logits.gather(1, others) - logits.gather(1, y[:, None])
        gradients = [
            torch.autograd.grad(behind[:, k].sum(), x, retain_graph=True)[0]
            for k in range(others.shape[1])
        ]
    best, slope = torch.full_like(behind[:, 0].detach(), torch.inf), torch.zeros_like(x)
    gap = best.clone()
    for k, gradient in enumerate(gradients):
        stuck = ((x <= 0) & (gradient < 0)) | ((x >= 1) & (gradient > 0))
        free = gradient.masked_fill(stuck, 0)
        short = behind[:, k].detach().abs()
        distance = short / free.abs().flatten(1).amax(dim=1).clamp_min(1e-12)
        nearer = distance < best
        best, gap = torch.where(nearer, distance, best), torch.where(nearer, short, gap)
        slope = torch.where(nearer.view(column(x)), free, slope)
    return gap, slope
