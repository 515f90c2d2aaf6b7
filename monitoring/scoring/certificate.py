"""Certificates as nodes of the graph: interval bounds that are rounded outwards.

A layer takes the ends l <= u of every value as s = l + u and d = u - l + 2 gamma |.|:

    c = W/2 s + b,   r = |W|/2 d + gamma |b|,   l' = c - r,   u' = c + r

gamma = 2.2 (fan-in + 6) 2^-24 is more than all roundings of these sums, in any order, and of the
served layer's own sums together (Higham 2002, section 3.1). So the bounds hold for the float32
net that answers, not for an ideal one. It is an argument about float32 sums of products: half
floats, quantised weights and convolutions by transforms (Winograd, FFT) break it.

The last layer is one product with [l; u] that gives a lower bound of every difference of two
classes; an answer is certified if one class beats all others everywhere in the box. Boxes of
several sizes are stacked along the batch.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from models.attacks.threat import Columns, geometry_of
from models.base.logs import logger
from models.certificates.bounds import Box, pass_layers, worst_margins
from models.certificates.layers import Chain, Flat, Layer, Relu, Scale
from models.nets.export import encoder_to_onnx
from models.statistics.arrays import FloatArray, IntArray
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from models.versions.schema import InputArray, InputSchema
from monitoring.scoring.graph import GraphBuilder

log = logger("certificates")
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


@dataclass(frozen=True)
class Certifying:
    """What is to be compiled in: the net's chain of layers, and the boxes."""

    net: nn.Module
    chain: Chain
    facts: CertificateFacts

    def worst(self, schema: InputSchema, x: InputArray, y: IntArray) -> FloatArray:
        """Lower bounds `(N,)` of z_y - max_{k != y} z_k within eps of raw rows, in float64."""
        threat = geometry_of(ThreatModel("linf", self.facts.eps, self.facts.columns), schema)
        x_unit, labels = torch.from_numpy(schema.to_unit(x)), torch.from_numpy(y.astype(np.int64))
        found: FloatArray = worst_margins(self.chain, x_unit, labels, threat).numpy()
        return found


@dataclass(frozen=True)
class _Ends:
    """Names of the tensors of both ends, and whether no value is below 0."""

    low: str
    high: str
    positive: bool


def emit_certificate(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, what: Certifying, heat: float
) -> None:
    """Add the outputs `certified (N,)` and `certified_eps (N,)`.

    Args:
        graph: with the net in it.
        schema: of the input.
        x_unit: unit-range rows, not clipped.
        what: chain and boxes.
        heat: temperature of the served probabilities.
    """
    radii, hair = what.facts.radii, least_lead(what, schema, heat)
    if not math.isfinite(hair):
        _emit_nothing(graph, schema, x_unit)
        return
    ends, inside = _emit_boxes(graph, schema, x_unit, what)
    for layer in what.chain.body:
        ends = _emit_layer(graph, layer, ends)
    lead = _emit_lead(graph, what.chain.last, ends)
    proven = graph.op("Greater", lead, graph.const(np.float32(hair)))
    if len(radii) > 1:
        proven = graph.op("Reshape", proven, graph.const([len(radii), -1]))
    else:
        proven = graph.op("Unsqueeze", proven, graph.const([0]))
    proven = graph.op("And", proven, inside)
    sizes = graph.const(np.asarray(radii, dtype=np.float32)[:, None])
    reached = graph.op("Where", proven, sizes, graph.const(np.float32(0)))
    largest = graph.op("ReduceMax", reached, graph.const([0]), keepdims=0)
    certified = graph.op("GreaterOrEqual", largest, graph.const(np.float32(what.facts.eps)))
    graph.output("certified", certified, "batch", kind=onnx.TensorProto.BOOL)
    graph.output("certified_eps", largest, "batch")


