"""The smallest L2 change by descent (Carlini & Wagner 2017, section VI.A)."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, column, margin, value_and_gradient

SQUEEZE = 1 - 1e-4  # keeps black and white pixels off the ends of tanh, where it is flat
FACTOR = 10.0  # between constants, as long as only one side is known
DECAYS = (0.9, 0.999)  # of Adam


@torch.no_grad()
def cw_l2(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    searches: int = 5,
    confidence: float = 0.0,
    step_size: float | None = None,
    constant: float = 1.0,
    movable: Tensor | None = None,
) -> Tensor:
    """min ||x' - x||^2 + c max(confidence - margin(x'), 0) over w, where x' = (tanh w + 1) / 2.

    Adam descends in w, so that no bound needs clipping; c is bisected per row on a logarithmic
    scale. The paper takes c on a linear scale, 10,000 steps of .01 and 20 searches: where there
    are fewer steps they must be larger.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`.
        x, y: inputs in [0, 1] and labels `(N,)` int64.
        steps: per constant.
        searches: constants tried per row.
        confidence: by how much another logit must exceed that of `y`.
        step_size: of Adam, in units of w; 10 / steps by default, which reaches from black to white.
        constant: the first c.
        movable: bool, broadcasts to `x`: what may be changed; all by default. Missing values and
            those outside of [0, 1] stay.

    Returns:
        `x_adv` of the shape of `x`: per row the nearest point that was found to be wrong; `x`
        where it is wrong by itself or none was found.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    size = 10 / steps if step_size is None else step_size
    free = (x >= 0) & (x <= 1)
    if movable is not None:
        free &= movable
    w = torch.atanh((2 * x.nan_to_num().clamp(0, 1) - 1) * SQUEEZE)
    x_adv, shape = x.clone(), column(x)
    best = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    best[margin(logits_of(x), y) > 0] = 0.0
    c = torch.full_like(best, constant)
    low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
    for _ in range(searches):
        rows = (best > 0).nonzero()[:, 0]
        if len(rows) == 0:
            break
        own, held = x[rows], free[rows]
        point, distance = _descend(
            logits_of, own, y[rows], w[rows], held, c[rows], confidence, steps, size
        )
        found = distance.isfinite()
        nearer = distance < best[rows]
        best[rows] = torch.where(nearer, distance, best[rows])
        x_adv[rows] = torch.where(nearer.view(shape), point, x_adv[rows])
        high[rows[found]] = c[rows[found]]
        low[rows[~found]] = c[rows[~found]]
        one_sided = torch.where(high.isinf(), c * FACTOR, c / FACTOR)
        c = torch.where((low > 0) & high.isfinite(), (low * high).sqrt(), one_sided)
    return x_adv


def _descend(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    free: Tensor,
    c: Tensor,
    confidence: float,
    steps: int,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    """The nearest wrong points at one constant per row and their squared distance, else inf."""
    shape, (fade, fade_square) = column(x), DECAYS
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    x_adv, best = x.clone(), torch.full_like(c, torch.inf)
    for step in range(1, steps + 1):
        slope = torch.tanh(w)
        now = torch.where(free, (slope + 1) / 2, x)
        width, upward, _ = value_and_gradient(logits_of, now, y, margin)
        change = torch.where(free, now - x, 0)
        distance = change.flatten(1).square().sum(dim=1)
        nearer = (width > confidence) & (distance < best)
        best = torch.where(nearer, distance, best)
        x_adv = torch.where(nearer.view(shape), now, x_adv)
        push = torch.where(width <= confidence, c, 0).view(shape)
        gradient = (2 * change - push * upward) * (1 - slope.square()) / 2
        gradient = torch.where(free, gradient, 0)
        mean = torch.lerp(gradient, mean, fade)
        square = torch.lerp(gradient.square(), square, fade_square)
        size = (square / (1 - fade_square**step)).sqrt() + 1e-8
        w = w - step_size * mean / (1 - fade**step) / size
    return x_adv, best
