"""ImageNet-C's blurs. Lengths are shares of the shorter side, with a least length in pixels."""

import numpy as np
from scipy import ndimage

from models.corruptions.base import Images, pixels, unit
from models.corruptions.filters import convolve, disc, grid, resample, sample, streaks, stretching


def gaussian_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A normal kernel."""
    del rng
    sigma = pixels(x, severity, (0.004, 0.008, 0.013, 0.018, 0.025), least=0.35)
    return unit(ndimage.gaussian_filter(x, (0, 0, sigma, sigma)))


def defocus_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A lens out of focus: a disc as kernel."""
    del rng
    return unit(convolve(x, disc(pixels(x, severity, (0.006, 0.012, 0.02, 0.03, 0.04), 0.5))))


def glass_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Seen through frosted glass: blur, pixels that trade places with near ones twice, blur.

    Every pixel reads from a random place near it, all at once; ImageNet-C swaps one pair of pixels
    after the other, which keeps every value but cannot be done for a whole batch.
    """
    sigma = pixels(x, severity, (0.002, 0.003, 0.0035, 0.004, 0.0045), least=0.15)
    reach = pixels(x, severity, (0.001, 0.006, 0.011, 0.016, 0.022), least=0.5)
    seen = ndimage.gaussian_filter(x, (0, 0, sigma, sigma))
    places = grid(x)
    for _ in range(2):
        moves = np.rint(rng.uniform(-reach, reach, (2, len(x), *x.shape[2:])))
        seen = sample(seen, places[0] + moves[0], places[1] + moves[1])
    return unit(ndimage.gaussian_filter(seen, (0, 0, sigma, sigma)))


def motion_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A camera that moved along a line, within 45 degrees of level."""
    length = pixels(x, severity, (0.03, 0.05, 0.08, 0.11, 0.15), least=0.5)
    return unit(convolve(x, streaks(length, rng.uniform(-np.pi / 4, np.pi / 4, len(x)))))


def zoom_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A camera that moved towards the middle: the mean over zooms from 1 to 1.09 to 1.35."""
    del rng
    most = (1.09, 1.14, 1.20, 1.27, 1.35)[severity - 1]
    height, width = x.shape[2:]
    # A step per pixel that the edge moves; 16 are enough for a large image to show no copies.
    steps = min(16, 2 + int(np.ceil((most - 1) / 2 * max(height, width))))
    total = np.zeros_like(x)
    for zoom in np.linspace(1, most, steps):
        rows, columns = (
            stretching((np.arange(size) - (size - 1) / 2) / zoom + (size - 1) / 2, size)
            for size in (height, width)
        )
        total += resample(x, rows, columns)
    return unit(total / steps)
