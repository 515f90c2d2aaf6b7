"""The outputs `certified` and `certified_eps`, from the boxes to the answer."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn

from models.attacks.threat import geometry_of
from models.base.logs import logger
from models.certificates.bounds import Box, check_chain, pass_layers, worst_margins
from models.certificates.layers import Chain
from models.statistics.arrays import FloatArray, IntArray
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from models.versions.schema import InputArray, InputSchema
from monitoring.scoring.certificates.boxes import emit_boxes
from monitoring.scoring.certificates.last import emit_lead
from monitoring.scoring.certificates.layers import emit_layer
from monitoring.scoring.certificates.rounding import (
    BEYOND,
    ENCODED_LIMIT,
    FARTHEST_CODE,
    LARGEST,
    LOGIT_LIMIT,
    PROBABILITY_HAIR,
    UNIT_ROUNDOFF,
)
from monitoring.scoring.graph import GraphBuilder

log = logger("certificates")


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

    Raises:
        TrainingError: the chain does not give the net's logits.
    """
    hair, eps = least_lead(what, schema, heat), np.float32(what.facts.eps)
    if not math.isfinite(hair) or not eps > 0:
        _emit_nothing(graph, schema, x_unit)
        return
    check_chain(what.net, what.chain, _samples(schema))
    ends, inside = emit_boxes(graph, schema, x_unit, what.net, what.facts)
    for layer in what.chain.body:
        ends = emit_layer(graph, layer, ends)
    lead = emit_lead(graph, what.chain.last, ends)
    proven = graph.op("Greater", lead, graph.const(np.float32(hair)))
    if len(what.facts.radii) == 1:
        certified = graph.op("And", proven, inside)
        reached = graph.op("Where", certified, graph.const(eps), graph.const(np.float32(0)))
    else:
        sizes = np.asarray(what.facts.radii, dtype=np.float32)[:, None]
        proven = graph.op("Reshape", proven, graph.const([len(sizes), -1]))
        proven = graph.op("And", proven, inside)
        reached = graph.op("Where", proven, graph.const(sizes), graph.const(np.float32(0)))
        reached = graph.op("ReduceMax", reached, graph.const([0]), keepdims=0)
        certified = graph.op("GreaterOrEqual", reached, graph.const(eps))
    graph.output("certified", certified, "batch", kind=onnx.TensorProto.BOOL)
    graph.output("certified_eps", reached, "batch")


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
    finite &= all(w.dtype == torch.float32 for w in weights)  # what gamma is about
    logit = float(logits.max())
    limit = LOGIT_LIMIT if schema.kind == "tabular" else LARGEST
    if not finite or not largest < LARGEST or not logit < limit:
        log.warning("certificates_off", why="some input may overflow the net", largest=largest)
        return float("inf")
    return PROBABILITY_HAIR * heat + 2 * UNIT_ROUNDOFF * logit


def _samples(schema: InputSchema, count: int = 64) -> torch.Tensor:
    """Random unit-range rows `(count, *shape)`, some with missing values where there may be any."""
    drawn = torch.Generator().manual_seed(0)
    x = torch.rand(count, *schema.shape, generator=drawn)
    for place, column in enumerate(schema.columns):
        if column.kind != "numeric":
            x[:, place] = torch.randint(len(column.categories), (count,), generator=drawn).float()
        if column.missing:
            x[: count // 4, place] = torch.nan
    return x


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
