"""Interval bounds through a chain of layers, and margins between classes (Gowal et al. 2018).

A linear layer takes the centre and the radius of a box: c <- W c + b, r <- |W| r. What rises
with its input (ReLU, the largest of a patch) takes both ends.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attacks.threat import Columns, Linf, Threat
from models.base.errors import TrainingError
from models.certificates.layers import Chain, Flat, Layer, Relu, Scale

SAME = 1e-6  # of the largest logit: more than roundings of float64, and of constants in float32


class Box(NamedTuple):
    """Lower and upper ends `(N, ...)` of every value."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Passed:
    """A box before the last layer, and the boxes before every ReLU on the way."""

    box: Box
    active: tuple[Box, ...]


def box_around(x_unit: Tensor, threat: Threat) -> Box:
    """All that a threat allows around unit-range inputs `(N, ...)`.

    Images stay in [0, 1]. Numbers of a table may leave their training range; held columns and
    missing values do not move.

    Raises:
        TypeError: the threat is no box.
    """
    if isinstance(threat, Linf):
        return Box((x_unit - threat.eps).clamp(0, 1), (x_unit + threat.eps).clamp(0, 1))
    if not isinstance(threat, Columns):
        raise TypeError(f"interval bounds are for boxes, not for the norm {threat.norm}")
    down, up = threat.eps * threat.down.to(x_unit), threat.eps * threat.up.to(x_unit)
    return Box(x_unit - down, x_unit + up)  # a missing value stays NaN


def propagate(chain: Chain, box: Box) -> Passed:
    """The box of unit-range inputs through all layers but the last, in the box's precision."""
    return pass_layers(chain, Box(chain.encode(box.low), chain.encode(box.high)))


def pass_layers(chain: Chain, box: Box) -> Passed:
    """The box of encoded inputs through all layers but the last."""
    low, high = box
    active: list[Box] = []
    for layer in chain.body:
        if isinstance(layer, Relu):
            active.append(Box(low, high))
        low, high = _step(layer, low, high)
    return Passed(Box(low, high), tuple(active))


def margins(last: nn.Linear, box: Box, y: Tensor) -> Tensor:
    """Lower bounds `(N, C)` of f_y - f_j, the last layer merged with the difference; 0 for j = y.

    m_j = (w_y - w_j) c - |w_y - w_j| r + b_y - b_j

    Args:
        last: the layer that gives the logits f.
        box: of its input `(N, H)`.
        y: `(N,)` classes.
    """
    weight = last.weight.to(box.low)
    difference = weight[y][:, None, :] - weight  # (N, C, H)
    centre, radius = (box.low + box.high) / 2, (box.high - box.low) / 2
    lower = (difference @ centre[:, :, None] - difference.abs() @ radius[:, :, None]).squeeze(2)
    if last.bias is not None:
        bias = last.bias.to(box.low)
        lower = lower + bias[y][:, None] - bias
    return lower


@torch.no_grad()
def worst_margins(
    chain: Chain, x_unit: Tensor, y: Tensor, threat: Threat, rows: int = 256
) -> Tensor:
    """Lower bounds `(N,)` of f_y - max_{j != y} f_j over all that the threat allows, in float64.

    Args:
        chain: of the net.
        x_unit: `(N, *shape)` unit-range inputs.
        y: `(N,)` classes.
        threat: a box.
        rows: at a time.
    """
    found = [torch.zeros(0, dtype=torch.float64, device=x_unit.device)]
    for start in range(0, len(y), rows):
        part = y[start : start + rows]
        box = box_around(x_unit[start : start + rows].double(), threat)
        lower = margins(chain.last, propagate(chain, box).box, part)
        lower[torch.arange(len(part), device=part.device), part] = torch.inf
        found.append(lower.amin(dim=1))
    return torch.cat(found)


@torch.no_grad()
def check_chain(net: nn.Module, chain: Chain, x_unit: Tensor) -> None:
    """Compare the logits of a chain with those of its net, both in float64.

    A certificate is about the chain. What the trace of a net got wrong would make it a false one.

    Args:
        net: the module that the chain was read from.
        chain: its layers.
        x_unit: `(N, *shape)` unit-range inputs to compare at.

    Raises:
        TrainingError: they differ.
    """
    x = x_unit.double()
    expected = copy.deepcopy(net).double().eval()(x)
    expected = expected[0] if isinstance(expected, (tuple, list)) else expected
    at = propagate(chain, Box(x, x)).box.low
    bias = None if chain.last.bias is None else chain.last.bias.double()
    logits = F.linear(at, chain.last.weight.double(), bias)
    difference = float((logits - expected).abs().max())
    if not difference <= SAME * (1 + float(expected.abs().max())):  # NaN is not the same either
        raise TrainingError(
            f"certified training read the net as a chain of layers whose logits differ by "
            f"{difference:.2g} from the net's own: nothing may be certified with it; keep "
            "forward a plain chain of layers"
        )


def _step(layer: Layer, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, Relu):
        return low.relu(), high.relu()
    if isinstance(layer, Flat):
        return low.flatten(1), high.flatten(1)
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
        return layer(low), layer(high)
    centre, radius = (low + high) / 2, (high - low) / 2
    if isinstance(layer, Scale):
        factor, shift = layer.factor.to(low), layer.shift.to(low)
        centre, radius = centre * factor + shift, radius * factor.abs()
    else:
        bias = None if layer.bias is None else layer.bias.to(low)
        weight = layer.weight.to(low)
        centre, radius = _linear(layer, centre, weight, bias), _linear(layer, radius, weight.abs())
    return centre - radius, centre + radius


def _linear(
    layer: nn.Linear | nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    stride, dilation = tuple(layer.stride), tuple(layer.dilation)
    return F.conv2d(x, weight, bias, stride, padding, dilation, layer.groups)
