"""The cells in which suspicion and likelihood are counted: for the stream of attacks, not of drift.

A cell is a pair: how suspicious a row is beside held-out clean rows, and how likely attacked. They
are counted beside the channels under the name `CHANNEL`, in bulk and not in the graph.
"""

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import Calibration

CHANNEL = "perturbation"
SUSPICION_RANKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
LIKELIHOOD_EDGES = (0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.3)  # not fitted: the bets lie on them


def count_cells(calibration: Calibration) -> int:
    """How many cells there are; 0 for a version that has none (of schema 2)."""
    edges = calibration.suspicion_edges
    return (len(edges) + 1) * (len(LIKELIHOOD_EDGES) + 1) if edges else 0


def likelihood_cells(
    suspicion: FloatArray, likelihood: FloatArray, suspicion_edges: npt.ArrayLike
) -> IntArray:
    """The cell `(N,)` of each row: 0 is the most suspicious and the likeliest attacked.

    Args:
        suspicion, likelihood: `(N,)` in [0, 1].
        suspicion_edges: falling; a cell is the number of edges above the value.

    >>> likelihood_cells(np.array([0.9, 0.1]), np.array([0.99, 0.0]), [0.5]).tolist()
    [0, 15]
    """
    rows, columns = (
        len(falling) - np.searchsorted(falling[::-1], values.astype(np.float32), side="right")
        for values, falling in (
            (suspicion, np.asarray(suspicion_edges, dtype=np.float32)),
            (likelihood, np.asarray(LIKELIHOOD_EDGES, dtype=np.float32)),
        )
    )
    return rows * (len(LIKELIHOOD_EDGES) + 1) + columns
