"""The ten of the quick suite, which also stand for everyday damage in training, and plain shifts.

Sizes make sense from 8x8 up. Each takes `(x_unit, severity, rng)` and gives the same shape in
[0, 1].
"""

import numpy as np
from scipy import ndimage

from models.corruptions.base import Images, unit


def gaussian_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Additive noise of standard deviation .04 to .2."""
    return unit(x + rng.normal(0, 0.04 * severity, x.shape))


def shot_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Poisson noise of 100 down to 12 photons at white."""
    photons = (100, 50, 30, 18, 12)[severity - 1]
    return unit(rng.poisson(x * photons) / photons)


def impulse_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A share of 1 to 8 % of the values becomes black or white."""
    share = (0.01, 0.02, 0.035, 0.055, 0.08)[severity - 1]
    draw = rng.random(x.shape)
    return unit(np.where(draw < share / 2, 0.0, np.where(draw > 1 - share / 2, 1.0, x)))


def blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Gaussian blur; the width grows with the severity and the size of the image."""
    del rng
    sigma = 0.25 * severity * max(1.0, x.shape[-1] / 28)
    return unit(ndimage.gaussian_filter(x, sigma=(0, 0, sigma, sigma)))


def contrast(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Contrast around the mean of each image falls to .85 to .3."""
    del rng
    factor = (0.85, 0.7, 0.55, 0.4, 0.3)[severity - 1]
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return unit((x - mean) * factor + mean)


def brightness(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """All values rise by .06 to .3."""
    del rng
    return unit(x + 0.06 * severity)


def darkness(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """All values are scaled by .9 down to .5."""
    del rng
    return unit(x * (1 - 0.1 * severity))


def rotate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Rotation by 5 to 25 degrees, either way."""
    sign = rng.choice([-1.0, 1.0], size=len(x))
    return np.stack(
        [rotated(row[None], 5.0 * severity * s)[0] for row, s in zip(x, sign, strict=True)]
    )


def shift(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Translation by up to 2.5 to 12.5 % of the width, in both directions."""
    reach = 0.025 * severity * x.shape[-1]
    moves = rng.uniform(-reach, reach, size=(len(x), 2))
    moved = [ndimage.shift(row, (0, *move), order=1) for row, move in zip(x, moves, strict=True)]
    return unit(np.stack(moved))


def pixelate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Down to 90 to 50 % of the size and up again."""
    del rng
    small = 1 - 0.1 * severity
    height, width = x.shape[2:]
    down = ndimage.zoom(x, (1, 1, small, small), order=1, mode="nearest")
    grown = (1, 1, height / down.shape[2], width / down.shape[3])
    up = ndimage.zoom(down, grown, order=1, mode="nearest")
    return unit(up)


def rotated(x: Images, degrees: float) -> Images:
    """All images turned by the same angle (linear interpolation, black outside)."""
    return unit(ndimage.rotate(x, degrees, axes=(3, 2), reshape=False, order=1))


def inverted(x: Images) -> Images:
    """1 - x."""
    return unit(1.0 - x)


def noisy(x: Images, sigma: float, rng: np.random.Generator) -> Images:
    """Additive Gaussian noise of standard deviation `sigma` (unit range)."""
    return unit(x + rng.normal(0, sigma, x.shape))


def blurred(x: Images, sigma: float) -> Images:
    """Gaussian blur of `sigma` pixels."""
    return unit(ndimage.gaussian_filter(x, sigma=(0, 0, sigma, sigma)))
