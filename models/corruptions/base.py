"""What all corruptions share: types, the unit range, and how a size grows with the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.versions.schema import InputArray, InputSchema

Images = npt.NDArray[np.float32]
Corruption = Callable[[Images, int, np.random.Generator], Images]
SEVERITIES = (1, 2, 3, 4, 5)

# The published strengths are for images of these sides (CIFAR-10-C and ImageNet-C).
SMALL, LARGE = 32, 224
CHUNK_VALUES = 2**24


@dataclass(frozen=True)
class Kind:
    """One corruption of images.

    Args:
        name: that of its function.
        group: whose figure it belongs to.
        corrupt: `(x_unit, severity, rng)` to the same shape in [0, 1].
        colour: whether it means something for three colours only.
    """

    name: str
    group: str
    corrupt: Corruption
    colour: bool = False

    def apply(self, x_unit: Images, severity: int, rng: np.random.Generator) -> Images:
        """Corrupt `(N, C, H, W)` in [0, 1] at severity 1 to 5, in chunks of bounded memory."""
        assert x_unit.ndim == 4
        assert severity in SEVERITIES
        step = max(1, CHUNK_VALUES // max(1, x_unit[:1].size))
        if len(x_unit) <= step:
            return self.corrupt(x_unit, severity, rng)
        starts = range(0, len(x_unit), step)
        return np.concatenate([self.corrupt(x_unit[a : a + step], severity, rng) for a in starts])

    def on_raw(
        self, schema: InputSchema, x_raw: InputArray, severity: int, rng: np.random.Generator
    ) -> InputArray:
        """The same on raw images `(N, *shape)` of a schema."""
        return schema.from_unit(self.apply(schema.to_unit(x_raw), severity, rng))


def unit(x: npt.NDArray[Any]) -> Images:
    """Clipped to [0, 1], as float32."""
    clipped: Images = np.clip(x, 0.0, 1.0).astype(np.float32)
    return clipped


def side(x: Images) -> int:
    """The shorter side of the images, in pixels."""
    return int(min(x.shape[2:]))


def strength(x: Images, severity: int, small: Sequence[float], large: Sequence[float]) -> float:
    """The published strength at a severity, for images of this size.

    Args:
        x: the images; only their size counts.
        severity: 1 to 5.
        small, large: five strengths for sides of 32 and 224 pixels; linear in the logarithm of the
            side between, constant beyond.
    """
    share = np.log(side(x) / SMALL) / np.log(LARGE / SMALL)
    return float(np.interp(share, [0.0, 1.0], [small[severity - 1], large[severity - 1]]))


def pixels(x: Images, severity: int, shares: Sequence[float], least: float = 0.0) -> float:
    """A length in pixels: `least` and a share of the shorter side."""
    return least + shares[severity - 1] * side(x)
