"""A square patch of any content (after Brown et al. 2017, "Adversarial patch"), row by row."""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin, value_and_gradient

STARTS = 4  # places and contents that are tried before the climb


@torch.no_grad()
def patch(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    side: int,
    steps: int = 10,
    step_size: float = 0.25,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climbs the margin inside of one square, from the best of some random starts.

    x' = x outside of the square; inside, x' <- clip(x' + s sign(gradient), 0, 1) with falling s.

    Args:
        logits_of: `(N, C, H, W)` in [0, 1] to logits `(N, K)`, with a gradient.
        x, y: images in [0, 1] and labels `(N,)` int64.
        side: of the square, in pixels.
        steps: of the climb.
        step_size: of the first step; it falls in a line to a tenth of that.
        generator: of places and contents.

    Returns:
        `x_adv` of the shape of `x`: per row the widest margin that was seen.

    Raises:
        ValueError: `logits_of` has no gradient.
    """
    best, widest = x.clone(), margin(logits_of(x), y)
    inside = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for _ in range(STARTS):
        mask = _squares(x, side, generator)
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device).round()
        tried = torch.where(mask, noise, x)
        width = margin(logits_of(tried), y)
        wider = (width > widest) | ~inside.flatten(1).any(dim=1)
        best[wider], widest[wider], inside[wider] = tried[wider], width[wider], mask[wider]
    now = best.clone()
    for step in range(steps):
        width, gradient, _ = value_and_gradient(logits_of, now, y, margin)
        wider = width > widest
        best[wider], widest[wider] = now[wider], width[wider]
        size = step_size * (1 - 0.9 * step / max(steps - 1, 1))
        now = torch.where(inside, (now + size * gradient.sign()).clamp(0, 1), x)
    width = margin(logits_of(now), y)
    best[width > widest] = now[width > widest]
    return best


def _squares(x: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
    """One square a row at a random place, `(N, 1, H, W)` bool."""
    marks = []
    for size in x.shape[2:]:
        room = max(size - side, 0) + 1
        start = torch.randint(room, (len(x), 1), generator=generator, device=x.device)
        place = torch.arange(size, device=x.device)
        marks.append((place >= start) & (place < start + side))
    return (marks[0][:, :, None] & marks[1][:, None, :])[:, None]
