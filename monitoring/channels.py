"""Channels: what of every request is counted, as NumPy maths and as nodes of the graph.

A score channel gives one number per row; its held-out values are cut into rank cells. The class
channel gives the predicted class. To add a channel, see CONTRIBUTING.md.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.schema import FloatArray, IntArray
from monitoring.graph import GraphBuilder

NEIGHBOURS = 10
MAX_REFERENCES = 512
TAIL_RANKS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
UPPER_RANKS = (*TAIL_RANKS, *np.linspace(0.12, 0.5, 24)[:-1])
RANKS = np.array([*UPPER_RANKS, 0.5, *(1 - u for u in reversed(UPPER_RANKS))])


@dataclass(frozen=True)
class Rows:
    """What the plain graph gives for N rows, as arrays."""

    x_unit: FloatArray  # (N, *shape) in [0, 1]
    logits: FloatArray  # (N, C)
    features: FloatArray  # (N, F)


@dataclass(frozen=True)
class Tensors:
    """The same as names of tensors of the graph, with what channels share."""

    x_unit: str
    logits: str
    features: str
    log_sum_exp: str  # (N, 1)
    statistics: str  # (N, 5), see `input_statistics`


class ScoreChannel(Protocol):
    """One number per row; larger need not mean stranger: evidence looks both ways."""

    @property
    def name(self) -> str:
        """What it is called in metrics and alarms."""

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)` float64."""

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """Nodes that compute the same, as `(N, 1)` float32."""


@dataclass(frozen=True)
class Energy:
    """Energy -log sum_k exp z_k of the logits (Liu et al. 2020): high where the net is unsure."""

    name: str = "energy"

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)`."""
        top = rows.logits.max(axis=1)
        lse: FloatArray = top + np.log(np.exp(rows.logits - top[:, None]).sum(axis=1))
        return -lse

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        return graph.op("Neg", tensors.log_sum_exp)


@dataclass(frozen=True)
class FeatureDistance:
    """1 - mean cosine similarity to the 10 nearest of the training features (Sun et al. 2022).

    Args:
        references: `(R, F)` training features, scaled to length 1.
    """

    references: FloatArray
    name: str = "feature_distance"

    @classmethod
    def fit(cls, features: FloatArray) -> "FeatureDistance":
        """Keep up to 512 of the training features `(R, F)` (the first: rows come shuffled)."""
        return cls(_normalised(features[:MAX_REFERENCES]).astype(np.float32))

    @property
    def neighbours(self) -> int:
        """How many neighbours the mean is over."""
        return min(NEIGHBOURS, len(self.references))

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)`, in [0, 2]."""
        similarity = _normalised(rows.features) @ self.references.T
        nearest = np.partition(similarity, -self.neighbours, axis=1)[:, -self.neighbours :]
        mean: FloatArray = nearest.mean(axis=1)
        return 1 - mean

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`: the length divides after the nearest are found, which keeps their order."""
        products = graph.op("MatMul", tensors.features, graph.const(self.references.T.copy()))
        nearest, _ = graph.ops(
            "TopK", products, graph.const([self.neighbours]), outputs=2, sorted=0
        )
        mean = graph.op("ReduceMean", nearest, graph.const([1]), keepdims=1)
        length = graph.op("ReduceL2", tensors.features, graph.const([1]), keepdims=1)
        cosine = graph.op("Div", mean, graph.op("Add", length, graph.const(np.float32(1e-6))))
        return graph.op("Sub", graph.const(np.float32(1)), cosine)


