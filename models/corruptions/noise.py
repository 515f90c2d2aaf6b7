"""ImageNet-C's noise: independent at every value of an image."""

import numpy as np

from models.corruptions.base import Images, strength, unit


def gaussian_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Additive normal noise."""
    sigma = strength(x, severity, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
    return unit(x + np.float32(sigma) * rng.standard_normal(x.shape, dtype=np.float32))


def shot_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Poisson noise of so many photons at white."""
    photons = strength(x, severity, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    return unit(rng.poisson(x * photons) / photons)


def impulse_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A share of the values becomes black or white."""
    share = strength(x, severity, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    draw = rng.random(x.shape, dtype=np.float32)
    spoiled = np.where(draw > 1 - share / 2, np.float32(1), x)
    spoiled[draw < share / 2] = 0
    return unit(spoiled)


def speckle_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Normal noise in proportion to the value."""
    sigma = strength(x, severity, (0.06, 0.10, 0.12, 0.16, 0.20), (0.15, 0.20, 0.35, 0.45, 0.60))
    return unit(x + x * np.float32(sigma) * rng.standard_normal(x.shape, dtype=np.float32))
