"""The cells that requests are counted in: their reference, and the nodes that find them."""

import numpy as np
import onnx

from models.schema import ChannelInfo, FloatArray, IntArray
from monitoring import channels as ch
from monitoring.graph import GraphBuilder


def reference_cells(
    names: list[str], scores: FloatArray, predicted: IntArray, classes: int
) -> dict[str, FloatArray]:
    """`<channel>/edges` and `<channel>/alpha` of held-out scores `(n, S)` and classes `(n,)`."""
    arrays: dict[str, FloatArray] = {}
    for column, name in enumerate(names):
        edges = ch.steady(ch.rank_edges(scores[:, column]))
        arrays[f"{name}/edges"] = edges
        arrays[f"{name}/alpha"] = ch.score_weights(scores[:, column], edges)
    return arrays | {"class/alpha": ch.class_weights(predicted, classes)}


def score_info(name: str, edges: FloatArray) -> ChannelInfo:
    """What the manifest says of a score channel."""
    return ChannelInfo(name, "score", tuple(f"{g:02d}" for g in range(len(edges) + 1)))


def emit_cells(graph: GraphBuilder, scores: str, logits: str, edges: list[FloatArray]) -> str:
    """`(N, S + 1)`: rank cells of the scores, then the predicted class."""
    width = max(map(len, edges))
    padded = np.full((1, len(edges), width), -np.inf, dtype=np.float32)
    for row, falling in enumerate(edges):
        padded[0, row, : len(falling)] = falling
    column = graph.op("Unsqueeze", scores, graph.const([2]))
    above = graph.op("Greater", graph.const(padded), column)
    count = graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([2]),
        keepdims=0,
    )
    predicted = graph.op("ArgMax", logits, axis=1, keepdims=1)
    return graph.op("Concat", count, graph.op("Cast", predicted, to=onnx.TensorProto.INT32), axis=1)
