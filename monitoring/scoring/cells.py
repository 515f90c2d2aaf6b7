"""The cells that requests are counted in: their reference, and the nodes that find them.

Order of the columns of `cells (N, K)`: score channels; of a table its numbers with ranks, its
numbers with values, and its categories; class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import class_weights, split_edges
from models.versions.schema import ChannelInfo
from monitoring.scoring.channels.columns import (
    CategoryColumn,
    NumericColumn,
    TableColumn,
    ValueColumn,
    emit_categories,
    emit_tables,
    emit_values,
)
from monitoring.scoring.class_ranks import ClassRanks
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Cells:
    """The cells of all channels of a model, fitted on the held-out rows of the reference.

    `reference` holds "<channel>/alpha", the weight of each cell, and "<channel>/edges" where there
    are some: those of the channel's groups one after the other (`models.statistics.ranks`).
    """

    channels: tuple[ChannelInfo, ...]
    reference: dict[str, npt.NDArray[Any]]
    ranks: ClassRanks
    numbers: tuple[NumericColumn, ...]
    values: tuple[ValueColumn, ...]
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
        arrays: dict[str, npt.NDArray[Any]] = {}
        ranks = ClassRanks.fit(predicted, classes)
        for place, name in enumerate(names):
            cells = ranks.cells(name, scores[:, place], predicted)
            arrays[f"{name}/edges"] = np.concatenate(cells.edges)
            arrays[f"{name}/alpha"] = cells.weights
            infos.append(cells.info)
        numbers, values, categories = _split_columns(columns, x_unit)
        for number in numbers:
            assert x_unit is not None, "columns are counted from x_unit"
            edges = number.edges(x_unit)
            arrays[f"{number.name}/edges"] = edges
            arrays[f"{number.name}/alpha"] = number.weights(x_unit, edges)
            infos.append(number.info(edges))
        shares: tuple[ValueColumn | CategoryColumn, ...] = (*values, *categories)
        for column in shares:
            assert x_unit is not None, "columns are counted from x_unit"
            arrays[f"{column.name}/alpha"] = column.weights(x_unit)
            infos.append(column.info())
        arrays["class/alpha"] = class_weights(predicted, len(classes))
        infos.append(ChannelInfo("class", "class", classes))
        return cls(tuple(infos), arrays, ranks, numbers, values, categories)

    def emit(self, graph: GraphBuilder, scores: str, x_unit: str, logits: str) -> str:
        """Nodes for `cells (N, K)` int32 of scores `(N, S)`, `x_unit` and `logits (N, C)`."""
        values = scores
        columns: tuple[NumericColumn | ValueColumn, ...] = (*self.numbers, *self.values)
        if columns:
            numbers = emit_values(graph, x_unit, columns)
            values = graph.op("Concat", scores, numbers, axis=1)
        predicted = graph.op("ArgMax", logits, axis=1, keepdims=1)
        parts = self._emit_values(graph, self._emit_ranks(graph, values, predicted))
        if self.categories:
            parts.append(emit_categories(graph, x_unit, self.categories))
        parts.append(graph.op("Cast", predicted, to=onnx.TensorProto.INT32))
        return graph.op("Concat", *parts, axis=1)

    def _emit_ranks(self, graph: GraphBuilder, values: str, predicted: str) -> str:
        """`(N, V)` int32 cells of values `(N, V)`, in the group of the predicted class `(N, 1)`.

        The cell is the first of the group, and one more for each of its edges above the value.
        The tables have a row per class, which saves a look-up of its group.
        """
        edges, first = self._edge_table()
        column = graph.op("Unsqueeze", values, graph.const([2]))
        if not self.ranks.names:
            return _count_above(graph, graph.const(edges), column)
        group = self.ranks.group_of
        own = graph.op("GatherND", graph.const(edges[group]), predicted)
        above = _count_above(graph, own, column)
        return graph.op("Add", graph.op("GatherND", graph.const(first[group]), predicted), above)

    def _emit_values(self, graph: GraphBuilder, ranks: str) -> list[str]:
        """Parts of the cells `(N, V)`: the ranks as they are, and those that are of values."""
        if not self.values:
            return [ranks]
        last, count = len(self.values), len(self._ranked) + len(self.values)
        ends = (0, count - last, count)
        own, places = (
            graph.op("Slice", ranks, *(graph.const([k]) for k in (begin, end, 1)))
            for begin, end in pairwise(ends)
        )
        whole = graph.op("Cast", places, to=onnx.TensorProto.INT64)
        cells = emit_tables(graph, whole, [column.table for column in self.values])
        return [own, cells] if count > last else [cells]

    @property
    def _ranked(self) -> list[ChannelInfo]:
        return [c for c in self.channels if f"{c.name}/edges" in self.reference]

    def _edge_table(self) -> tuple[npt.NDArray[np.float32], IntArray]:
        """Edges `(groups, V, E)`, padded with -inf, and first cells `(groups, V)`.

        What is no score has the same edges in every group.
        """
        groups = max(1, len(self.ranks.names))
        by_column: list[list[npt.NDArray[np.float32]]] = []
        first = np.zeros((groups, len(self._ranked) + len(self.values)), dtype=np.int32)
        for place, channel in enumerate(self._ranked):
            cells = [group.cells for group in channel.groups]
            edges = split_edges(self.reference[f"{channel.name}/edges"], cells)
            by_column.append(edges if cells else edges * groups)
            first[1:, place] = np.cumsum(cells)[:-1] if cells else 0
        by_column += [[column.edges()] * groups for column in self.values]
        width = max(len(falling) for edges in by_column for falling in edges)
        padded = np.full((groups, len(by_column), max(1, width)), -np.inf, dtype=np.float32)
        for place, edges in enumerate(by_column):
            for group, falling in enumerate(edges):
                padded[group, place, : len(falling)] = falling
        return padded, first


def _split_columns(
    columns: Sequence[TableColumn], x_unit: FloatArray | None
) -> tuple[tuple[NumericColumn, ...], tuple[ValueColumn, ...], tuple[CategoryColumn, ...]]:
    """The ranked numbers that are known somewhere in the reference, values, and categories."""
    numbers = [
        c
        for c in columns
        if isinstance(c, NumericColumn)
        and x_unit is not None
        and np.isfinite(x_unit[:, c.index]).any()
    ]
    values = [c for c in columns if isinstance(c, ValueColumn)]
    return tuple(numbers), tuple(values), tuple(c for c in columns if isinstance(c, CategoryColumn))


def _count_above(graph: GraphBuilder, edges: str, column: str) -> str:
    """`(N, V)` int32: how many of the edges `(N or 1, V, E)` lie above the value `(N, V, 1)`."""
    above = graph.op("Greater", edges, column)
    return graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([2]),
        keepdims=0,
    )
