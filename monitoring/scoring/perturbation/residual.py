"""Pixels that their neighbours do not explain: what the perturbation head sees of small images."""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder

MOST_VALUES = 256  # of an image: the matrix has their square
TOP = 5
KEPT = (0, 1, 2, 4)  # of the largest: the first, second, third and fifth
SHRINKAGE, LEAST = 0.01, 1e-3  # of the covariance: of the mean variance, and in units of x^2
SMALL = 1e-2  # before the logarithm


@dataclass(frozen=True)
class PixelResidual:
    """How far each value lies from what all others predict, z_i = (P (x - m))_i / sqrt(P_ii).

    P is the precision of the training images, so that z_i is the residual of a linear prediction
    in units of its deviation. The evidence is ln(|z| + .01) of the largest, second, third and
    fifth |z|, of their mean, and of the mean of z^2.

    Args:
        mean: `(D,)`.
        matrix: `(D, D)`, P / sqrt(diag P) column by column.
    """

    mean: FloatArray
    matrix: FloatArray

    @classmethod
    def fit(cls, x_unit: FloatArray) -> "PixelResidual | None":
        """From training images `(R, C, H, W)`; None where they have too many values."""
        flat = np.asarray(x_unit, dtype=np.float64).reshape(len(x_unit), -1)
        size = flat.shape[1]
        if not TOP <= size <= MOST_VALUES:
            return None
        mean = flat.mean(axis=0)
        covariance = (flat - mean).T @ (flat - mean) / len(flat)
        covariance += (SHRINKAGE * np.trace(covariance) / size + LEAST) * np.eye(size)
        precision = np.linalg.inv(covariance)
        matrix = precision / np.sqrt(np.diag(precision))
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def values(self, x_unit: FloatArray) -> FloatArray:
        """`(N, 6)` of images in [0, 1]."""
        z = np.abs((x_unit.reshape(len(x_unit), -1) - self.mean) @ self.matrix)
        top = -np.sort(-z, axis=1)[:, KEPT]
        means = [z.mean(axis=1, keepdims=True), (z**2).mean(axis=1, keepdims=True)]
        evidence: FloatArray = np.log(np.concatenate([top, *means], axis=1) + SMALL)
        return evidence

    def emit(self, graph: GraphBuilder, x_unit: str) -> str:
        """Nodes for `values`."""
        moved = graph.const(-self.mean.astype(np.float64) @ self.matrix)
        z = graph.op("Gemm", graph.op("Flatten", x_unit), graph.const(self.matrix), moved)
        z = graph.op("Abs", z)
        top, _ = graph.ops("TopK", z, graph.const([TOP]), outputs=2)
        top = graph.op("Gather", top, graph.const(np.array(KEPT)), axis=1)
        axis = graph.const([1])
        mean = graph.op("ReduceMean", z, axis, keepdims=1)
        square = graph.op("ReduceMean", graph.op("Mul", z, z), axis, keepdims=1)
        joined = graph.op("Concat", top, mean, square, axis=1)
        return graph.op("Log", graph.op("Add", joined, graph.const(np.float32(SMALL))))
