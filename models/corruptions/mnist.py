"""What MNIST-C adds (Mu & Gilmer 2019): affine changes, drawn lines, stripes, edges.

MNIST-C has one strength for each; here each has five. The ground is taken to be black.
"""

import numpy as np
from scipy import ndimage

from models.corruptions.base import Images, pixels, side, unit
from models.corruptions.filters import Floats, grid, warp

# In units of the Gaussian-smoothed Sobel gradient (weights 1 2 1, unit range).
STRONG_EDGE, WEAK_EDGE = 0.8, 0.3


def shear(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Rows slide by 10 to 60 % of their distance from the middle, either way."""
    amount = (0.1, 0.2, 0.3, 0.45, 0.6)[severity - 1] * _sign(x, rng)
    matrices = np.tile(np.eye(2), (len(x), 1, 1))
    matrices[:, 1, 0] = amount
    return unit(warp(x, matrices))


def scale(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Shrunk to 90 to 50 % of the size."""
    del rng
    shrunk = (0.9, 0.8, 0.7, 0.6, 0.5)[severity - 1]
    return unit(warp(x, np.tile(np.eye(2) / shrunk, (len(x), 1, 1))))


def rotate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Turned by 10 to 50 degrees, either way."""
    angle = np.deg2rad((10, 20, 30, 40, 50)[severity - 1]) * _sign(x, rng)
    cos, sin = np.cos(angle), np.sin(angle)
    return unit(warp(x, np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)))


def translate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Moved by 4 to 20 % of the side, in any direction."""
    reach = pixels(x, severity, (0.04, 0.08, 0.12, 0.16, 0.20))
    angle = rng.uniform(0, 2 * np.pi, len(x))
    moves = reach * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return unit(warp(x, np.tile(np.eye(2), (len(x), 1, 1)), moves))


def brightness(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """All values rise by .1 to .5."""
    del rng
    return unit(x + np.float32(0.1 * severity))


def stripe(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A vertical stripe of 5 to 30 % of the width is inverted."""
    across = x.shape[3]
    wide = max(1, round((0.05, 0.10, 0.15, 0.22, 0.30)[severity - 1] * across))
    start = rng.integers(0, across - wide + 1, len(x))[:, None]
    inside = (np.arange(across) >= start) & (np.arange(across) < start + wide)
    return unit(np.where(inside[:, None, None], 1 - x, x))


def dotted_line(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """One to five straight dotted lines in white."""
    drawn = x
    for _ in range(severity):
        along, across = _across(x, rng)
        dots = np.mod(along / _pen(x), 4) < 2
        drawn = np.maximum(drawn, (_ink(np.abs(across), x) * dots)[:, None])
    return unit(drawn)


def zigzag(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """One to five zigzag lines in white."""
    period, height = max(3.0, 0.2 * side(x)), max(1.0, 0.07 * side(x))
    drawn = x
    for _ in range(severity):
        along, across = _across(x, rng)
        wave = height * (4 * np.abs(np.mod(along / period, 1) - 0.5) - 1)
        # The distance from a slope is shorter than the distance straight down to it.
        steep = np.hypot(1, 4 * height / period)
        drawn = np.maximum(drawn, _ink(np.abs(across - wave) / steep, x)[:, None])
    return unit(drawn)


def canny_edges(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The image fades into its edges (Canny 1986): 20 to 100 % edges.

    Gaussian smoothing, Sobel gradients, only the crest of each, and only those crests that are
    connected with a strong one.
    """
    del rng
    grey = ndimage.gaussian_filter(x.mean(axis=1), (0, *(max(0.6, 0.02 * side(x)),) * 2))
    down, across = ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2)
    size = np.hypot(down, across)
    crest = size * _is_crest(size, np.arctan2(down, across))
    plane = np.ones((1, 3, 3), dtype=bool)
    edges = ndimage.binary_propagation(crest > STRONG_EDGE, structure=plane, mask=crest > WEAK_EDGE)
    share = np.float32(0.2 * severity)
    return unit(x * (1 - share) + share * edges[:, None])


def _is_crest(size: Floats, angle: Floats) -> np.ndarray:
    """Where the gradient `(N, H, W)` is no smaller than both neighbours along its direction."""
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    sector = np.mod(np.rint(angle / (np.pi / 4)).astype(int), 4)
    height, width = size.shape[1:]

    def moved(v: int, u: int) -> Floats:
        return padded[:, 1 + v : 1 + v + height, 1 + u : 1 + u + width]

    crest = np.zeros(size.shape, dtype=bool)
    for k, (v, u) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        crest |= (sector == k) & (size >= moved(v, u)) & (size >= moved(-v, -u))
    return crest


def _sign(x: Images, rng: np.random.Generator) -> Floats:
    return rng.choice([-1.0, 1.0], size=len(x))


def _pen(x: Images) -> float:
    """Width of a drawn line, in pixels."""
    return max(1.0, side(x) / 28)


def _ink(distance: Floats, x: Images) -> Floats:
    """How much of a line covers pixels at a distance from its middle, 0 to 1."""
    covered: Floats = np.clip(_pen(x) / 2 + 0.5 - distance, 0, 1)
    return covered


def _across(x: Images, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Coordinates `(N, H, W)` in pixels along and across a random line near each middle."""
    rows, columns = grid(x)
    angle, aside = rng.uniform(0, np.pi, len(x)), rng.uniform(-0.25, 0.25, len(x)) * side(x)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    v, u = rows - (x.shape[2] - 1) / 2, columns - (x.shape[3] - 1) / 2
    return u * cos + v * sin, v * cos - u * sin - aside[:, None, None]
