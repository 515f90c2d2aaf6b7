"""Channels: what of every request is counted, as NumPy maths and as nodes of the graph.

A score channel gives one number per row; its held-out values are cut into rank cells. Here are
those of logits, features and shared statistics; `image_channels` and `columns` have the others.
Which channels there are: `catalogue`.
"""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.scoring.channels.image_channels import Grain, PixelDistance
from monitoring.scoring.channels.image_statistics import input_statistics
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import PlainAnswers, ScoreChannel, Tensors

__all__ = [
    "Energy",
    "FeatureDistance",
    "Grain",
    "PixelDistance",
    "PlainAnswers",
    "ScoreChannel",
    "Statistic",
    "TableStatistic",
    "Tensors",
    "Uncertainty",
    "input_statistics",
]

NEIGHBOURS = 10
MAX_REFERENCES = 512


@dataclass(frozen=True)
class Energy:
    """Energy -log sum_k exp z_k of the logits (Liu et al. 2020): high where the net is unsure."""

    name: str = "energy"

    def scores(self, rows: PlainAnswers) -> FloatArray:
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

    def scores(self, rows: PlainAnswers) -> FloatArray:
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
        return cls(_normalise_features(features[:MAX_REFERENCES]).astype(np.float32))

    @property
    def neighbours(self) -> int:
        """How many neighbours the mean is over."""
        return min(NEIGHBOURS, len(self.references))

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`, in [0, 2]."""
        similarity = _normalise_features(rows.features) @ self.references.T
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

    def scores(self, rows: PlainAnswers) -> FloatArray:
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

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`."""
        return self.statistics.values(rows.x_unit)[:, self.column]

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        return Statistic(self.name, self.column).emit(graph, tensors)


def _normalise_features(features: FloatArray) -> FloatArray:
    lengths: FloatArray = np.linalg.norm(features, axis=1, keepdims=True)
    return features / (lengths + 1e-6)
