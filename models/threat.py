"""Threat models: what an attacker may change, as the seam between attacks and geometry."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Threat(Protocol):
    """A set of allowed changes around a unit-range input `(N, ...)`; results stay in [0, 1]."""

    @property
    def eps(self) -> float:
        """Size of the set, in units of the [0, 1] range."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest allowed input to `x_adv` around `x`."""

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent of length `size` (not projected)."""

    def random(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random allowed input around `x`."""


@dataclass(frozen=True)
class Linf:
    """Every value may move by at most `eps`: ||x_adv - x||_inf <= eps."""

    eps: float

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise ValueError(
                f"eps is in units of the [0, 1] range, so 0 <= eps <= 1; got {self.eps:g}"
                + (f" (was {self.eps:g}/255 = {self.eps / 255:.4f} meant?)" * (self.eps > 1))
            )

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Clip to the ball, then to [0, 1]."""
        return torch.minimum(torch.maximum(x_adv, x - self.eps), x + self.eps).clamp_(0.0, 1.0)

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Move every value by `size` in the direction of the gradient's sign."""
        return x_adv + size * gradient.sign()

    def random(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the ball, clipped to [0, 1]."""
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        return (x + self.eps * (2 * noise - 1)).clamp_(0.0, 1.0)
