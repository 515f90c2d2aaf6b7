"""Random fields, one per image: clouds, ice, blobs. All are generated; no photograph is used."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from models.corruptions.base import Images

Floats = npt.NDArray[np.floating[Any]]


def clouds(n: int, size: tuple[int, ...], decay: float, rng: np.random.Generator) -> Images:
    """Fractal noise `(n, 1, H, W)` with amplitudes 1 / f^decay, each image stretched to [0, 1]."""
    height, width = size
    # Twice the size, of which a quarter is kept: the whole would repeat at its edges.
    tall, wide = 2 * height, 2 * width
    v = fft.fftfreq(tall)[:, None] * tall / max(tall, wide)
    u = fft.rfftfreq(wide)[None] * wide / max(tall, wide)
    frequency = np.hypot(v, u)
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((n, tall, wide), dtype=np.float32)
    spectrum = fft.rfft2(noise) * (frequency**-decay).astype(np.float32)
    field = fft.irfft2(spectrum, s=(tall, wide))[:, None, :height, :width]
    low, high = field.min((2, 3), keepdims=True), field.max((2, 3), keepdims=True)
    stretched: Images = ((field - low) / np.maximum(high - low, 1e-12)).astype(np.float32)
    return stretched


def ice(n: int, size: tuple[int, ...], rng: np.random.Generator) -> Images:
    """Ice on a window, `(n, 1, H, W)` in [0, 1]: bright veins in patches.

    Ridges of fractal noise, 1 - |2 f - 1|, sharpened, weighted by a second, coarser field. It
    stands in for ImageNet-C's photographs of frosted glass.
    """
    ridges = 1 - np.abs(2 * clouds(n, size, 1.2, rng) - 1)
    patches = clouds(n, size, 1.6, rng)
    layer: Images = np.clip(ridges**3 * (0.4 + 0.9 * patches) + 0.25 * patches, 0, 1)
    return layer


def smooth(shape: tuple[int, ...], length: float, rng: np.random.Generator) -> Floats:
    """Normal noise `(..., H, W)`, correlated over about `length` pixels, of variance 1 each."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    blank = (0.0,) * (len(shape) - 2)
    field = ndimage.gaussian_filter(noise, (*blank, length, length), mode="wrap")
    field -= field.mean((-2, -1), keepdims=True)
    scaled: Floats = field / np.maximum(field.std((-2, -1), keepdims=True), 1e-12)
    return scaled


def blobs(
    n: int, size: tuple[int, ...], length: float, share: float, rng: np.random.Generator
) -> Images:
    """How far each pixel lies in a blob, `(n, 1, H, W)` in [0, 1]; about `share` of them do."""
    field = smooth((n, 1, *size), length, rng)
    edge = np.quantile(field, 1 - share, axis=(2, 3), keepdims=True)
    depth: Images = np.clip((field - edge) * 4 + 0.5, 0, 1).astype(np.float32)
    return depth
