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
from monitoring.image_statistics import emit_input_statistics, input_statistics
from monitoring.table_statistics import TableStatistics

__all__ = [
    "Energy",
    "FeatureDistance",
    "Rows",
    "ScoreChannel",
    "Statistic",
    "TableStatistic",
    "Tensors",
    "Uncertainty",
    "class_weights",
    "emit_input_statistics",
    "input_statistics",
    "rank_cells",
    "rank_edges",
    "score_channels",
    "score_weights",
    "steady",
]

NEIGHBOURS = 10
MAX_REFERENCES = 512
ENERGY_SPREAD = 1e-3  # nats; below it the logits are logarithms of probabilities
STEADY = 1e-6  # scores that differ by less are the same score, rounded differently
TAIL_RANKS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
UPPER_RANKS = (*TAIL_RANKS, *np.linspace(0.12, 0.5, 24)[:-1])
RANKS = np.array([*UPPER_RANKS, 0.5, *(1 - u for u in reversed(UPPER_RANKS))])


@dataclass(frozen=True)
class Rows:
    """What the plain graph gives for N rows, as arrays."""

    x_unit: FloatArray  # (N, *shape) as `InputSchema.to_unit` gives it
    logits: FloatArray  # (N, C)
    features: FloatArray  # (N, F)


@dataclass(frozen=True)
class Tensors:
    """The same as names of tensors of the graph, with what channels share."""

    x_unit: str
    logits: str
    features: str
    log_sum_exp: str  # (N, 1)
    statistics: str  # (N, 5) of an image, see `input_statistics`; (N, 2) of a table's row


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
class Uncertainty:
    """-log of the largest probability, log sum_k exp z_k - max_k z_k (Hendrycks & Gimpel 2017).

    It stands in where the energy says nothing: logarithms of probabilities have energy 0.
    """

    name: str = "uncertainty"

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)`, at least 0, in nats."""
        top = rows.logits.max(axis=1)
        total: FloatArray = np.exp(rows.logits - top[:, None]).sum(axis=1)
        return np.log(total)

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        top = graph.op("ReduceMax", tensors.logits, graph.const([1]), keepdims=1)
        return graph.op("Sub", tensors.log_sum_exp, top)


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


@dataclass(frozen=True)
class TableStatistic:
    """One of `TableStatistics.values`."""

    name: str
    column: int
    statistics: TableStatistics

    def scores(self, rows: Rows) -> FloatArray:
        """`(N,)`."""
        return self.statistics.values(rows.x_unit)[:, self.column]

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        return Statistic(self.name, self.column).emit(graph, tensors)


def score_channels(
    kind: Literal["image", "tabular"],
    features: FloatArray | None,
    *,
    logits: FloatArray | None = None,
    table: TableStatistics | None = None,
) -> list[ScoreChannel]:
    """The score channels for a kind of input, fitted on training rows.

    Args:
        kind: of the input.
        features: `(R, F)` of training rows; None where the graph has none.
        logits: `(R, C)` of the same rows; the energy is left out where it is the same for all.
        table: statistics of a table's rows.
    """
    says_nothing = logits is not None and _spread(logits) < ENERGY_SPREAD
    channels: list[ScoreChannel] = [] if says_nothing else [Energy()]
    if features is not None:
        channels.append(FeatureDistance.fit(features))
    if len(channels) < 2:
        channels.append(Uncertainty())
    if kind == "image":
        channels += [Statistic("mean", 0), Statistic("gradient", 1)]
    elif table is not None:
        channels.append(TableStatistic("inside", 0, table))
        if table.whitening.any():
            channels.append(TableStatistic("row_distance", 1, table))
    return channels


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


def steady(edges: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Falling edges moved a hair down, so that rounding never parts equal scores.

    Many rows of a table or of a forest have the very same score, and it is often an edge; one run
    may round it up and the next one down. Edges closer than two hairs are merged, so that every
    cell keeps a score.
    """
    hair = (STEADY * np.maximum(1.0, np.abs(edges))).astype(np.float32)
    kept: list[int] = []
    for index, edge in enumerate(edges):
        if not kept or edge < edges[kept[-1]] - 2 * hair[kept[-1]]:
            kept.append(index)
    moved: npt.NDArray[np.float32] = edges[kept] - hair[kept]
    return moved


def score_weights(scores: FloatArray, edges: FloatArray) -> FloatArray:
    """Reference weights `(G,)` of the cells: counts, plus the (n+1)-th gap in the lowest."""
    weights = np.bincount(rank_cells(scores, edges), minlength=len(edges) + 1).astype(np.float64)
    weights[-1] += 1
    return weights


def class_weights(predicted: IntArray, classes: int) -> FloatArray:
    """Reference weights `(C,)` of the predicted classes: counts and one row spread over all."""
    return np.bincount(predicted, minlength=classes) + 1.0 / classes


def _spread(logits: FloatArray) -> float:
    """The range of the middle 98 % of the energies of `(R, C)` logits."""
    low, high = np.quantile(Energy().scores(Rows(logits, logits, logits)), [0.01, 0.99])
    return float(high - low)


def _normalised(features: FloatArray) -> FloatArray:
    lengths: FloatArray = np.linalg.norm(features, axis=1, keepdims=True)
    return features / (lengths + 1e-6)