def _emit_nothing(graph: GraphBuilder, schema: InputSchema, x_unit: str) -> None:
    """No row is certified."""
    axes = graph.const(list(range(1, len(schema.shape) + 1)))
    never = graph.op("Less", graph.op("ReduceSumSquare", x_unit, axes, keepdims=0),
                     graph.const(np.float32(-1)))  # fmt: skip
    graph.output("certified", never, "batch", kind=onnx.TensorProto.BOOL)
    graph.output("certified_eps", graph.op("Cast", never, to=onnx.TensorProto.FLOAT), "batch")


def least_lead(what: Certifying, schema: InputSchema, heat: float) -> float:
    """The lead of the logits beyond which the served answer cannot be another class.

    Roundings of the temperature and of the softmax can hide a smaller one. Infinite (nothing is
    certified) where some input could make a value of the chain overflow.
    """
    with torch.no_grad():
        passed = pass_layers(what.chain, _domain(what.chain, schema))
        size = torch.maximum(*(end.abs() for end in passed.box))
        last = what.chain.last
        logits = size @ last.weight.double().abs().T
        if last.bias is not None:
            logits = logits + last.bias.double().abs()
        peaks = [torch.maximum(low.abs(), high.abs()).max() for low, high in passed.active]
        largest = float(torch.stack([*peaks, size.max(), logits.max()]).max())
    weights = [p.detach() for p in what.net.parameters()]
    finite = all(bool(torch.isfinite(w).all()) for w in weights)
    logit = float(logits.max())
    limit = LOGIT_LIMIT if schema.kind == "tabular" else LARGEST
    if not finite or not largest < LARGEST or not logit < limit:
        log.warning("certificates_off", why="some input may overflow the net", largest=largest)
        return float("inf")
    return PROBABILITY_HAIR * heat + 2 * UNIT_ROUNDOFF * logit


def _domain(chain: Chain, schema: InputSchema) -> Box:
    """All that the first layer may get."""
    if chain.has_encoder:
        first = chain.layers[0]
        assert isinstance(first, nn.Linear)
        ends = torch.full((1, first.in_features), ENCODED_LIMIT, dtype=torch.float64)
        return Box(-ends, ends)
    low = torch.zeros(1, *schema.shape, dtype=torch.float64)
    if schema.kind == "image":
        return Box(low, low + 1)
    numbers = torch.tensor([c.kind == "numeric" for c in schema.columns])
    ends = torch.where(numbers, 0.5 + 2 * BEYOND, FARTHEST_CODE).double()[None]
    return Box(-ends, ends)


def _emit_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, what: Certifying
) -> tuple[_Ends, str]:
    """Both ends of all boxes, stacked along the batch, and which rows `(N,)` may be certified."""
    if schema.kind == "image":
        return _emit_image_boxes(graph, schema, x_unit, what.facts.radii)
    return _emit_table_boxes(graph, schema, x_unit, what)


def _emit_image_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, radii: tuple[float, ...]
) -> tuple[_Ends, str]:
    zero, one = (graph.const(np.float32(v)) for v in (0, 1))
    clipped = graph.op("Clip", x_unit, zero, one)
    off = graph.op("Abs", graph.op("Sub", x_unit, clipped))
    axes = list(range(1, len(schema.shape) + 1))
    off = graph.op("ReduceSum", off, graph.const(axes), keepdims=0)
    inside = graph.op("Less", off, graph.const(np.float32(1e-4)))  # NaN is not
    eps = np.asarray(radii, dtype=np.float64) + INPUT_HAIR
    low = _stack(graph, schema, "Sub", clipped, eps.reshape(-1, *[1] * len(axes)))
    high = _stack(graph, schema, "Add", clipped, eps.reshape(-1, *[1] * len(axes)))
    low, high = (graph.op("Clip", end, zero, one) for end in (low, high))
    return _Ends(low, high, positive=True), inside


def _stack(graph: GraphBuilder, schema: InputSchema, kind: str, x: str, amounts: Array) -> str:
    """Rows moved by each of the amounts `(K, ...)`, one after the other: `(K N, *shape)`."""
    if len(amounts) == 1:
        return graph.op(kind, x, graph.const(amounts[0]))
    moved = graph.op(kind, graph.op("Unsqueeze", x, graph.const([0])),
                     graph.const(amounts[:, None]))  # fmt: skip
    return graph.op("Reshape", moved, graph.const([-1, *schema.shape]))


