"""SparseFool (Modas et al. 2019): few values, by the boundary that DeepFool finds."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin, value_and_gradient
from models.attacks.gradient.deepfool import deepfool

OVERSHOOT = 3.0  # lambda of the paper: how far beyond DeepFool's point the plane is put


@torch.no_grad()
def sparsefool(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 20,
    beyond: float = OVERSHOOT,
    candidates: int = 4,
) -> Tensor:
    """Again and again: the nearest boundary point x_B and its normal w; then whole values move.

    The linear solver takes the values by falling |w_i| and sends each to the plane
    w (x - x_B) = 0, or to its end, until the plane is reached (algorithms 1 and 2).

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        steps: at most; a row that is wrong leaves the batch.
        beyond: x_B <- x + beyond (x_B - x).
        candidates: classes that DeepFool looks at.

    Returns:
        `x_adv` of the shape of `x`: wrong, or where the walk ended.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    x_adv = x.clone()
    rows = (logits_of(x).argmax(dim=1) == y).nonzero()[:, 0]
    for _ in range(steps):
        if len(rows) == 0:
            break
        now, labels = x_adv[rows], y[rows]
        near = deepfool(logits_of, now, labels, steps=20, candidates=candidates)
        near = now + beyond * (near - now)
        normal = value_and_gradient(logits_of, near.clamp(0, 1), labels, margin)[1]
        x_adv[rows] = _solve(now, near, normal)
        rows = rows[logits_of(x_adv[rows]).argmax(dim=1) == labels]
    return x_adv


def _solve(x: Tensor, near: Tensor, normal: Tensor) -> Tensor:
    """Points on or beyond the plane through `near`, with as few values moved as it takes."""
    flat, w = x.flatten(1), normal.flatten(1)
    missing = (w * (near.flatten(1) - flat)).sum(dim=1, keepdim=True).clamp_min(1e-4)
    room = torch.where(w > 0, 1 - flat, flat)
    order = (w.abs() * (room > 0)).argsort(dim=1, descending=True)
    gains = (w.abs() * room).gather(1, order)
    before = gains.cumsum(dim=1) - gains
    share = ((missing - before) / gains.clamp_min(1e-12)).clamp(0, 1)
    move = torch.zeros_like(flat).scatter(1, order, share) * room * w.sign()
    return (flat + move).view_as(x).clamp(0, 1)
