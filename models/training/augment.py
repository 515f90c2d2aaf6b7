"""Augmentations of a batch of unit-range images `(N, channels, height, width)`.

Each takes `(x, generator)` and gives the same shape in [0, 1]; every image gets its own draw.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from models.base.errors import TrainingError
from models.versions.schema import InputSchema

Augment = Callable[[Tensor, torch.Generator], Tensor]
ROTATION, SHEAR, TRANSLATION = 0.35, 0.25, 0.15  # radians, and shares of the width
CHAINS, DEPTH = 3, 3


def shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Translation by up to an eighth of the width, whole pixels, black outside."""
    n, _, height, width = x.shape
    reach = max(1, width // 8)
    rows, columns = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator)
    padded = F.pad(x, (reach,) * 4).permute(0, 2, 3, 1)
    rows, columns = rows + torch.arange(height), columns + torch.arange(width)
    picked = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored left to right."""
    turned = torch.rand((len(x), 1, 1, 1), generator=generator) < 0.5
    return torch.where(turned, x.flip(3), x)


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """A window of 80 to 100 % of the width, anywhere, scaled up again (bilinear)."""
    n = len(x)
    scale = 0.8 + 0.2 * _uniform(n, generator)
    offset = (1 - scale)[:, None] * (2 * _uniform((n, 2), generator) - 1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = offset
    return _warp(x, theta)


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise, its standard deviation drawn up to .1 for every image."""
    sigma = 0.1 * _uniform((len(x), 1, 1, 1), generator)
    return (x + sigma * torch.randn(x.shape, generator=generator)).clamp_(0, 1)


def cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    """A black square of a quarter of the width, anywhere (DeVries & Taylor 2017)."""
    n, _, height, width = x.shape
    side = max(1, width // 4)

    def inside(size: int) -> Tensor:
        centre = torch.randint(0, size, (n, 1), generator=generator)
        place = torch.arange(size) - centre + side // 2
        return (place >= 0) & (place < side)

    hole = inside(height)[:, None, :, None] & inside(width)[:, None, None, :]
    return x.masked_fill(hole, 0.0)


def augmix(x: Tensor, generator: torch.Generator) -> Tensor:
    """A mix of chains of geometric and tone changes (in the manner of Hendrycks et al. 2020).

    x' = m x + (1 - m) sum_k w_k chain_k(x), with w from a Dirichlet and m from a uniform law.
    """
    n = len(x)
    draws = -torch.log(_uniform((n, CHAINS), generator).clamp_min(1e-6))
    weights = draws / draws.sum(dim=1, keepdim=True)
    mixed = torch.zeros_like(x)
    for k in range(CHAINS):
        chain = x
        depth = torch.randint(1, DEPTH + 1, (n,), generator=generator)
        for level in range(DEPTH):
            changed = _one_change(chain, generator)
            chain = torch.where((depth > level).view(-1, 1, 1, 1), changed, chain)
        mixed += weights[:, k].view(-1, 1, 1, 1) * chain
    kept = _uniform((n, 1, 1, 1), generator)
    return (kept * x + (1 - kept) * mixed).clamp_(0, 1)


AUGMENTATIONS: dict[str, Augment] = {
    a.__name__: a for a in (shift, flip, crop, noise, cutout, augmix)
}


def chain(names: Sequence[str], schema: InputSchema) -> Augment:
    """The named augmentations one after the other. Raises TrainingError for tables."""
    if names and schema.kind != "image":
        raise TrainingError(f"augmentation {names[0]!r} is for images, the data is a table")

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for name in names:
            x = AUGMENTATIONS[name](x, generator)
        return x

    return apply


def _one_change(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every image warped (half of them), posterised, solarised or stretched in contrast."""
    n = len(x)
    kind = torch.randint(0, 6, (n, 1, 1, 1), generator=generator)
    amount = _uniform((n, 1, 1, 1), generator)
    levels = 2 + (6 * amount).round()
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    changed = torch.where(kind == 0, (x * levels).round() / levels, x)
    changed = torch.where((kind == 1) & (x > 1 - amount / 2), 1 - x, changed)
    changed = torch.where(kind == 2, (x - low) / (high - low).clamp_min(1e-3), changed)
    return torch.where(kind > 2, _warp(x, _affine(n, generator)), changed)


def _affine(n: int, generator: torch.Generator) -> Tensor:
    """Random rotation, shear and translation as `(N, 2, 3)` matrices."""
    angle, shear, right, down = (2 * _uniform((4, n), generator) - 1).unbind()
    cos, sin = torch.cos(ROTATION * angle), torch.sin(ROTATION * angle)
    theta = torch.stack(
        [cos, SHEAR * shear - sin, TRANSLATION * right, sin, cos, TRANSLATION * down], dim=1
    )
    return theta.view(n, 2, 3)


def _warp(x: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp_(0, 1)


def _uniform(size: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator)
