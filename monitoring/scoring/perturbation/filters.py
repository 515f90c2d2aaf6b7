"""Filters on the image: one convolution that serves the statistics and the perturbation head.

A change that fools a net leaves traces which no logit shows: weak structure on flat ground, steps
between neighbours that pictures do not have. The first filters are those of the statistics
(`channels.image_statistics`); the head learns the others.
"""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.scoring.channels.image_statistics import (
    CAP,
    emit_input_statistics,
    merge_matrix,
    stencils,
)
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Filters:
    """K filters of 3 x 3; per filter the mean and the largest answer of the image.

    r_f = min(max(w_f * x + b_f, 0), 8) at the inner pixels; the evidence is (mean r_1 .. mean r_K,
    max r_1 .. max r_K).

    Args:
        kernels: `(K, channels, 3, 3)`.
        bias: `(K,)`.
    """

    kernels: FloatArray
    bias: FloatArray

    @classmethod
    def fixed(cls, channels: int) -> "Filters":
        """Those of the statistics alone."""
        return cls(*stencils(channels))

    def pool(self, x_unit: FloatArray) -> FloatArray:
        """`(N, 2 K)` of images `(N, channels, height, width)` in [0, 1]."""
        windows = np.lib.stride_tricks.sliding_window_view(x_unit, (3, 3), (2, 3))
        answers = np.einsum("nchwij,fcij->nfhw", windows, self.kernels, optimize=True)
        answers = np.clip(answers + self.bias[:, None, None], 0, CAP)
        return np.concatenate([answers.mean((2, 3)), answers.max((2, 3))], axis=1)


@dataclass(frozen=True)
class FilterNodes:
    """The convolution in a graph, as names of its tensors; it can grow by learned filters."""

    kernels: str
    bias: str
    merge: str
    statistics: str  # (N, 4)
    pooled: str  # (N, 2 K)
    channels: int

    @classmethod
    def emit(cls, graph: GraphBuilder, x_unit: str, channels: int) -> "FilterNodes":
        """Nodes with the filters of the statistics alone."""
        fixed = Filters.fixed(channels)
        kernels, bias = graph.const(fixed.kernels), graph.const(fixed.bias)
        merge = graph.const(merge_matrix(channels, len(fixed.bias)))
        # The rectifier stands apart, for its gradient (attacks pass that of a cut as it is):
        # onnxruntime makes one node of both.
        answers = graph.op("Relu", graph.op("Conv", x_unit, kernels, bias))
        ends = (graph.const(np.float32(end)) for end in (0, CAP))
        answers = graph.op("Clip", answers, *ends)
        means = graph.op("Flatten", graph.op("GlobalAveragePool", answers))
        largest = graph.op("Flatten", graph.op("GlobalMaxPool", answers))
        statistics = emit_input_statistics(graph, x_unit, means, merge)
        pooled = graph.op("Concat", means, largest, axis=1)
        return cls(kernels, bias, merge, statistics, pooled, channels)

    def grow(self, graph: GraphBuilder, filters: Filters) -> None:
        """Put other filters in, whose first are those of the statistics."""
        assert len(filters.bias) >= len(Filters.fixed(self.channels).bias)
        graph.replace(self.kernels, filters.kernels)
        graph.replace(self.bias, filters.bias)
        graph.replace(self.merge, merge_matrix(self.channels, len(filters.bias)))
