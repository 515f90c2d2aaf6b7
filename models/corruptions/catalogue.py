"""The corruptions of images there are, one record each in its group: read by suites and reports.

A new corruption is its function, and its record here; those of tables are in
`models.corruptions.tables`. The perturbation head learns not to flag what stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.corruptions import blurs, digital, mnist, noise, ten, weather
from models.corruptions.base import Corruption, Kind


@dataclass(frozen=True)
class Group:
    """Corruptions that are averaged in one figure.

    Args:
        name: in figures and metrics.
        title: in reports.
        kinds: in the order of reports.
        quick: whether they are the quick suite, and what rows for training are copied with.
        most_colour_side: pixels of the shorter side up to which colour images have it; None: any.
    """

    name: str
    title: str
    kinds: tuple[Kind, ...]
    quick: bool = False
    most_colour_side: int | None = None


def _group(
    name: str,
    title: str,
    *corruptions: Corruption,
    colour: tuple[Corruption, ...] = (),
    quick: bool = False,
    most_colour_side: int | None = None,
) -> Group:
    """A group; `colour` are those that mean something for three colours only."""
    kinds = [Kind(c.__name__, name, c) for c in corruptions]
    kinds += [Kind(c.__name__, name, c, colour=True) for c in colour]
    return Group(name, title, tuple(kinds), quick, most_colour_side)


_ALL = (
    _group(
        "holdfast", "Everyday corruptions",
        ten.gaussian_noise, ten.shot_noise, ten.impulse_noise, ten.blur, ten.contrast,
        ten.brightness, ten.darkness, ten.rotate, ten.shift, ten.pixelate,
        quick=True,
    ),
    _group(
        "imagenet-c", "ImageNet-C, fifteen kinds",
        noise.gaussian_noise, noise.shot_noise, noise.impulse_noise,
        blurs.defocus_blur, blurs.glass_blur, blurs.motion_blur, blurs.zoom_blur,
        weather.snow, weather.frost, weather.fog, weather.brightness,
        digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression,
    ),
    _group(
        "imagenet-c-extra", "ImageNet-C, the extra kinds",
        noise.speckle_noise, blurs.gaussian_blur, weather.spatter,
        colour=(digital.saturate,),
    ),
    _group(
        "mnist-c", "In the manner of MNIST-C",
        noise.shot_noise, noise.impulse_noise, blurs.glass_blur, blurs.motion_blur,
        mnist.shear, mnist.scale, mnist.rotate, mnist.brightness, mnist.translate, mnist.stripe,
        weather.fog, weather.spatter, mnist.dotted_line, mnist.zigzag, mnist.canny_edges,
        most_colour_side=64,
    ),
)  # fmt: skip
GROUPS: Mapping[str, Group] = MappingProxyType({group.name: group for group in _ALL})
QUICK: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for group in _ALL if group.quick for kind in group.kinds}
)