def _emit_table_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, what: Certifying
) -> tuple[_Ends, str]:
    box = geometry_of(ThreatModel("linf", 1.0, what.facts.columns), schema)
    assert isinstance(box, Columns)
    down, up = box.down.double().numpy(), box.up.double().numpy()
    numbers = np.array([c.kind == "numeric" for c in schema.columns])
    eps = np.asarray(what.facts.radii)[:, None]
    low = _stack(graph, schema, "Sub", x_unit, eps * down + INPUT_HAIR * numbers)
    high = _stack(graph, schema, "Add", x_unit, eps * up + INPUT_HAIR * numbers)
    centred = graph.op("Abs", graph.op("Sub", x_unit, graph.const(np.float32(0.5))))
    limits = graph.const(np.where(numbers, BEYOND, FARTHEST_CODE))
    fine = graph.op("Less", centred, limits)
    if any(c.missing for c in schema.columns):
        may = graph.const(np.array([c.missing for c in schema.columns]))
        fine = graph.op("Or", fine, graph.op("And", graph.op("IsNaN", x_unit), may))
    bad = graph.op("Cast", graph.op("Not", fine), to=onnx.TensorProto.FLOAT)
    worst = graph.op("ReduceMax", bad, graph.const([1]), keepdims=0)
    inside = graph.op("Less", worst, graph.const(np.float32(0.5)))
    encoder = encoder_to_onnx(what.net, schema)
    if encoder is None:
        return _Ends(low, high, positive=False), inside
    hair = graph.const(np.float32(ENCODED_HAIR))
    (low,) = graph.inline(encoder, low)
    (high,) = graph.inline(encoder, high)
    return _Ends(graph.op("Sub", low, hair), graph.op("Add", high, hair), positive=False), inside


def _emit_layer(graph: GraphBuilder, layer: Layer, ends: _Ends) -> _Ends:
    if isinstance(layer, Relu):
        low, high = (graph.op("Relu", end) for end in (ends.low, ends.high))
        return _Ends(low, high, positive=True)
    if isinstance(layer, Flat):
        low, high = (graph.op("Flatten", end, axis=1) for end in (ends.low, ends.high))
        return _Ends(low, high, ends.positive)
    if isinstance(layer, nn.MaxPool2d):
        names = {
            "kernel_shape": _pair(layer.kernel_size), "strides": _pair(layer.stride),
            "pads": 2 * _pair(layer.padding), "dilations": _pair(layer.dilation),
        }  # fmt: skip
        low, high = (graph.op("MaxPool", end, **names) for end in (ends.low, ends.high))
        return _Ends(low, high, ends.positive)
    if isinstance(layer, Scale) and _is_identity(layer):
        return ends
    centre, radius = _emit_linear(graph, layer, *_emit_sums(graph, ends, gamma(fan_in(layer))),
                                  gamma(fan_in(layer)))  # fmt: skip
    return _Ends(graph.op("Sub", centre, radius), graph.op("Add", centre, radius), positive=False)


def _emit_sums(graph: GraphBuilder, ends: _Ends, rounding: float) -> tuple[str, str]:
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
        pool = {"kernel_shape": _pair(layer.kernel_size), "strides": _pair(layer.stride)}
        half = graph.const(np.float32(0.5))
        centre, radius = (
            graph.op("Mul", graph.op("AveragePool", end, **pool), half) for end in (total, width)
        )
        return centre, graph.op("Add", radius, graph.const(np.float32(TINY)))
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    weight, bias = _weights(layer)
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


