"""The boxes around the rows of a batch, and which rows may be certified at all."""

import numpy as np
import onnx
from torch import nn

from models.attacks.threat import Columns, geometry_of
from models.nets.export import encoder_to_onnx
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from models.versions.schema import InputSchema
from monitoring.scoring.certificates.layers import Ends, join
from monitoring.scoring.certificates.rounding import (
    BEYOND,
    ENCODED_HAIR,
    FARTHEST_CODE,
    INPUT_HAIR,
    Array,
)
from monitoring.scoring.graph import GraphBuilder


def emit_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, net: nn.Module, facts: CertificateFacts
) -> tuple[Ends, str]:
    """Both ends of all boxes, stacked along the batch, and which rows `(N,)` may be certified."""
    if schema.kind == "image":
        return _emit_image_boxes(graph, schema, x_unit, facts.radii)
    return _emit_table_boxes(graph, schema, x_unit, net, facts)


def _emit_image_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, radii: tuple[float, ...]
) -> tuple[Ends, str]:
    zero, one = (graph.const(np.float32(v)) for v in (0, 1))
    clipped = graph.op("Clip", x_unit, zero, one)
    off = graph.op("ReduceL1", graph.op("Sub", x_unit, clipped),
                   graph.const(list(range(1, len(schema.shape) + 1))), keepdims=0)  # fmt: skip
    inside = graph.op("Less", off, graph.const(np.float32(1e-4)))  # NaN is not
    channels, *sides = schema.shape
    both = clipped if channels == 1 else graph.op("Concat", clipped, clipped, axis=1)
    signs = np.repeat([-1.0, 1.0], channels).reshape(-1, *[1] * len(sides))
    eps = np.asarray(radii, dtype=np.float64) + INPUT_HAIR
    amounts = eps.reshape(-1, *[1] * len(schema.shape)) * signs
    ends = stack(graph, (2 * channels, *sides), "Add", both, amounts)
    return Ends(graph.op("Clip", ends, zero, one), positive=True), inside


def stack(graph: GraphBuilder, shape: tuple[int, ...], kind: str, x: str, amounts: Array) -> str:
    """Rows moved by each of the amounts `(K, ...)`, one after the other: `(K N, *shape)`."""
    if len(amounts) == 1:
        return graph.op(kind, x, graph.const(amounts[0]))
    moved = graph.op(kind, graph.op("Unsqueeze", x, graph.const([0])),
                     graph.const(amounts[:, None]))  # fmt: skip
    return graph.op("Reshape", moved, graph.const([-1, *shape]))


def _emit_table_boxes(
    graph: GraphBuilder, schema: InputSchema, x_unit: str, net: nn.Module, facts: CertificateFacts
) -> tuple[Ends, str]:
    box = geometry_of(ThreatModel("linf", 1.0, facts.columns), schema)
    assert isinstance(box, Columns)
    down, up = box.down.double().numpy(), box.up.double().numpy()
    numbers = np.array([c.kind == "numeric" for c in schema.columns])
    eps = np.asarray(facts.radii)[:, None]
    low = stack(graph, schema.shape, "Sub", x_unit, eps * down + INPUT_HAIR * numbers)
    high = stack(graph, schema.shape, "Add", x_unit, eps * up + INPUT_HAIR * numbers)
    centred = graph.op("Abs", graph.op("Sub", x_unit, graph.const(np.float32(0.5))))
    limits = graph.const(np.where(numbers, BEYOND, FARTHEST_CODE))
    fine = graph.op("Less", centred, limits)
    if any(c.missing for c in schema.columns):
        may = graph.const(np.array([c.missing for c in schema.columns]))
        fine = graph.op("Or", fine, graph.op("And", graph.op("IsNaN", x_unit), may))
    bad = graph.op("Cast", graph.op("Not", fine), to=onnx.TensorProto.FLOAT)
    worst = graph.op("ReduceMax", bad, graph.const([1]), keepdims=0)
    inside = graph.op("Less", worst, graph.const(np.float32(0.5)))
    encoder = encoder_to_onnx(net, schema)
    if encoder is None:
        return join(graph, low, high, positive=False), inside
    hair = graph.const(np.float32(ENCODED_HAIR))
    (low,) = graph.inline(encoder, low)
    (high,) = graph.inline(encoder, high)
    low, high = graph.op("Sub", low, hair), graph.op("Add", high, hair)
    return join(graph, low, high, positive=False), inside
