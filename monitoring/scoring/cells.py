"""The cells that requests are counted in: their reference, and the nodes that find them.

Order of the columns of `cells (N, K)`: score channels, a table's numbers, its categories, class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import class_weights, rank_edges, score_weights, steady
from models.versions.schema import ChannelInfo
from monitoring.scoring.channels.columns import (
    CategoryColumn,
    NumericColumn,
    TableColumn,
    emit_categories,
    emit_values,
)
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Cells:
    """The cells of all channels of a model, fitted on the held-out rows of the reference."""

    channels: tuple[ChannelInfo, ...]
    reference: dict[str, FloatArray]  # "<channel>/edges" where it has some, "<channel>/alpha"
    numbers: tuple[NumericColumn, ...]
    categories: tuple[CategoryColumn, ...]

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        scores: FloatArray,
        predicted: IntArray,
        classes: tuple[str, ...],
        columns: Sequence[TableColumn] = (),
        x_unit: FloatArray | None = None,
    ) -> "Cells":
        """Cut the held-out values of every channel into cells.

        Args:
            names: of the S score channels.
            scores: `(n, S)` of the reference rows.
            predicted: `(n,)` classes of the same rows.
            classes: names of the classes.
            columns: of the table that are channels; a number that is never known in the reference
                is left out.
            x_unit: `(n, D)` of the same rows, where there are columns.
        """
        infos: list[ChannelInfo] = []
        arrays: dict[str, FloatArray] = {}
        for column, name in enumerate(names):
            edges = steady(rank_edges(scores[:, column]))
            arrays[f"{name}/edges"] = edges
            arrays[f"{name}/alpha"] = score_weights(scores[:, column], edges)
            labels = tuple(f"{cell:02d}" for cell in range(len(edges) + 1))
            infos.append(ChannelInfo(name, "score", labels))
        numbers, categories = _split_columns(columns, x_unit)
        for number in numbers:
            assert x_unit is not None, "columns are counted from x_unit"
            edges = number.edges(x_unit)
            arrays[f"{number.name}/edges"] = edges
            arrays[f"{number.name}/alpha"] = number.weights(x_unit, edges)
            infos.append(number.info(edges))
        for category in categories:
            assert x_unit is not None, "columns are counted from x_unit"
            arrays[f"{category.name}/alpha"] = category.weights(x_unit)
            infos.append(category.info())
        arrays["class/alpha"] = class_weights(predicted, len(classes))
        infos.append(ChannelInfo("class", "class", classes))
        return cls(tuple(infos), arrays, numbers, categories)

    def emit(self, graph: GraphBuilder, scores: str, x_unit: str, logits: str) -> str:
        """Nodes for `cells (N, K)` int32 of scores `(N, S)`, `x_unit` and `logits (N, C)`."""
        values = scores
        if self.numbers:
            numbers = emit_values(graph, x_unit, self.numbers)
            values = graph.op("Concat", scores, numbers, axis=1)
        parts = [_emit_ranks(graph, values, self._edges())]
        if self.categories:
            parts.append(emit_categories(graph, x_unit, self.categories))
        predicted = graph.op("ArgMax", logits, axis=1, keepdims=1)
        parts.append(graph.op("Cast", predicted, to=onnx.TensorProto.INT32))
        return graph.op("Concat", *parts, axis=1)

    def _edges(self) -> list[FloatArray]:
        keys = (f"{channel.name}/edges" for channel in self.channels)
        return [self.reference[key] for key in keys if key in self.reference]


def _split_columns(
    columns: Sequence[TableColumn], x_unit: FloatArray | None
) -> tuple[tuple[NumericColumn, ...], tuple[CategoryColumn, ...]]:
    """The numbers that are known somewhere in the reference, and the categories."""
    numbers = [
        c
        for c in columns
        if isinstance(c, NumericColumn)
        and x_unit is not None
        and np.isfinite(x_unit[:, c.index]).any()
    ]
    return tuple(numbers), tuple(c for c in columns if isinstance(c, CategoryColumn))


def _emit_ranks(graph: GraphBuilder, values: str, edges: Sequence[FloatArray]) -> str:
    """`(N, V)` int32: how many of its own falling edges lie above each value."""
    width = max(map(len, edges))
    padded = np.full((1, len(edges), width), -np.inf, dtype=np.float32)
    for row, falling in enumerate(edges):
        padded[0, row, : len(falling)] = falling
    column = graph.op("Unsqueeze", values, graph.const([2]))
    above = graph.op("Greater", graph.const(padded), column)
    return graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([2]),
        keepdims=0,
    )
