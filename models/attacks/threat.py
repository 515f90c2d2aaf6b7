"""Threat models: what an attacker may change, as the seam between attacks and geometry.

`geometry_of` turns the plain record that recipes and reports carry into the set that attacks move
in. Bounds of the input belong here too, so no attack knows of [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.base.errors import DataError
from models.versions.judging import ThreatModel
from models.versions.schema import InputSchema


class Threat(Protocol):
    """A set of allowed changes around a unit-range input `(N, ...)`."""

    @property
    def eps(self) -> float:
        """Size of the set, in units of the [0, 1] range."""

    @property
    def norm(self) -> str:
        """`linf`, `l2` or `columns`."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest allowed input to `x_adv` around `x`."""

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent of length `size` (not projected)."""

    def random(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random allowed input around `x`."""


@dataclass(frozen=True)
class Linf:
    """Every value may move by at most `eps`: ||x_adv - x||_inf <= eps, inside [0, 1]."""

    eps: float
    norm: str = "linf"

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
        noise = draw(torch.rand, x.shape, x, generator)
        return (x + self.eps * (2 * noise - 1)).clamp_(0.0, 1.0)


@dataclass(frozen=True)
class L2:
    """The whole change may have length `eps`: ||x_adv - x||_2 <= eps, inside [0, 1]."""

    eps: float
    norm: str = "l2"

    def __post_init__(self) -> None:
        if not 0 <= self.eps < math.inf:
            raise ValueError(
                f"eps is a length of at least 0 in units of the [0, 1] range; got {self.eps:g}"
            )

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Shorten the change to `eps`, then clip to [0, 1] (which shortens it further)."""
        change = x_adv - x
        factor = (self.eps / _lengths(change).clamp_min(1e-12)).clamp_max(1.0)
        return (x + change * factor).clamp_(0.0, 1.0)

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Move by `size` along the gradient's direction."""
        # First by its largest value: squares of a tiny gradient (a sure net's) would be 0.
        largest = gradient.abs().flatten(1).amax(dim=1).view(_column(x_adv))
        direction = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
        return x_adv + size * direction / _lengths(direction).clamp_min(1e-12)

    def random(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A uniform direction; the length as in a uniform ball; clipped to [0, 1]."""
        noise = draw(torch.randn, x.shape, x, generator)
        share = draw(torch.rand, (len(x),), x, generator)
        length = self.eps * share.pow(x.shape[0] / max(x.numel(), 1)).view(_column(x))
        return (x + length * noise / _lengths(noise).clamp_min(1e-12)).clamp_(0.0, 1.0)


@dataclass(frozen=True)
class Columns:
    """Column j may fall by `eps down_j` and rise by `eps up_j`, in units of its training range.

    A column with `down = up = 0` cannot be changed (categories never can by gradient attacks).
    Numbers inside the training range stay inside it; missing values stay missing.

    Args:
        eps: size of the set.
        down, up: `(D,)` shares of `eps`, at least 0.
    """

    eps: float
    down: Tensor
    up: Tensor
    norm: str = "columns"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Clip to the box around `x`, then to the training range (to `x` where that is outside)."""
        down, up = self._reach(x)
        low = torch.maximum(x - self.eps * down, x.clamp(max=0.0))
        high = torch.minimum(x + self.eps * up, x.clamp(min=1.0))
        boxed = torch.minimum(torch.maximum(x_adv, low), high)
        return torch.where((down + up > 0) & ~x.isnan(), boxed, x)

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Move column j by `size` times the larger of its shares, by the gradient's sign."""
        down, up = self._reach(x_adv)
        return x_adv + size * torch.maximum(down, up) * gradient.nan_to_num().sign()

    def random(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform in the box."""
        share = draw(torch.rand, x.shape, x, generator)
        down, up = self._reach(x)
        moved = x + self.eps * (share * (down + up) - down)
        return self.project(moved, x)

    def _reach(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.down.to(x.device), self.up.to(x.device)


def draw(
    law: Callable[..., Tensor],
    shape: Sequence[int],
    like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw where the generator is and move to where `like` is, in its precision.

    With a generator on the CPU the draws are the same wherever the net is.

    Args:
        law: `torch.rand` or `torch.randn`.
        shape: of what is drawn.
        like: gives device and precision.
        generator: None: the one of the device of `like`.
    """
    home = like.device if generator is None else generator.device
    drawn = law(tuple(shape), generator=generator, dtype=like.dtype, device=home)
    return drawn.to(like.device)


def geometry_of(model: ThreatModel, schema: InputSchema, eps: float | None = None) -> Threat:
    """The set around inputs of `schema`, at `eps` or the size of the record.

    Raises:
        DataError: eps out of range, or a column that the schema does not have.
    """
    size = model.eps if eps is None else eps
    try:
        if schema.kind == "tabular":
            return _box(model, schema, size)
        return Linf(size) if model.norm == "linf" else L2(size)
    except ValueError as error:
        raise DataError(str(error)) from None


def _box(model: ThreatModel, schema: InputSchema, eps: float) -> Columns:
    names = [c.name for c in schema.columns]
    unknown = [name for name in model.columns if name not in names]
    if unknown:
        raise DataError(f"threat model: no column {unknown[0]!r}; known: {', '.join(names)}")
    if model.norm != "linf" or not 0 <= eps <= 1:
        raise ValueError(
            f"tables take norm linf with eps as a share of each column's range, 0 to 1; "
            f"got {model.norm} with {eps:g}"
        )
    down, up = [], []
    for column in schema.columns:
        fixed = column.kind == "categorical"
        reach = model.columns.get(column.name, 0.0 if fixed else 1.0)
        low, high = reach if isinstance(reach, tuple) else (reach, reach)
        if not (low >= 0 and high >= 0) or (fixed and (low or high)):
            raise ValueError(
                f"column {column.name!r}: a numeric column takes shares of at least 0, "
                f"a categorical one only 0; got {reach}"
            )
        down.append(low)
        up.append(high)
    return Columns(eps, torch.tensor(down), torch.tensor(up))


def _column(x: Tensor) -> tuple[int, ...]:
    return (-1, *[1] * (x.dim() - 1))


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of every row, shaped to divide it."""
    lengths: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return lengths.view(_column(x))
