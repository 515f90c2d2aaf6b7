"""A few pixels, chosen greedily (after Su et al. 2019, "One pixel attack", and Narodytska 2017).

Every step tries single pixels at both ends of the range and keeps those that widen the margin most.
"""

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin, value_and_gradient

CANDIDATES = 32  # pixels that are tried per step
SIDE = 8  # of the images that a number of pixels is told for
GROWTH = 0.65  # how it grows with the area: 5 of 64 are 25 of 784


def scaled_count(count: int, height: int, width: int) -> int:
    """Pixels of an image that correspond to `count` of an 8x8 one, count (H W / 64)^.65.

    >>> scaled_count(5, 8, 8), scaled_count(5, 28, 28)
    (5, 25)
    """
    return max(count, int(count * (height * width / SIDE**2) ** GROWTH))


@torch.no_grad()
def pixels(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    count: int = 5,
    candidates: int = CANDIDATES,
    rounds: int = 5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Changes at most `count` pixels to 0 or 1, greedily, until the row is wrong.

    Each round takes the candidates by the first-order gain sum_c max(g_c (1 - x_c), -g_c x_c) of
    the margin (at random where there is no gradient), tries each at black, at white and at the
    end that the gradient names, and sets the count / rounds best.

    Args:
        logits_of: `(N, C, H, W)` in [0, 1] to logits; a black box will do.
        x, y: images in [0, 1] and labels `(N,)` int64.
        count: pixels per row, at most.
        candidates: pixels that are tried per round.
        rounds: at most; every round sets at least one pixel.
        generator: of the candidates of a black box.

    Returns:
        `x_adv` of the shape of `x`; a row that is wrong by itself stays.
    """
    x_adv = x.clone()
    rows = (logits_of(x).argmax(dim=1) == y).nonzero()[:, 0]
    free = torch.ones(len(x), x[0, 0].numel(), dtype=torch.bool, device=x.device)
    per_round, left = max(1, round(count / rounds)), count
    while left > 0 and len(rows):
        now, step = x_adv[rows], min(per_round, left)
        order, toward = _rank(logits_of, now, y[rows], free[rows], candidates, generator)
        chosen, values = _try_all(logits_of, now, y[rows], order, toward, step)
        now.flatten(2).scatter_(2, chosen[:, None].expand(-1, x.shape[1], -1), values)
        free[rows[:, None], chosen] = False
        x_adv[rows] = now
        rows = rows[logits_of(now).argmax(dim=1) == y[rows]]
        left -= step
    return x_adv


def _rank(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    free: Tensor,
    candidates: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The places `(n, m)` of the most promising pixels, and where each should go `(n, C, m)`."""
    with torch.enable_grad():
        has_gradient = logits_of(x[:1].detach().requires_grad_(True)).requires_grad
    if has_gradient:
        gradient = value_and_gradient(logits_of, x, y, margin)[1].flatten(2)
    else:
        gradient = torch.rand(x.flatten(2).shape, generator=generator, device=x.device) - 0.5
    flat = x.flatten(2)
    gain = torch.maximum(gradient * (1 - flat), -gradient * flat).sum(dim=1)
    most = min(candidates, flat.shape[2])
    order = gain.masked_fill(~free, -torch.inf).topk(most, dim=1).indices
    toward = (gradient > 0).to(x.dtype)
    return order, toward.gather(2, order[:, None].expand(-1, x.shape[1], -1))


def _try_all(
    logits_of: LogitsOf, x: Tensor, y: Tensor, order: Tensor, toward: Tensor, keep: int
) -> tuple[Tensor, Tensor]:
    """The `keep` best of the places, `(n, keep)`, with their values `(n, C, keep)`."""
    (count, most), channels = order.shape, x.shape[1]
    ends = torch.stack([torch.zeros_like(toward), torch.ones_like(toward), toward], dim=3)
    ends = ends[..., : 2 if channels == 1 else 3]  # of one channel the third is one of the two
    tried = x.flatten(2)[:, None, None].repeat(1, most, ends.shape[3], 1, 1)
    place = order[:, :, None, None, None].expand(-1, -1, ends.shape[3], channels, 1)
    tried.scatter_(4, place, ends.permute(0, 2, 3, 1)[..., None])
    logits = logits_of(tried.view(-1, *x.shape[1:]))
    width = margin(logits, y.repeat_interleave(most * ends.shape[3])).view(count, most, -1)
    width, end = width.max(dim=2)
    best = width.topk(min(keep, most), dim=1).indices
    places, end = order.gather(1, best), end.gather(1, best)
    columns = best[:, None].expand(-1, channels, -1)
    values = ends.gather(2, columns[..., None].expand(-1, -1, -1, ends.shape[3]))
    return places, values.gather(3, end[:, None, :, None].expand(-1, channels, -1, 1))[..., 0]
