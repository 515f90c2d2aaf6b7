"""Which corruptions an evaluation applies to which inputs."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from models.corruptions import blurs, digital, mnist, noise, tables, weather
from models.corruptions.base import Corruption, Kind
from models.corruptions.ten import CORRUPTIONS, random_corruptions
from models.versions.schema import InputArray, InputSchema

SMALL_SIDE = 64


def _index_by_name(*corruptions: Corruption) -> dict[str, Corruption]:
    return {c.__name__: c for c in corruptions}


IMAGENET_C = _index_by_name(
    noise.gaussian_noise, noise.shot_noise, noise.impulse_noise,
    blurs.defocus_blur, blurs.glass_blur, blurs.motion_blur, blurs.zoom_blur,
    weather.snow, weather.frost, weather.fog, weather.brightness,
    digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression,
)  # fmt: skip
IMAGENET_C_EXTRA = _index_by_name(
    noise.speckle_noise, blurs.gaussian_blur, weather.spatter, digital.saturate
)
MNIST_C = _index_by_name(
    noise.shot_noise, noise.impulse_noise, blurs.glass_blur, blurs.motion_blur,
    mnist.shear, mnist.scale, mnist.rotate, mnist.brightness, mnist.translate, mnist.stripe,
    weather.fog, weather.spatter, mnist.dotted_line, mnist.zigzag, mnist.canny_edges,
)  # fmt: skip
GROUPS: Mapping[str, Mapping[str, Corruption]] = {
    "holdfast": CORRUPTIONS,
    "imagenet-c": IMAGENET_C,
    "imagenet-c-extra": IMAGENET_C_EXTRA,
    "mnist-c": MNIST_C,
}


def suite(schema: InputSchema, which: Literal["full", "quick"] = "full") -> list[Kind]:
    """The corruptions that make sense for inputs of a schema; none for tables (see `stress`).

    Args:
        schema: the input schema.
        which: `quick`: the ten of Holdfast. `full`: also ImageNet-C's 15 + 4 (saturation where
            there are three colours), and MNIST-C's 15 where images are grey or at most 64 pixels.

    >>> digits = InputSchema("x", (1, 8, 8), "float32", 0.0, 16.0, "image")
    >>> len(suite(digits, "quick")), len(suite(digits))
    (10, 43)
    """
    if schema.kind == "tabular":
        return []
    channels, height, width = schema.shape
    left_out = set() if which == "full" else set(GROUPS) - {"holdfast"}
    if channels != 1 and min(height, width) > SMALL_SIDE:
        left_out.add("mnist-c")
    return [
        Kind(name, group, corrupt)
        for group, kinds in GROUPS.items()
        for name, corrupt in kinds.items()
        if group not in left_out and (channels == 3 or name != "saturate")
    ]


def random_benign(schema: InputSchema, x_raw: InputArray, rng: np.random.Generator) -> InputArray:
    """Raw rows `(N, *shape)`, each with one benign change of a random kind and severity.

    Images: one of the ten. Tables: one of the benign kinds of `models.corruptions.tables` that
    apply. The rows pass `schema.check`.
    """
    if schema.kind == "tabular":
        return tables.random_benign(schema, x_raw, rng)
    return schema.from_unit(random_corruptions(schema.to_unit(x_raw), rng))
