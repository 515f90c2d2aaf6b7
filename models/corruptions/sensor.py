"""Faults of a sensor or a lens: few pixels, far off. Benign, and what sparse attacks look like.

They are no part of the suites (their figures stand beside those of ImageNet-C and MNIST-C); the
perturbation head learns them as benign.
"""

import numpy as np

from models.corruptions.base import Images, Kind, unit

GROWTH = 0.65  # pixels grow with the area as they do for `models.attacks.sparse.pixels`


def dead_pixels(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """One to five pixels of an 8x8 image are black; 5 to 25 of a 28x28 one."""
    return _set_pixels(x, severity, rng, np.zeros(len(x), dtype=np.float32))


def hot_pixels(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """As many are white."""
    return _set_pixels(x, severity, rng, np.ones(len(x), dtype=np.float32))


def salt(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A share of .02 to .1 of the pixels is black or white, all channels alike."""
    share = 0.02 * severity
    draw = rng.random((len(x), 1, *x.shape[2:]), dtype=np.float32)
    spoiled = np.where(draw < share / 2, np.float32(0), x)
    return unit(np.where(draw > 1 - share / 2, np.float32(1), spoiled))


def stuck_column(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """One to three neighbouring columns, or rows, have one grey level."""
    wide = max(1, round(severity / 2 * x.shape[3] / 28))
    start = rng.integers(0, max(x.shape[3] - wide, 0) + 1, len(x))[:, None]
    place = np.arange(x.shape[3])
    inside = ((place >= start) & (place < start + wide))[:, None, None, :]
    grey = rng.choice((0.0, 0.5, 1.0), len(x)).astype(np.float32)[:, None, None, None]
    fallen = np.where(inside, grey, x)
    if x.shape[2] == x.shape[3]:
        inside = np.swapaxes(inside, 2, 3)
        fallen = np.where(rng.random((len(x), 1, 1, 1)) < 0.5, fallen, np.where(inside, grey, x))
    return unit(fallen)


def occlusion(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A rectangle of an eighth to half of the side is black, grey, white, or noise."""
    sides = []
    for size in x.shape[2:]:
        most = max(1, round((0.125, 0.2, 0.3, 0.4, 0.5)[severity - 1] * size))
        length = rng.integers(max(1, most // 2), most + 1, len(x))[:, None]
        start = (rng.random((len(x), 1)) * (size - length + 1)).astype(np.int64)
        place = np.arange(size)
        sides.append((place >= start) & (place < start + length))
    inside = (sides[0][:, :, None] & sides[1][:, None, :])[:, None]
    flat = rng.choice((0.0, 0.5, 1.0), (len(x), 1, 1, 1)).astype(np.float32)
    noise = rng.random(x.shape, dtype=np.float32)
    content = np.where(rng.random((len(x), 1, 1, 1)) < 0.3, noise, flat)
    return unit(np.where(inside, content, x))


def _set_pixels(x: Images, severity: int, rng: np.random.Generator, value: Images) -> Images:
    """So many random pixels of every image `(N, ...)` at its value `(N,)`."""
    area = x.shape[2] * x.shape[3]
    count = min(area, max(severity, int(severity * (area / 64) ** GROWTH)))
    place = rng.random((len(x), area)).argpartition(count - 1, axis=1)[:, :count]
    marked = np.zeros((len(x), area), dtype=bool)
    np.put_along_axis(marked, place, True, axis=1)
    inside = marked.reshape(len(x), 1, *x.shape[2:])
    return unit(np.where(inside, value[:, None, None, None], x))


KINDS = tuple(
    Kind(each.__name__, "sensor", each)
    for each in (dead_pixels, hot_pixels, salt, stuck_column, occlusion)
)
