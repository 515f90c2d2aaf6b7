"""The last layer: one product bounds all differences of two logits."""

import numpy as np
from torch import nn

from monitoring.scoring.certificates.layers import Ends, split, weights_of
from monitoring.scoring.certificates.rounding import LARGEST, MOST_CLASSES, TINY, Array, gamma
from monitoring.scoring.graph import GraphBuilder


def emit_lead(graph: GraphBuilder, last: nn.Linear, ends: Ends) -> str:
    """max_i min_{j != i} of the lower bounds of f_i - f_j `(K N,)`; above 0: class i everywhere."""
    weight, bias = weights_of(last)
    classes = len(weight)
    joined = ends.joined
    if not ends.positive:
        size = graph.op("Max", *(graph.op("Abs", end) for end in split(graph, ends)))
        joined = graph.op("Concat", joined, size, axis=1)
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
