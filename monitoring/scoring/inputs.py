"""What channels read: the plain graph's answers, as arrays and as names of tensors."""

from dataclasses import dataclass
from typing import Protocol

from models.statistics.arrays import FloatArray
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class PlainAnswers:
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
    statistics: str  # (N, 4) of an image, see `input_statistics`; (N, 2) of a table's row


class ScoreChannel(Protocol):
    """One number per row; larger need not mean stranger: evidence looks both ways."""

    @property
    def name(self) -> str:
        """What it is called in metrics and alarms."""

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)` float64."""

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """Nodes that compute the same, as `(N, 1)` float32."""