def _emit_lead(graph: GraphBuilder, last: nn.Linear, ends: _Ends) -> str:
    """max_i min_{j != i} of the lower bounds of f_i - f_j `(K N,)`; above 0: class i everywhere."""
    weight, bias = _weights(last)
    classes = len(weight)
    parts = [ends.low, ends.high]
    if not ends.positive:
        parts.append(graph.op("Max", *(graph.op("Abs", end) for end in parts)))
    joined = graph.op("Concat", *parts, axis=1)
    if classes > MOST_CLASSES:
        return _emit_lead_of_many(graph, weight, bias, joined, ends.positive)
    matrix, shift = pairwise(weight, bias, ends.positive)
    lower = graph.op("Gemm", joined, graph.const(matrix), graph.const(shift), transB=1)
    lower = graph.op("Reshape", lower, graph.const([-1, classes, classes]))
    worst = graph.op("ReduceMin", lower, graph.const([2]), keepdims=0)
    return graph.op("ReduceMax", worst, graph.const([1]), keepdims=0)


def pairwise(weight: Array, bias: Array, positive: bool = True) -> tuple[Array, Array]:
    """The rows of one product that bounds every f_i - f_j from below.

    Args:
        weight: `(C, H)` of the last layer.
        bias: `(C,)`.
        positive: whether 0 <= l <= u, so that u is the largest size of a value.

    Returns:
        Coefficients `(C C, 2 H)` of [l; u], or `(C C, 3 H)` of [l; u; max(|l|, |u|)], and constants
        `(C C,)`; those of j = i are so large that they never are the least.
    """
    classes, size = weight.shape
    difference = (weight[:, None] - weight[None]).reshape(-1, size)
    slack = gamma(2 * size) * (np.abs(weight[:, None]) + np.abs(weight[None])).reshape(-1, size)
    sums = (np.abs(bias[:, None]) + np.abs(bias[None])).ravel()
    shift = (bias[:, None] - bias[None]).ravel() - gamma(2 * size) * sums - TINY
    same = np.eye(classes, dtype=bool).ravel()
    shift[same], slack[same] = LARGEST, 0
    parts = _with_slack(np.maximum(difference, 0), np.minimum(difference, 0), -slack, positive)
    return parts, shift


def _with_slack(of_low: Array, of_high: Array, slack: Array, positive: bool) -> Array:
    """Coefficients of [l; u], or of [l; u; size], side by side."""
    if positive:
        return np.concatenate([of_low, of_high + slack], axis=1)
    return np.concatenate([of_low, of_high, slack], axis=1)


def _emit_lead_of_many(
    graph: GraphBuilder, weight: Array, bias: Array, joined: str, positive: bool
) -> str:
    """The largest lower bound of a logit less the second largest upper bound `(K N,)`.

    Above 0 it is the lower bound of the class with the largest upper one: no other comes near.
    """
    rounding = gamma(2 * weight.shape[1])
    more, less, slack = np.maximum(weight, 0), np.minimum(weight, 0), rounding * np.abs(weight)
    below, above = (
        _with_slack(more, less, -slack, positive),
        _with_slack(less, more, slack, positive),
    )
    edge = rounding * np.abs(bias) + TINY
    low = graph.op("Gemm", joined, graph.const(below), graph.const(bias - edge), transB=1)
    high = graph.op("Gemm", joined, graph.const(above), graph.const(bias + edge), transB=1)
    top, _ = graph.ops("TopK", high, graph.const([2]), axis=1, outputs=2)
    second = graph.op("Gather", top, graph.const(np.int64(1)), axis=1)
    return graph.op("Sub", graph.op("ReduceMax", low, graph.const([1]), keepdims=0), second)


def gamma(terms: int) -> float:
    """Relative rounding of a sum of `terms` products and of the same sum in the served net."""
    return 2.2 * (terms + 6) * UNIT_ROUNDOFF


def fan_in(layer: Layer) -> int:
    """Products in one sum of a layer."""
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        return layer.weight[0].numel()
    if isinstance(layer, nn.AvgPool2d):
        return int(np.prod(_pair(layer.kernel_size)))
    return 1


def _weights(layer: nn.Linear | nn.Conv2d) -> tuple[Array, Array]:
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


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
