"""Statistics of a table's rows: how much of a row is inside the training range, and how far off
its numbers lie together. NumPy maths and nodes of the graph; finite for every input.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray
from models.versions.schema import InputSchema
from monitoring.scoring.graph import GraphBuilder

TOLERANCE = 1e-6  # rounding at the ends of the range is inside
REACH = (-1.0, 2.0)  # numbers are clipped to this before distances: one range beyond either end
SHRINKAGE, FLOOR = 0.02, 1e-4  # of the covariance of unit-range columns


@dataclass(frozen=True)
class TableStatistics:
    """Two numbers per row of `D` columns, fitted on training rows.

    inside = mean over the columns of 1 - e, with e = 1 for a missing value or an unseen category,
    0 inside the range of the rows it is fitted on (not all of training, so that further training
    rows leave it as often as new ones do), and beyond it the excess in unit ranges, at most 1.
    row_distance = |(clip(x) - mean) W| / sqrt(D), the root mean square of the whitened numbers
    (Mahalanobis), missing ones at the mean; categories do not count in it.

    Args:
        centre, half: `(D,)` middle and half width of the range, in units of `to_unit`.
        mean: `(D,)` of the clipped training rows.
        whitening: `(D, D)`, zero for categories.
    """

    centre: FloatArray
    half: FloatArray
    mean: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, schema: InputSchema, x_unit: FloatArray) -> "TableStatistics":
        """From training rows `(N, D)` as `schema.to_unit` gives them."""
        numeric = np.array([c.kind == "numeric" for c in schema.columns])
        last = np.array([max(len(c.categories) - 1, 0) for c in schema.columns])
        x = np.where(np.isfinite(x_unit), np.clip(x_unit, *REACH), np.nan).astype(np.float64)
        known = np.isfinite(x)
        low = np.where(numeric, np.where(known, x, np.inf).min(axis=0), 0)
        high = np.where(numeric, np.where(known, x, -np.inf).max(axis=0), last)
        low, high = (np.where(known.any(axis=0) | ~numeric, v, 0) for v in (low, high))
        mean = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centred = np.where(known, x - mean, 0)[:, numeric]
        covariance = centred.T @ centred / max(len(x), 1)
        kept = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance))
        kept += FLOOR * np.eye(len(kept))
        whitening = np.zeros((len(numeric), len(numeric)))
        if numeric.any():
            block = np.linalg.cholesky(np.linalg.inv(kept)) / np.sqrt(len(kept))
            whitening[np.ix_(numeric, numeric)] = block
        arrays = ((low + high) / 2, (high - low) / 2, np.where(numeric, mean, 0), whitening)
        return cls(*(a.astype(np.float32) for a in arrays))

    def values(self, x_unit: FloatArray) -> npt.NDArray[np.float64]:
        """`(N, 2)`: inside in [0, 1], row_distance at least 0. NaN and infinities are allowed."""
        x = np.asarray(x_unit, dtype=np.float64)
        missing = np.isnan(x)
        beyond = np.abs(np.where(missing, 0, x) - self.centre) - (self.half + TOLERANCE)
        excess = np.where(missing, 1.0, np.clip(beyond, 0, 1))
        offset = np.where(missing, 0, np.clip(x, *REACH) - self.mean)
        white = offset @ self.whitening
        return np.stack([1 - excess.mean(axis=1), np.sqrt((white**2).sum(axis=1))], axis=1)

    def emit(self, graph: GraphBuilder, x_unit: str) -> str:
        """Nodes that compute `values` of `x_unit` `(N, D)`."""
        zero, one = graph.const(np.float32(0)), graph.const(np.float32(1))
        missing, axes = graph.op("IsNaN", x_unit), graph.const([1])
        away = graph.op("Abs", graph.op("Sub", x_unit, graph.const(self.centre)))
        beyond = graph.op("Sub", away, graph.const(self.half + np.float32(TOLERANCE)))
        excess = graph.op("Where", missing, one, graph.op("Clip", beyond, zero, one))
        inside = graph.op("Sub", one, graph.op("ReduceMean", excess, axes, keepdims=1))
        near = graph.op("Clip", x_unit, *(graph.const(np.float32(v)) for v in REACH))
        offset = graph.op("Where", missing, zero, graph.op("Sub", near, graph.const(self.mean)))
        white = graph.op("MatMul", offset, graph.const(self.whitening))
        distance = graph.op("ReduceL2", white, axes, keepdims=1)
        return graph.op("Concat", inside, distance, axis=1)
