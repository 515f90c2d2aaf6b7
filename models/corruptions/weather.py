"""ImageNet-C's weather: snow, frost, fog, light, splashes."""

import numpy as np

from models.corruptions.base import Images, pixels, strength, unit
from models.corruptions.filters import convolve, resample, streaks, stretching
from models.corruptions.textures import blobs, clouds, ice

ICE_TINT = np.array([0.86, 0.95, 1.0], dtype=np.float32)[:, None, None]
WATER_TINT = np.array([0.69, 0.93, 0.93], dtype=np.float32)[:, None, None]


def snow(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Flakes that fall in one direction over a paler scene."""
    share = (0.01, 0.02, 0.03, 0.045, 0.06)[severity - 1]
    pale = (0.08, 0.14, 0.20, 0.26, 0.32)[severity - 1]
    size = max(1.0, pixels(x, severity, (0.009, 0.010, 0.012, 0.014, 0.016)))
    n, (height, width) = len(x), x.shape[2:]
    down, across = (max(1, int(np.ceil(length / size))) for length in (height, width))
    draw = rng.random((n, 1, down, across), dtype=np.float32)
    flakes = np.where(draw < share, 0.5 + 0.5 * draw / share, 0).astype(np.float32)
    flakes = resample(flakes, *(_spread(k, a) for k, a in ((height, down), (width, across))))
    fall = streaks(pixels(x, severity, (0.05,) * 5, least=0.5), rng.uniform(0.25, 0.75, n) * np.pi)
    # A streak spreads a flake's light over its length; most of the brightness is given back.
    flakes = 1.8 * convolve(flakes, fall)
    paler = np.maximum(x, 0.5 + 0.5 * x.mean(axis=1, keepdims=True))
    return unit((1 - pale) * x + pale * paler + flakes + flakes[:, :, ::-1, ::-1])


def frost(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Ice on the lens: the scene fades under a layer of generated ice (`textures.ice`)."""
    scene = strength(x, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.95, 0.8, 0.7, 0.65, 0.6))
    layer = strength(x, severity, (0.2, 0.3, 0.4, 0.5, 0.6), (0.4, 0.55, 0.65, 0.7, 0.8))
    return unit(scene * x + layer * _tint_layer(ice(len(x), x.shape[2:], rng), x, ICE_TINT))


def fog(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Clouds of fractal noise in front of the scene, which keeps its brightest value."""
    density = strength(x, severity, (0.2, 0.5, 0.75, 1.0, 1.5), (1.5, 2.0, 2.3, 2.6, 3.0))
    decay = strength(x, severity, (2.0, 2.0, 1.9, 1.8, 1.7), (1.8, 1.8, 1.7, 1.7, 1.6))
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    haze = clouds(len(x), x.shape[2:], decay, rng)
    return unit((x + density * haze) * brightest / np.maximum(brightest + density, 1e-6))


def brightness(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The value (the largest of the channels) rises; hue and saturation stay."""
    del rng
    rise = strength(x, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = x.max(axis=1, keepdims=True)
    brighter = np.minimum(value + np.float32(rise), 1)
    ratio = brighter / np.where(value > 0, value, 1)
    return unit(np.where(value > 0, x * ratio, brighter))


def spatter(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Splashes on the lens: light blobs over 6 to 30 % of the image.

    ImageNet-C takes mud for the two strongest; mud is invisible on a dark ground, so here it is
    water throughout.
    """
    share = (0.06, 0.11, 0.17, 0.23, 0.30)[severity - 1]
    opaque = (0.45, 0.5, 0.55, 0.6, 0.7)[severity - 1]
    length = max(1.0, pixels(x, severity, (0.02,) * 5))
    depth = opaque * blobs(len(x), x.shape[2:], length, share, rng)
    water = _tint_layer(np.ones((1, 1, 1, 1), dtype=np.float32), x, WATER_TINT)
    return unit(x * (1 - depth) + depth * water)


def _tint_layer(layer: Images, x: Images, tint: Images) -> Images:
    """A grey layer in the colours of the images: tinted where they have three channels."""
    return layer * tint if x.shape[1] == 3 else layer


def _spread(size: int, parts: int) -> Images:
    return stretching((np.arange(size) + 0.5) * parts / size - 0.5, parts)
