"""The nearest boundary by linear steps (Moosavi-Dezfooli et al. 2016, "DeepFool", algorithm 2)."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, check_gradient, column

PUSH = 1e-4  # beyond the boundary of the linear model, in units of logits


@torch.no_grad()
def deepfool(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    movable: Tensor | None = None,
) -> Tensor:
    """Goes to the nearest of the boundaries of the net's linear model, again and again.

    r += (|f_l| + 1e-4) w_l / ||w_l||^2 with f_k = z_k - z_y, w_k its gradient and
    l = argmin_k |f_k| / ||w_k||, in L2. The paper leaves the box aside; here a value at its end
    takes no part in a step that leads outside, and x' = clip(x + (1 + overshoot) r).

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        steps: at most; a row that is wrong leaves the batch.
        overshoot: share by which the whole change is lengthened.
        candidates: how many classes, by falling clean logit, `y` included.
        movable: bool, broadcasts to `x`: what may be changed; all by default. Missing values and
            those outside of [0, 1] stay.

    Returns:
        `x_adv` of the shape of `x`: per row the point at which the walk ended if that is wrong;
        `x` where it is wrong by itself or the walk found nothing.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    free = (x >= 0) & (x <= 1)
    if movable is not None:
        free &= movable
    x_adv, now, moved = x.clone(), x.clone(), torch.zeros_like(x)
    logits = logits_of(x)
    others = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    others = others[:, : max(1, min(candidates, logits.shape[1]) - 1)]
    rows = (logits.argmax(dim=1) == y).nonzero()[:, 0]
    for _ in range(steps):
        if len(rows) == 0:
            break
        step = _nearest(logits_of, now[rows], y[rows], others[rows], free[rows])
        moved[rows] += step
        ahead = (x[rows] + (1 + overshoot) * moved[rows]).clamp(0, 1)
        now[rows] = torch.where(free[rows], ahead, x[rows])
        fell = logits_of(now[rows]).argmax(dim=1) != y[rows]
        x_adv[rows[fell]] = now[rows[fell]]
        rows = rows[~fell]
    return x_adv


def _nearest(logits_of: LogitsOf, x: Tensor, y: Tensor, others: Tensor, free: Tensor) -> Tensor:
    """The step `(n, ...)` to the nearest boundary of the linear model at `x`."""
    shape = column(x)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = logits_of(x)
        check_gradient(logits)
        behind = logits.gather(1, others) - logits.gather(1, y[:, None])
        gradients = [
            torch.autograd.grad(behind[:, k].sum(), x, retain_graph=True)[0]
            for k in range(others.shape[1])
        ]
    best = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    step = torch.zeros_like(x)
    for k, gradient in enumerate(gradients):
        stuck = ~free | ((x <= 0) & (gradient < 0)) | ((x >= 1) & (gradient > 0))
        w = gradient.masked_fill(stuck, 0)
        length = w.flatten(1).square().sum(dim=1).clamp_min(1e-20)
        gap = behind[:, k].detach().abs() + PUSH
        distance = gap / length.sqrt()
        nearer = distance < best
        best = torch.where(nearer, distance, best)
        step = torch.where(nearer.view(shape), (gap / length).view(shape) * w, step)
    return step
