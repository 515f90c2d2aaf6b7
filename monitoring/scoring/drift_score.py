"""The drift p-value of one request: how strange its scores are beside those of held-out rows.

Split conformal calibration makes a p-value of a row's strangeness (Vovk et al. 2005).
"""

from collections.abc import Sequence

import numpy as np
import onnx

from models.statistics.arrays import FloatArray, IntArray
from monitoring.scoring.channels.catalogue import CATALOGUE, Kind
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.strangeness import (
    COLUMN_SPREAD,
    LEAST_SPREAD,
    ClassStrangeness,
    Excess,
    Measure,
    Strangeness,
)

TABLE = 1024  # entries of the p-value table at most
HAIR = 1e-5  # room for rounding: what lies beside a calibrated number is not parted from it


def fit_strangeness(
    kind: Kind,
    names: Sequence[str],
    scores: FloatArray,
    predicted: IntArray,
    classes: int,
    columns: int = 1,
) -> ClassStrangeness:
    """What measures the strangeness of a kind of input, fitted on training rows.

    Args:
        kind: whitened for images; for tables on the strange side of every score.
        names: of the S channels.
        scores: `(M, S)`.
        predicted: `(M,)` classes of the same rows, of `classes`.
        classes: how many there are.
        columns: of a table.
    """
    measure: Measure
    if kind == "tabular":
        channels = [CATALOGUE[name] for name in names]
        of_column = COLUMN_SPREAD / max(columns, 1)
        least = [max(LEAST_SPREAD, of_column * channel.is_mean) for channel in channels]
        measure = Excess.fit(scores, np.array([c.sign for c in channels]), np.array(least))
    else:
        measure = Strangeness.fit(scores)
    return ClassStrangeness.fit(measure, scores, predicted, classes)


def emit_p_value(
    graph: GraphBuilder, scores: str, predicted: str, measure: ClassStrangeness, held: FloatArray
) -> str:
    """Nodes for the p-value `(N,)`.

    Args:
        graph: is grown.
        scores: tensor `(N, S)` of the graph.
        predicted: tensor `(N, 1)` of the graph, the class of each row.
        measure: of the strangeness.
        held: `(n,)` strangeness of held-out rows, which p is calibrated on.
    """
    strangeness = measure.emit(graph, scores, predicted)
    room = HAIR * (1 + np.abs(held))  # upwards: p stays valid
    edges, table = conformal_table(held + room)
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
