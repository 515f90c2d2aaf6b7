"""How strange a row is: its scores beside those of training rows, as one number.

Scores of images go together, so they are whitened: a row is strange where a score is far out, or
where scores that go together part. A table's scores are counted on their strange side only and not
whitened: there the columns' bonds are scores of their own (`chow_liu`, `shuffled_row`), and
whitening would take one from the other. Both are measured per predicted class.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.statistics.arrays import FloatArray, IntArray
from monitoring.scoring.graph import GraphBuilder

SPREAD = (0.05, 0.5, 0.95)
LOPSIDED = 10.0  # how much wider one side may be than the other
UPPER = (0.5, 0.95, 0.99)
TAIL = 1.6  # how much farther out the .99 quantile of a usual score lies than its .95 one
LEAST_SPREAD = 1e-3  # of a table's score: one that never varies in training
COLUMN_SPREAD = 0.04  # of a column, where a score is a mean over columns: a whole one counts 25
MOST = 50.0  # spreads that a table's score counts at most
ABOVE_ZERO = 1e-3  # a strangeness of 0 has a logarithm
SHARED_ROWS = 10.0  # rows that all classes together count for in each
LEAST_SCALE = 0.05  # of the logarithm of the strangeness within a class


class Measure(Protocol):
    """Several scores of a row as one number, at least 0."""

    def of(self, scores: FloatArray) -> FloatArray:
        """`(N,)` of scores `(N, S)`."""

    def emit(self, graph: GraphBuilder, scores: str) -> str:
        """Nodes for `of`, `(N, 1)`."""


@dataclass(frozen=True)
class Strangeness:
    """How far scores lie from those of training rows, all channels together (Mahalanobis).

    z = (s - median) / spread, with spread = q95 - q50 above and q50 - q05 below the median;
    strangeness = |(z - mean z) W|^2 with W W' = cov(z)^-1.

    Args:
        median: `(S,)`.
        fall: `(S,)` spread above by spread below: the slope of numbers below the median.
        matrix: `(S, S)` W, each row divided by the spread above.
        shift: `(S,)` -mean z W.
    """

    median: FloatArray
    fall: FloatArray
    matrix: FloatArray
    shift: FloatArray

    @classmethod
    def fit(cls, scores: FloatArray) -> "Strangeness":
        """From `(M, S)` scores of training rows."""
        low, median, high = np.quantile(scores.astype(np.float64), SPREAD, axis=0)
        least = 1e-4 * np.maximum(1.0, np.abs(median))
        above, below = high - median, median - low
        widest = np.maximum(above, below)
        above = np.maximum(np.maximum(above, widest / LOPSIDED), least)
        below = np.maximum(np.maximum(below, widest / LOPSIDED), least)
        fall = above / below
        offset = scores - median
        centre, matrix = whitening(np.where(offset > 0, offset, offset * fall) / above)
        arrays = (median, fall, matrix / above[:, None], -centre @ matrix)
        return cls(*(a.astype(np.float32) for a in arrays))

    def of(self, scores: FloatArray) -> FloatArray:
        """`(N,)` of scores `(N, S)`, at least 0."""
        offset = scores.astype(np.float32) - self.median
        white = np.where(offset > 0, offset, offset * self.fall) @ self.matrix + self.shift
        squared: FloatArray = (white**2).sum(axis=1)
        return squared

    def emit(self, graph: GraphBuilder, scores: str) -> str:
        """Nodes for `of`, `(N, 1)`."""
        offset = graph.op("Sub", scores, graph.const(self.median))
        bent = graph.op("PRelu", offset, graph.const(self.fall))
        white = graph.op("Gemm", bent, graph.const(self.matrix), graph.const(self.shift))
        return graph.op("ReduceSumSquare", white, graph.const([1]), keepdims=1)


@dataclass(frozen=True)
class Excess:
    """How far scores of a table's row lie on their strange side.

    z = clip(sign (s - median) / spread, 0, 50), with spread = max(q95 - q50, (q99 - q50) / 1.6) of
    sign s; strangeness = sum z^2.

    Args:
        median: `(S,)`.
        slope: `(S,)` sign / spread.
    """

    median: FloatArray
    slope: FloatArray

    @classmethod
    def fit(
        cls, scores: FloatArray, signs: FloatArray, least: FloatArray | float = LEAST_SPREAD
    ) -> "Excess":
        """From scores of training rows.

        Args:
            scores: `(M, S)`.
            signs: `(S,)` -1 where low scores are strange.
            least: `(S,)` the least spread of each score.
        """
        middle, high, top = np.quantile(scores.astype(np.float64) * signs, UPPER, axis=0)
        spread = np.maximum(np.maximum(high - middle, (top - middle) / TAIL), least)
        return cls((signs * middle).astype(np.float32), (signs / spread).astype(np.float32))

    def of(self, scores: FloatArray) -> FloatArray:
        """`(N,)` of scores `(N, S)`, at least 0."""
        z = np.clip((scores.astype(np.float32) - self.median) * self.slope, 0, np.float32(MOST))
        squared: FloatArray = (z**2).sum(axis=1)
        return squared

    def emit(self, graph: GraphBuilder, scores: str) -> str:
        """Nodes for `of`, `(N, 1)`."""
        offset = graph.op("Sub", scores, graph.const(self.median))
        z = graph.op("Mul", offset, graph.const(self.slope))
        z = graph.op("Clip", z, graph.const(np.float32(0)), graph.const(np.float32(MOST)))
        return graph.op("ReduceSumSquare", z, graph.const([1]), keepdims=1)


@dataclass(frozen=True)
class ClassStrangeness:
    """The strangeness of a row among training rows of its predicted class c.

    z = (log(s + .001) - m_c) / sigma_c. Mean and variance of a class are those of its rows and of
    ten rows like all: a class of few rows is measured like the others.

    Args:
        measure: gives s.
        slope: `(C,)` 1 / sigma_c.
        shift: `(C,)` -m_c / sigma_c.
    """

    measure: Measure
    slope: FloatArray
    shift: FloatArray

    @classmethod
    def fit(
        cls, measure: Measure, scores: FloatArray, predicted: IntArray, classes: int
    ) -> "ClassStrangeness":
        """From `(M, S)` scores of training rows that are predicted as classes `(M,)` of C."""
        level = np.log(measure.of(scores).astype(np.float64) + ABOVE_ZERO)
        counts = np.bincount(predicted, minlength=classes)
        total = np.bincount(predicted, level, minlength=classes)
        mean = (total + SHARED_ROWS * level.mean()) / (counts + SHARED_ROWS)
        around = np.bincount(predicted, (level - mean[predicted]) ** 2, minlength=classes)
        variance = (around + SHARED_ROWS * level.var()) / (counts + SHARED_ROWS)
        scale = np.maximum(np.sqrt(variance), LEAST_SCALE)
        return cls(measure, (1 / scale).astype(np.float32), (-mean / scale).astype(np.float32))

    def of(self, scores: FloatArray, predicted: IntArray) -> FloatArray:
        """`(N,)` of scores `(N, S)` of rows that are predicted as these classes `(N,)`."""
        level = np.log(self.measure.of(scores).astype(np.float32) + np.float32(ABOVE_ZERO))
        told: FloatArray = level * self.slope[predicted] + self.shift[predicted]
        return told

    def emit(self, graph: GraphBuilder, scores: str, predicted: str) -> str:
        """Nodes for `of`, `(N, 1)`, of classes `(N, 1)`."""
        squared = self.measure.emit(graph, scores)
        level = graph.op("Log", graph.op("Add", squared, graph.const(np.float32(ABOVE_ZERO))))
        slope, shift = (
            graph.op("Gather", graph.const(of_class), predicted)
            for of_class in (self.slope, self.shift)
        )
        return graph.op("Add", graph.op("Mul", level, slope), shift)


def whitening(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre `(S,)` and W `(S, S)` such that |(s - centre) W|^2 is the Mahalanobis distance.

    A score that hardly varies counts as if it varied by 1e-4 (or that share of its mean).
    """
    scores = scores.astype(np.float64)
    centre, count = scores.mean(axis=0), scores.shape[1]
    scale = np.maximum(scores.std(axis=0), 1e-4 * np.maximum(1.0, np.abs(centre)))
    correlation = np.cov(((scores - centre) / scale).T).reshape(count, count)
    whitening = np.linalg.cholesky(np.linalg.inv(correlation + 1e-6 * np.eye(count)))
    return centre.astype(np.float32), (whitening / scale[:, None]).astype(np.float32)
