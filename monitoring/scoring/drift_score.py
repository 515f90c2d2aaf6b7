"""The drift p-value of one request: how strange its scores are beside those of held-out rows.

Each score is measured from its median in units of its own spread on that side, so that a long
tail above does not hide what falls below; then all are whitened together with training rows. The
squared length is the row's strangeness (Mahalanobis): a row is strange where a score is far out, or
where scores that go together part. Split conformal calibration makes a p-value of it (Vovk et al.
2005).
"""

from dataclasses import dataclass

import numpy as np
import onnx

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder

SPREAD = (0.05, 0.5, 0.95)
LOPSIDED = 10.0  # how much wider one side may be than the other
TABLE = 1024  # entries of the p-value table at most
HAIR = 1e-5  # room for rounding: what lies beside a calibrated number is not parted from it


@dataclass(frozen=True)
class Strangeness:
    """How far scores lie from those of training rows, all channels together.

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


def emit_p_value(
    graph: GraphBuilder, scores: str, fit_scores: FloatArray, held_scores: FloatArray
) -> str:
    """Nodes for the p-value `(N,)` of scores `(N, S)`.

    Args:
        graph: is grown.
        scores: tensor of the graph.
        fit_scores: `(M, S)` of training rows, for centre and whitening.
        held_scores: `(n, S)` of held-out rows, which p is calibrated on.
    """
    measure = Strangeness.fit(fit_scores)
    strangeness = measure.emit(graph, scores)
    held = measure.of(held_scores)
    edges, table = conformal_table(held * (1 + HAIR) + HAIR)  # upwards: p stays valid
    above = graph.op("GreaterOrEqual", graph.const(edges[None, :]), strangeness)
    count = graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([1]),
        keepdims=0,
    )
    return graph.op("Gather", graph.const(table), count)


def conformal_table(held: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Falling edges `(M,)` and p-values `(M + 1,)`: p of a score is table[#edges >= score].

    p(s) = (1 + #{held-out scores >= s}) / (n + 1). Beyond 1024 held-out rows every rank of the
    upper tail is kept and the rest is thinned, rounding p up, so it stays valid.
    """
    falling, n = np.sort(held.astype(np.float32))[::-1], len(held)
    ranks = np.arange(1, n + 1)
    if n > TABLE:
        half = TABLE // 2
        ranks = np.unique(np.concatenate([ranks[:half], np.linspace(half, n, half).astype(int)]))
    return falling[ranks - 1].copy(), np.append(ranks, n + 1) / (n + 1)


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
