"""How much the bounds are widened: constants, and the rounding of a sum of products."""

import numpy as np
import numpy.typing as npt
from torch import nn

from models.certificates.layers import Layer

UNIT_ROUNDOFF = 2.0**-24
INPUT_HAIR = 1e-6  # of the box: roundings of the scaling to the unit range
ENCODED_HAIR = 2e-6  # of an encoded row, times the largest value that it can have
TINY = 1e-30  # of every radius: products that underflow
MOST_CLASSES = 30  # beyond it differences of all pairs cost more than they give
BEYOND = 1.5  # a table's number further than this from the middle of its range is not certified
LARGEST = 1e30  # of any value in the chain: no sum can overflow below it
PROBABILITY_HAIR = 1e-5  # of a cooled margin: what the softmax and its rounding may hide
ENCODED_LIMIT = 8.0  # of what an encoder gives: standardised, clipped numbers and zeros and ones
FARTHEST_CODE = 1e6  # of a category that goes into a net as a number
LOGIT_LIMIT = 1e4  # where the graph of a table clips its logits

Array = npt.NDArray[np.float64]


def gamma(terms: int) -> float:
    """Relative rounding of a sum of `terms` products and of the same sum in the served net."""
    return 2.2 * (terms + 6) * UNIT_ROUNDOFF


def fan_in(layer: Layer) -> int:
    """Products in one sum of a layer."""
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        return layer.weight[0].numel()
    if isinstance(layer, nn.AvgPool2d):
        return int(np.prod(pair(layer.kernel_size)))
    return 1


def pair(value: int | tuple[int, ...]) -> list[int]:
    """A size of both sides of an image."""
    return [value, value] if isinstance(value, int) else list(value)
