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
from models.statistics.ranks import cells_in_groups, class_weights, split_edges
from models.versions.schema import ChannelInfo
from monitoring.counting.class_names import fold_classes
from monitoring.scoring.channels.columns import (
    CategoryColumn,
    NumericColumn,
    TableColumn,
    ValueColumn,
    emit_categories,
    emit_tables,
    emit_values,
)
from monitoring.scoring.class_ranks import MOST_COLUMN_CLASSES, ClassRanks
from monitoring.scoring.graph import GraphBuilder


@dataclass(frozen=True)
class Cells:
    """The cells of all channels of a model, fitted on the held-out rows of the reference.

    `reference` holds "<channel>/alpha", the weight of each cell, and "<channel>/edges" where there
    are some: those of the channel's groups one after the other (`models.statistics.ranks`).
    """

    channels: tuple[ChannelInfo, ...]
    reference: dict[str, npt.NDArray[Any]]
    ranks: ClassRanks  # of the scores
    column_ranks: ClassRanks
    numbers: tuple[NumericColumn, ...]
    values: tuple[ValueColumn, ...]
    categories: tuple[CategoryColumn, ...]
    class_cells: IntArray  # (C,): the cell of each class

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
        own = ClassRanks.fit(predicted, classes, MOST_COLUMN_CLASSES)
        rows = [] if x_unit is None else own.part(x_unit, predicted)
        for number in numbers:
            cuts = [number.edges(part) for part in rows]
            weights = [number.weights(part, cut) for part, cut in zip(rows, cuts, strict=True)]
            arrays[f"{number.name}/edges"] = np.concatenate(cuts)
            arrays[f"{number.name}/alpha"] = np.concatenate(weights)
            infos.append(own.info(number.name, "score", list(map(number.cell_labels, cuts))))
        shares: tuple[ValueColumn | CategoryColumn, ...] = (*values, *categories)
        for column in shares:
            assert rows, "columns are counted from x_unit"
            arrays[f"{column.name}/alpha"] = np.concatenate(list(map(column.weights, rows)))
            infos.append(own.info(column.name, "category", [column.labels] * len(rows)))
        folded = fold_classes(classes, np.bincount(predicted, minlength=len(classes)))
        arrays["class/alpha"] = class_weights(folded.place[predicted], len(folded.labels))
        infos.append(ChannelInfo("class", "class", folded.labels))
        return cls(tuple(infos), arrays, ranks, own, numbers, values, categories, folded.place)

    def score_cells(self, scores: FloatArray, predicted: IntArray) -> IntArray:
        """The cells `(N, S)` of scores `(N, S)` of rows of these predicted classes `(N,)`."""
        own = self.ranks.group_of[predicted]
        columns = [
            cells_in_groups(column, own, self._edges(channel))
            for column, channel in zip(scores.T, self.channels, strict=False)
        ]
        return np.stack(columns, axis=1)

    def column_cells(self, x_unit: FloatArray, predicted: IntArray) -> dict[str, IntArray]:
        """The cells `(N,)` of each column of rows `(N, D)` of these predicted classes `(N,)`."""
        own, infos = self.column_ranks.group_of[predicted], {c.name: c for c in self.channels}
        cells = {
            c.name: cells_in_groups(c.values(x_unit), own, self._edges(infos[c.name]))
            for c in self.numbers
        }
        shares: tuple[ValueColumn | CategoryColumn, ...] = (*self.values, *self.categories)
        return cells | {c.name: c.cells(x_unit) + own * len(c.labels) for c in shares}

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
        cells = graph.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        if self.ranks.names:
            first = graph.op("GatherND", graph.const(self._first_cells()), predicted)
            cells = graph.op("Add", cells, first)
        if self.class_cells.max() + 1 < len(self.class_cells):  # some share a cell
            predicted = graph.op(
                "Gather", graph.const(self.class_cells.astype(np.int64)), predicted
            )
        return graph.op(
            "Concat", cells, graph.op("Cast", predicted, to=onnx.TensorProto.INT32), axis=1
        )

    def _emit_ranks(self, graph: GraphBuilder, values: str, predicted: str) -> str:
        """`(N, V)` int32: how many edges of the predicted class `(N, 1)` lie above the values.

        The table has a row per class, which saves a look-up of its group.
        """
        edges = graph.const(self._edge_table())
        column = graph.op("Unsqueeze", values, graph.const([2]))
        if self.ranks.names:
            edges = graph.op("GatherND", edges, predicted)
        return _count_above(graph, edges, column)

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

    def _edges(self, channel: ChannelInfo) -> list[npt.NDArray[np.float32]]:
        """Falling edges of each group."""
        cells = [group.cells for group in channel.groups]
        return split_edges(self.reference[f"{channel.name}/edges"], cells)

    @property
    def _grouped(self) -> list[tuple[ChannelInfo, ClassRanks]]:
        """Every channel but the class, and what its cells are parted by."""
        columns = len(self.numbers) + len(self.values) + len(self.categories)
        scores = len(self.channels) - 1 - columns
        parted = [self.ranks] * scores + [self.column_ranks] * columns
        return list(zip(self.channels[:-1], parted, strict=True))

    def _first_cells(self) -> IntArray:
        """`(C, K - 1)` int32: the first cell of the group of every class, by channel."""
        columns = []
        for channel, parted in self._grouped:
            sizes = [group.cells for group in channel.groups]
            columns.append(np.cumsum([0, *sizes[:-1]])[parted.group_of])
        return np.stack(columns, axis=1).astype(np.int32)

    def _edge_table(self) -> npt.NDArray[np.float32]:
        """Edges `(C, V, E)` of every class, padded with -inf; one row where there are no groups."""
        count = len(self.ranks.group_of) if self.ranks.names else 1
        by_column: list[list[npt.NDArray[np.float32]]] = []
        for channel, parted in self._grouped:
            if f"{channel.name}/edges" in self.reference:
                edges = self._edges(channel)
                by_column.append([edges[group] for group in parted.group_of[:count]])
        by_column += [[column.edges()] * count for column in self.values]
        width = max(len(falling) for edges in by_column for falling in edges)
        padded = np.full((count, len(by_column), max(1, width)), -np.inf, dtype=np.float32)
        for place, edges in enumerate(by_column):
            for label, falling in enumerate(edges):
                padded[label, place, : len(falling)] = falling
        return padded


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
