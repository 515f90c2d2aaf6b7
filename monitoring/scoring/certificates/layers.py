"""One layer after the other: both ends of every value, rounded outwards."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from models.certificates.layers import Flat, Layer, Relu, Scale
from monitoring.scoring.certificates.rounding import TINY, Array, fan_in, gamma, pair
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Ends:
    """Names of the tensors of both ends, and whether no value is below 0."""

    low: str
    high: str
    positive: bool


def emit_layer(graph: GraphBuilder, layer: Layer, ends: Ends) -> Ends:
    """The ends behind a layer."""
    if isinstance(layer, Relu):
        low, high = (graph.op("Relu", end) for end in (ends.low, ends.high))
        return Ends(low, high, positive=True)
    if isinstance(layer, Flat):
        low, high = (graph.op("Flatten", end, axis=1) for end in (ends.low, ends.high))
        return Ends(low, high, ends.positive)
    if isinstance(layer, nn.MaxPool2d):
        names = {
            "kernel_shape": pair(layer.kernel_size), "strides": pair(layer.stride),
            "pads": 2 * pair(layer.padding), "dilations": pair(layer.dilation),
        }  # fmt: skip
        low, high = (graph.op("MaxPool", end, **names) for end in (ends.low, ends.high))
        return Ends(low, high, ends.positive)
    if isinstance(layer, Scale) and _is_identity(layer):
        return ends
    centre, radius = _emit_linear(graph, layer, *_emit_sums(graph, ends, gamma(fan_in(layer))),
                                  gamma(fan_in(layer)))  # fmt: skip
    return Ends(graph.op("Sub", centre, radius), graph.op("Add", centre, radius), positive=False)


def _emit_sums(graph: GraphBuilder, ends: Ends, rounding: float) -> tuple[str, str]:
    """s = l + u, and d = u - l + 2 gamma max(|l|, |u|)."""
    total = graph.op("Add", ends.low, ends.high)
    if ends.positive:
        wider = graph.op("Mul", ends.high, graph.const(np.float32(1 + 2 * rounding)))
        return total, graph.op("Sub", wider, ends.low)
    size = graph.op("Max", graph.op("Abs", ends.low), graph.op("Abs", ends.high))
    width = graph.op("Sub", ends.high, ends.low)
    return total, graph.op(
        "Add", width, graph.op("Mul", size, graph.const(np.float32(2 * rounding)))
    )


def _emit_linear(
    graph: GraphBuilder, layer: Layer, total: str, width: str, rounding: float
) -> tuple[str, str]:
    """Centre and radius behind a linear layer."""
    if isinstance(layer, Scale):
        factor, shift = layer.factor.double().numpy(), layer.shift.double().numpy()
        centre = graph.op("Add", graph.op("Mul", total, graph.const(factor / 2)),
                          graph.const(shift))  # fmt: skip
        radius = graph.op("Mul", width, graph.const(np.abs(factor) / 2))
        return centre, graph.op("Add", radius, graph.const(rounding * np.abs(shift) + TINY))
    if isinstance(layer, nn.AvgPool2d):
        pool = {"kernel_shape": pair(layer.kernel_size), "strides": pair(layer.stride)}
        half = graph.const(np.float32(0.5))
        centre, radius = (
            graph.op("Mul", graph.op("AveragePool", end, **pool), half) for end in (total, width)
        )
        return centre, graph.op("Add", radius, graph.const(np.float32(TINY)))
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    weight, bias = weights_of(layer)
    pairs = ((total, weight / 2, bias), (width, np.abs(weight) / 2, rounding * np.abs(bias) + TINY))
    if isinstance(layer, nn.Linear):
        centre, radius = (
            graph.op("Gemm", x, graph.const(w), graph.const(b), transB=1) for x, w, b in pairs
        )
        return centre, radius
    names = _conv_attributes(layer)
    centre, radius = (
        graph.op("Conv", x, graph.const(w), graph.const(b), **names) for x, w, b in pairs
    )
    return centre, radius


def weights_of(layer: nn.Linear | nn.Conv2d) -> tuple[Array, Array]:
    """Weights and bias of a linear layer, in float64."""
    weight = layer.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
    return weight, bias


def _conv_attributes(layer: nn.Conv2d) -> dict[str, object]:
    names: dict[str, object] = {
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    if isinstance(layer.padding, str):
        return names | {"auto_pad": "SAME_UPPER" if layer.padding == "same" else "VALID"}
    return names | {"pads": 2 * list(layer.padding)}


def _is_identity(layer: Scale) -> bool:
    return bool((layer.factor == 1).all() and (layer.shift == 0).all())
