"""Benign corruptions of unit-range images `(N, channels, height, width)` at severities 1 to 5.

Own, batched NumPy/SciPy versions of ImageNet-C (Hendrycks & Dietterich 2019) and MNIST-C (Mu &
Gilmer 2019), for images from 8x8 grey to 224x224 colour: each takes `(x_unit, severity, rng)` and
gives the same shape in [0, 1]. Published strengths are interpolated between those for 32 and for
224 pixels, and lengths are shares of the side. They are not the published files, so figures
compare versions of one's own, not entries of the public tables. Frost is generated, not
photographed. Faults of sensors (`sensor`) are no part of the suites.
"""

from models.corruptions import sensor
from models.corruptions.base import SEVERITIES, Corruption, Images, Kind
from models.corruptions.catalogue import GROUPS, QUICK
from models.corruptions.suites import random_benign, random_corruptions, suite
from models.corruptions.ten import blurred, brightness, inverted, noisy, rotated

__all__ = [
    "GROUPS",
    "QUICK",
    "SEVERITIES",
    "Corruption",
    "Images",
    "Kind",
    "blurred",
    "brightness",
    "inverted",
    "noisy",
    "random_benign",
    "random_corruptions",
    "rotated",
    "sensor",
    "suite",
]