@dataclass(frozen=True)
class Statistic:
    """One of `input_statistics`."""

    name: str
    column: int

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)`."""
        return input_statistics(rows.x_unit)[:, self.column]

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        bounds = (graph.const([n]) for n in (self.column, self.column + 1, 1))
        return graph.op("Slice", tensors.statistics, *bounds)


def score_channels(kind: Literal["image", "tabular"], features: FloatArray) -> list[ScoreChannel]:
    """The score channels for a kind of input, fitted on training features `(R, F)`."""
    channels: list[ScoreChannel] = [Energy(), FeatureDistance.fit(features)]
    if kind == "image":
        channels += [Statistic("mean", 0), Statistic("gradient", 1)]
    return channels


def input_statistics(x_unit: FloatArray) -> npt.NDArray[np.float64]:
    """Mean, mean |gradient|, mean |Laplacian|, and root mean squares of both; `(N, 5)`.

    Gradients are central differences of inner pixels in both directions, the Laplacian is the
    four-neighbour stencil. `x_unit` is `(N, channels, height, width)` in [0, 1].
    """
    x = np.asarray(x_unit, dtype=np.float64)
    right = (x[..., 1:-1, 2:] - x[..., 1:-1, :-2]) / 2
    down = (x[..., 2:, 1:-1] - x[..., :-2, 1:-1]) / 2
    laplacian = (
        x[..., 1:-1, 2:] + x[..., 1:-1, :-2] + x[..., 2:, 1:-1] + x[..., :-2, 1:-1]
        - 4 * x[..., 1:-1, 1:-1]
    )  # fmt: skip
    axes = (1, 2, 3)
    gradient = np.abs(right).mean(axes) + np.abs(down).mean(axes)
    squares = (right**2).mean(axes) + (down**2).mean(axes)
    return np.stack(
        [
            x.mean(axes),
            gradient,
            np.abs(laplacian).mean(axes),
            np.sqrt(squares),
            np.sqrt((laplacian**2).mean(axes)),
        ],
        axis=1,
    )


def emit_input_statistics(graph: GraphBuilder, x_unit: str, channels: int) -> str:
    """`input_statistics` as nodes: one convolution with three stencils, then reductions."""
    stencils = np.zeros((3, 3, 3), dtype=np.float32)
    stencils[0, 1, 0], stencils[0, 1, 2] = -0.5, 0.5
    stencils[1, 0, 1], stencils[1, 2, 1] = -0.5, 0.5
    stencils[2, 0, 1] = stencils[2, 1, 0] = stencils[2, 1, 2] = stencils[2, 2, 1] = 1.0
    stencils[2, 1, 1] = -4.0
    kernels = np.tile(stencils[:, None], (channels, 1, 1, 1))
    edges = graph.op("Conv", x_unit, graph.const(kernels), group=channels)
    axes = graph.const([2, 3])
    absolute = graph.op("ReduceMean", graph.op("Abs", edges), axes, keepdims=0)
    square = graph.op("ReduceMean", graph.op("Mul", edges, edges), axes, keepdims=0)
    merge = np.tile(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32), (channels, 1)) / channels
    columns = graph.const(merge)
    mean = graph.op("ReduceMean", x_unit, graph.const([1, 2, 3]), keepdims=1)
    return graph.op(
        "Concat",
        graph.op("Flatten", mean),
        graph.op("MatMul", absolute, columns),
        graph.op("Sqrt", graph.op("MatMul", square, columns)),
        axis=1,
    )


def rank_edges(scores: FloatArray) -> npt.NDArray[np.float32]:
    """Falling cell edges at up to 71 upper-tail ranks of held-out scores `(n,)`; ties are merged.

    The edge at rank u is the i-th largest score, i = round(u (n + 1)); the cell of a score s is
    the number of edges above it.
    """
    falling = np.sort(scores.astype(np.float32))[::-1]
    index = np.unique(np.rint(RANKS * (len(falling) + 1)).astype(int))
    index = index[(index >= 1) & (index <= len(falling))]
    return np.unique(falling[index - 1])[::-1].copy()


def rank_cells(scores: FloatArray, edges: FloatArray) -> IntArray:
    """Cell `(N,)` of each score: how many of the falling `edges` lie above it."""
    above: IntArray = (edges[None, :] > scores.astype(np.float32)[:, None]).sum(axis=1)
    return above


def score_weights(scores: FloatArray, edges: FloatArray) -> FloatArray:
    """Reference weights `(G,)` of the cells: counts, plus the (n+1)-th gap in the lowest."""
    weights = np.bincount(rank_cells(scores, edges), minlength=len(edges) + 1).astype(np.float64)
    weights[-1] += 1
    return weights


def class_weights(predicted: IntArray, classes: int) -> FloatArray:
    """Reference weights `(C,)` of the predicted classes: counts and one row spread over all."""
    return np.bincount(predicted, minlength=classes) + 1.0 / classes


def _normalised(features: FloatArray) -> FloatArray:
    lengths: FloatArray = np.linalg.norm(features, axis=1, keepdims=True)
    return features / (lengths + 1e-6)
