"""The drift p-value of one request: how strange its scores are beside those of held-out rows.

The scores of all channels are centred and whitened with training rows; the squared length is the
row's strangeness, and split conformal calibration makes a p-value of it (Vovk et al. 2005).
"""

import numpy as np
import onnx

from models.schema import FloatArray
from monitoring.graph import GraphBuilder

TABLE = 1024  # entries of the p-value table at most
HAIR = 1e-5  # room for rounding: what lies beside a calibrated number is not parted from it


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
    centre, matrix = whitening(fit_scores)
    white = graph.op("Gemm", scores, graph.const(matrix), graph.const(-centre @ matrix))
    strangeness = graph.op("ReduceSumSquare", white, graph.const([1]), keepdims=1)
    held = ((held_scores @ matrix - centre @ matrix) ** 2).sum(axis=1)
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
