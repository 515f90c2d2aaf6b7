"""ImageNet-C's digital corruptions: contrast, saturation, elastic warps, coarse pixels, JPEG."""

import io

import numpy as np

from models.corruptions.base import Images, pixels, side, strength, unit
from models.corruptions.filters import averaging, grid, resample, sample
from models.corruptions.textures import smooth


def contrast(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Values move towards the mean of their channel."""
    del rng
    left = strength(x, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = x.mean(axis=(2, 3), keepdims=True)
    return unit((x - mean) * np.float32(left) + mean)


def saturate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Saturation S of colour images becomes a S + b: paler for 1 and 2, then ever stronger.

    Greys have no hue and stay; images without colour channels do not change.
    """
    del rng
    factor, plus = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))[severity - 1]
    value, least = x.max(axis=1, keepdims=True), x.min(axis=1, keepdims=True)
    saturation = (value - least) / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + plus, 0, 1)
    ratio = np.where(saturation > 0, wanted / np.where(saturation > 0, saturation, 1), 1)
    return unit(value - (value - x) * ratio)


def elastic_transform(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Every place moves a little, and its neighbours nearly as much."""
    reach = pixels(x, severity, (0.008, 0.014, 0.02, 0.027, 0.035), least=0.15)
    length = max(1.0, 0.07 * side(x))
    moves = reach * smooth((2, len(x), *x.shape[2:]), length, rng)
    rows, columns = grid(x)
    return unit(sample(x, rows + moves[0], columns + moves[1]))


def pixelate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Averaged down to a share of the size, at least one pixel less, and spread again."""
    del rng
    share = strength(x, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    rows, columns = (
        averaging(size, max(1, min(int(size * share), size - 1))) for size in x.shape[2:]
    )
    return unit(resample(x, rows, columns))


def jpeg_compression(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Saved as JPEG of low quality and read again; channels one by one unless there are three."""
    from PIL import Image

    del rng
    quality = round(strength(x, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)))

    def squeezed(pixels: np.ndarray) -> np.ndarray:
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, format="JPEG", quality=quality)
        return np.asarray(Image.open(held))

    raw = np.rint(x * 255).astype(np.uint8)
    if x.shape[1] == 3:
        coloured = [squeezed(row) for row in np.ascontiguousarray(raw.transpose(0, 2, 3, 1))]
        read = np.stack(coloured).transpose(0, 3, 1, 2)
    else:
        read = np.stack([squeezed(page) for page in raw.reshape(-1, *x.shape[2:])]).reshape(x.shape)
    return unit(read / 255)
