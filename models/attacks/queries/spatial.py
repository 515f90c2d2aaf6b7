"""The worst of small turns and shifts (Engstrom et al. 2019, "Exploring the landscape")."""

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attacks.base import LogitsOf, margin

DEGREES, SHIFT = 30.0, 0.1  # as the paper: up to 30 degrees and a tenth of the side


@torch.no_grad()
def spatial(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    *,
    degrees: float = DEGREES,
    shift: float = SHIFT,
    places: int = 5,
) -> Tensor:
    """Tries a grid of turns and shifts and keeps, per row, the one of the widest margin.

    Args:
        logits_of: `(N, C, H, W)` in [0, 1] to logits `(N, K)`; a black box.
        x, y: images in [0, 1] and labels `(N,)` int64.
        degrees: largest turn, either way.
        shift: largest shift, as a share of the side.
        places: of the grid, per turn and direction: places^3 queries per row.

    Returns:
        `x_adv` of the shape of `x`, black where nothing was.
    """
    best, widest = x.clone(), margin(logits_of(x), y)
    ends = torch.linspace(-1, 1, places).tolist()
    for turn, right, down in product(ends, ends, ends):
        angle = math.radians(turn * degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        matrix = x.new_tensor([[cos, -sin, 2 * shift * right], [sin, cos, 2 * shift * down]])
        grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
        moved = F.grid_sample(x, grid, align_corners=False).clamp(0, 1)
        width = margin(logits_of(moved), y)
        wider = width > widest
        best[wider], widest[wider] = moved[wider], width[wider]
    return best
