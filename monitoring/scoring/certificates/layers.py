"""One layer after the other: both ends of every value, rounded outwards."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from models.certificates.layers import Flat, Layer, Relu, Scale
from monitoring.scoring.certificates.rounding import TINY, Array, fan_in, gamma, pair
from monitoring.scoring.graph import GraphBuilder

MOST_JOINED = 32  # products in a sum up to which twice as many cost less than more nodes


@dataclass(frozen=True)
class Ends:
    """Both ends as one tensor `(N, 2 C, ...)`, the lower first, and whether no value is below 0."""

    joined: str
    positive: bool


def join(graph: GraphBuilder, low: str, high: str, *, positive: bool) -> Ends:
    """The ends of two tensors `(N, C, ...)`."""
    return Ends(graph.op("Concat", low, high, axis=1), positive)


def split(graph: GraphBuilder, ends: Ends) -> tuple[str, str]:
    """The tensors of the lower and the upper end."""
    low, high = graph.ops("Split", ends.joined, outputs=2, axis=1, num_outputs=2)
    return low, high


def emit_layer(graph: GraphBuilder, layer: Layer, ends: Ends) -> Ends:
    """The ends behind a layer."""
    if isinstance(layer, Relu):
        return Ends(graph.op("Relu", ends.joined), positive=True)
    if isinstance(layer, Flat):
        return Ends(graph.op("Flatten", ends.joined, axis=1), ends.positive)
    if isinstance(layer, nn.MaxPool2d):
        names = {
            "kernel_shape": pair(layer.kernel_size), "strides": pair(layer.stride),
            "pads": 2 * pair(layer.padding), "dilations": pair(layer.dilation),
        }  # fmt: skip
        return Ends(graph.op("MaxPool", ends.joined, **names), ends.positive)
    if isinstance(layer, Scale) and _is_identity(layer):
        return ends
    small = isinstance(layer, nn.Conv2d) and layer.groups == 1 and fan_in(layer) <= MOST_JOINED
    if small and ends.positive:
        return _emit_joined(graph, layer, ends)
    rounding = gamma(fan_in(layer))
    total, width = _emit_sums(graph, ends, rounding)
    centre, radius = _emit_linear(graph, layer, total, width, rounding)
    low, high = graph.op("Sub", centre, radius), graph.op("Add", centre, radius)
    return join(graph, low, high, positive=False)


def _emit_joined(graph: GraphBuilder, layer: Layer, ends: Ends) -> Ends:
    """One convolution of both ends, for 0 <= l <= u: twice the products, a fifth of the nodes.

    l' = W+ l + (W- - gamma |W|) u + b - gamma |b|, and u' alike
    """
    assert isinstance(layer, nn.Conv2d)
    weight, bias = weights_of(layer)
    rounding = gamma(2 * fan_in(layer))
    more, less, slack = np.maximum(weight, 0), np.minimum(weight, 0), rounding * np.abs(weight)
    edge = rounding * np.abs(bias) + TINY
    both = np.concatenate(
        [
            np.concatenate([more, less - slack], axis=1),
            np.concatenate([less, more + slack], axis=1),
        ]
    )
    shift = np.concatenate([bias - edge, bias + edge])
    names = _conv_attributes(layer)
    return Ends(
        graph.op("Conv", ends.joined, graph.const(both), graph.const(shift), **names),
        positive=False,
    )


def _emit_sums(graph: GraphBuilder, ends: Ends, rounding: float) -> tuple[str, str]:
    """s = l + u, and d = u - l + 2 gamma max(|l|, |u|)."""
    low, high = split(graph, ends)
    total = graph.op("Add", low, high)
    if ends.positive:
        wider = graph.op("Mul", high, graph.const(np.float32(1 + 2 * rounding)))
        return total, graph.op("Sub", wider, low)
    size = graph.op("Max", graph.op("Abs", low), graph.op("Abs", high))
    width = graph.op("Sub", high, low)
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
