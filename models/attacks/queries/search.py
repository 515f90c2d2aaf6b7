"""What the random searches share: the schedule of sizes, and when a proposal is kept."""

from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000)
SCHEDULED = 5000


def stages(queries: int, p_init: float, size_of: Callable[[float], int]) -> list[tuple[int, int]]:
    """Sizes and how many queries each gets: the share p starts at `p_init` and halves on schedule.

    Croce & Hein 2020 use the first half of the schedule of Andriushchenko et al. 2020 for their
    5000 queries; for another number it is stretched. Equal sizes in a row are one stage.

    >>> stages(5000, 0.8, lambda p: max(1, round(8 * p**0.5)))
    [(7, 10), (5, 40), (4, 150), (3, 300), (2, 500), (1, 4000)]
    """
    ends = [round(h * queries / SCHEDULED) for h in HALVINGS] + [queries]
    found: list[tuple[int, int]] = []
    begin = 0
    for halvings, end in enumerate(ends):
        size, count = size_of(p_init / 2**halvings), end - begin
        if found and found[-1][0] == size:
            found[-1] = (size, found[-1][1] + count)
        elif count:
            found.append((size, count))
        begin = end
    return found


def wider(width: Tensor, best: Tensor) -> Tensor:
    """Whether a margin grew by more than float32's rounding, which differs with the batch."""
    return width > best + 1e-6 * best.abs().clamp(max=1e6)


def random(shape: tuple[int, ...], x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform in [0, 1), like `x`."""
    return torch.rand(shape, generator=generator, dtype=x.dtype, device=x.device)


def signs(shape: tuple[int, ...], x: Tensor, generator: torch.Generator | None) -> Tensor:
    """-1 or 1 with equal odds, like `x`."""
    return torch.where(random(shape, x, generator) < 0.5, -1.0, 1.0).to(x.dtype)
