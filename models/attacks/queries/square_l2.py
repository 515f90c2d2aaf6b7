"""Square attack for L2 (Andriushchenko et al. 2020, section 3.3, algorithm 3)."""

import math

import torch
from torch import Tensor

from models.attacks.base import LogitsOf, margin
from models.attacks.queries.search import random, signs, stages, wider
from models.attacks.threat import Threat

TILES = 5
TINY = 1e-12


def square_l2(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    queries: int,
    p_init: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Moves the length of the change from one random window into another, bump added.

    Arguments and result as for `models.attacks.queries.square.square`, on images `(N, C, H, W)`.
    All rows of a round share the windows, so that these are slices; the signs are a row's own.
    """
    height, width = x.shape[2:]
    x_adv = _scale_to_eps(_tile_bumps(x, generator), x, threat)
    widest = margin(logits_of(x_adv), y)

    def side(p: float) -> int:
        return min(max(round(math.sqrt(p * height * width)), 3) | 1, height, width)

    for size, asks in stages(queries, p_init, side):
        for _ in range(asks):
            rows = (widest <= 0).nonzero()[:, 0]
            if len(rows) == 0:
                return x_adv
            own = x[rows]
            change = _proposal(x_adv[rows] - own, size, threat.eps, generator)
            after = _scale_to_eps(change, own, threat)
            found = margin(logits_of(after), y[rows])
            up = wider(found, widest[rows])
            x_adv[rows[up]], widest[rows[up]] = after[up], found[up]
    return x_adv


def _proposal(change: Tensor, side: int, eps: float, generator: torch.Generator | None) -> Tensor:
    """The change `(n, C, H, W)` with window 2 emptied into window 1, and what was unused, too."""
    count, channels, height, width = change.shape
    one, two = (_window(height, width, side, change, generator) for _ in range(2))
    unused = (eps**2 - _squares(change, (1, 2, 3))).clamp_min(0)
    emptied = change.clone()
    emptied[two] = 0
    emptied[one] = 0
    lost = _squares(change, (2, 3)) - _squares(emptied, (2, 3))  # of both windows together
    bump = _bump(side, change, generator) * signs((count, channels, 1, 1), change, generator)
    new = bump + change[one] / (_squares(change[one], (2, 3)).sqrt() + TINY)
    room = (lost.clamp_min(0) + unused / channels).sqrt()
    emptied[one] = new / (_squares(new, (2, 3)).sqrt() + TINY) * room
    return emptied


def _window(
    height: int, width: int, side: int, like: Tensor, generator: torch.Generator | None
) -> tuple[slice, slice, slice, slice]:
    top, left = random((2,), like, generator).tolist()
    row, col = int(top * (height - side + 1)), int(left * (width - side + 1))
    return slice(None), slice(None), slice(row, row + side), slice(col, col + side)


def _scale_to_eps(change: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """`x` and the change brought to length eps, inside the threat model."""
    return threat.project(
        x + change * (threat.eps / (_squares(change, (1, 2, 3)).sqrt() + TINY)), x
    )


def _tile_bumps(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The first change: a grid of bumps with random signs."""
    count, channels, height, width = x.shape
    side = max(min(height, width) // TILES, 1)
    change = torch.zeros_like(x)
    for row in range(height % side // 2, height - side + 1, side):
        for col in range(width % side // 2, width - side + 1, side):
            bump = _bump(side, x, generator) * signs((count, channels, 1, 1), x, generator)
            change[:, :, row : row + side, col : col + side] = bump
    return change


def _bump(side: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Equation 2: two peaks of opposite sign side by side, of length 1; at random upright."""
    half = side // 2
    bump = torch.cat([_peak(half, side, like), -_peak(side - half, side, like)])
    if random((1,), like, generator).item() < 0.5:
        bump = bump.T
    return bump / bump.square().sum().sqrt()


def _peak(height: int, width: int, like: Tensor) -> Tensor:
    """sum_{k >= d} 1 / (k + 1)^2, where d is the distance (in king's moves) from the middle."""
    down = (torch.arange(height, device=like.device) - height // 2).abs()
    across = (torch.arange(width, device=like.device) - width // 2).abs()
    distance = torch.maximum(down[:, None], across[None, :])
    ring = (
        1 / torch.arange(1, max(height, width) // 2 + 2, dtype=like.dtype, device=like.device) ** 2
    )
    tail = ring.flip(0).cumsum(0).flip(0)
    return tail[distance] if height else like.new_zeros(0, width)


def _squares(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.square().sum(dim=dims, keepdim=True)
