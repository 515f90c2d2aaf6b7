"""The columns of a table as channels: cells of a number's ranks, or one cell per category.

A column's cell is found from `x_unit` alone, so it says what moved in the customer's own words.
Large tables are bounded: the columns that tell most about the answers, and the categories that
are most frequent in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import class_weights, rank_cells, rank_edges, score_weights, steady
from models.versions.schema import ChannelInfo, Column, InputSchema
from monitoring.scoring.graph import GraphBuilder

MAX_COLUMNS = 32
MAX_CATEGORIES = 24
RANKS = (
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
)
MISSING, MISSING_EDGE, LEAST = np.float32(-3e38), np.float32(-2e38), np.float32(-1e38)
NAME_LENGTH = 48


@dataclass(frozen=True)
class NumericColumn:
    """A number: rank cells of its value; "missing" is the last cell where the column allows it.

    Where it does not, a missing value (which the service refuses) counts as the lowest value.

    Args:
        name: of the channel, "column:" and the column's.
        index: of the column.
        missing: whether a missing value is an answerable one.
    """

    name: str
    index: int
    missing: bool

    def values(self, x_unit: FloatArray) -> FloatArray:
        """`(N,)` float32, NaN far below every number."""
        x = x_unit[:, self.index].astype(np.float32)
        return np.where(np.isnan(x), MISSING, np.maximum(x, LEAST))

    def edges(self, x_unit: FloatArray) -> npt.NDArray[np.float32]:
        """Falling edges of held-out rows; the last parts numbers from missing ones."""
        known = x_unit[np.isfinite(x_unit[:, self.index]), self.index]
        edges = steady(rank_edges(known, RANKS), least=0.0)
        return np.append(edges, MISSING_EDGE) if self.missing else edges

    def cells(self, x_unit: FloatArray, edges: FloatArray) -> IntArray:
        """`(N,)`, 0 for the highest numbers."""
        return rank_cells(self.values(x_unit), edges)

    def weights(self, x_unit: FloatArray, edges: FloatArray) -> FloatArray:
        """`(G,)` summing to n + 1: the lowest numbers and the missing share the open gap."""
        weights = score_weights(self.values(x_unit), edges)
        if self.missing:
            weights[-2:] += (0.5, -0.5)
        return weights

    def info(self, edges: FloatArray) -> ChannelInfo:
        """What the manifest says of it."""
        labels = [f"{cell:02d}" for cell in range(len(edges) + 1)]
        if self.missing:
            labels[-1] = "missing"
        return ChannelInfo(self.name, "score", tuple(labels))


@dataclass(frozen=True)
class CategoryColumn:
    """A category: a cell for each, "other" for the rare ones, "unseen", and "missing".

    Args:
        name: of the channel, "column:" and the column's.
        index: of the column.
        labels: of the cells; "other" and "missing" only where there are such.
        table: `(L + 3,)` cell of an unseen category, of the L categories, of a number beyond
            them, and of a missing value.
    """

    name: str
    index: int
    labels: tuple[str, ...]
    table: IntArray

    @classmethod
    def fit(cls, name: str, index: int, column: Column, values: FloatArray) -> "CategoryColumn":
        """From training values `(R,)`: the most frequent categories have a cell of their own."""
        size = len(column.categories)
        known = values[np.isfinite(values)].astype(int)
        counts = np.bincount(known[(known >= 0) & (known < size)], minlength=size)
        kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_CATEGORIES])
        labels = [column.categories[k] for k in kept]
        if len(kept) < size:
            labels.append("other")
        places = np.full(size, len(kept))
        places[kept] = np.arange(len(kept))
        unseen = len(labels)
        labels += ["unseen", "missing"] if column.missing else ["unseen"]
        table = np.concatenate([[unseen], places, [unseen, len(labels) - 1]])
        return cls(name, index, tuple(labels), table.astype(np.int32))

    def cells(self, x_unit: FloatArray) -> IntArray:
        """`(N,)`."""
        x, size = x_unit[:, self.index], len(self.table) - 3
        place = np.where(np.isnan(x), size + 2, np.clip(x, -1, size) + 1)
        cells: IntArray = self.table[place.astype(np.int64)]
        return cells

    def weights(self, x_unit: FloatArray) -> FloatArray:
        """`(G,)` summing to n + 1: counts, and one row spread over all."""
        return class_weights(self.cells(x_unit), len(self.labels))

    def info(self) -> ChannelInfo:
        """What the manifest says of it."""
        return ChannelInfo(self.name, "category", self.labels)


TableColumn = NumericColumn | CategoryColumn


def choose_columns(
    schema: InputSchema, x_unit: FloatArray, predicted: IntArray
) -> list[TableColumn]:
    """The columns that become channels: numbers first, then categories, each in table order.

    Of more than 32, those whose cells tell most about the model's answer (mutual information
    on training rows, Miller-Madow corrected). A column without two different values in training
    is left out: it has no ranks. (`inside` sees it when it moves.)

    Args:
        schema: a table's; an image has no columns.
        x_unit: `(R, D)` training rows.
        predicted: `(R,)` the model's answers to them.
    """
    if schema.kind != "tabular" or not schema.columns:
        return []
    found: list[tuple[float, TableColumn]] = []
    for index, (name, column) in enumerate(
        zip(_names(schema.columns), schema.columns, strict=True)
    ):
        values = x_unit[:, index]
        made: TableColumn
        if column.kind == "categorical":
            made = CategoryColumn.fit(name, index, column, values)
            cells = made.cells(x_unit)
        elif len(np.unique(values[np.isfinite(values)])) > 1:
            made = NumericColumn(name, index, column.missing)
            cells = made.cells(x_unit, made.edges(x_unit))
        else:
            continue
        found.append((_information(cells, predicted), made))
    best = sorted(found, key=lambda pair: -pair[0])[:MAX_COLUMNS]
    kept = sorted((made for _, made in best), key=lambda made: made.index)
    return sorted(kept, key=lambda made: isinstance(made, CategoryColumn))


def emit_values(graph: GraphBuilder, x_unit: str, columns: Sequence[NumericColumn]) -> str:
    """Nodes for `NumericColumn.values`, `(N, K)`."""
    x = graph.op("Gather", x_unit, graph.const([c.index for c in columns]), axis=1)
    above = graph.op("Max", x, graph.const(LEAST))
    return graph.op("Where", graph.op("IsNaN", x), graph.const(MISSING), above)


def emit_categories(graph: GraphBuilder, x_unit: str, columns: Sequence[CategoryColumn]) -> str:
    """Nodes for `CategoryColumn.cells`, `(N, K)` int32: one look-up in the joined tables."""
    sizes = np.array([len(c.table) - 3 for c in columns], dtype=np.float32)
    start = np.cumsum([0, *(len(c.table) for c in columns[:-1])])
    x = graph.op("Gather", x_unit, graph.const([c.index for c in columns]), axis=1)
    unseen = graph.const(np.float32(-1))
    near = graph.op("Min", graph.op("Max", x, unseen), graph.const(sizes))
    place = graph.op(
        "Where", graph.op("IsNaN", x), graph.const(sizes + 1), near
    )  # one is added below
    whole = graph.op(
        "Cast", graph.op("Add", place, graph.const(np.float32(1))), to=onnx.TensorProto.INT64
    )
    index = graph.op("Add", whole, graph.const(start.astype(np.int64)))
    return graph.op("Gather", graph.const(np.concatenate([c.table for c in columns])), index)


def _names(columns: Sequence[Column]) -> list[str]:
    """Distinct names that no metric, query or file chokes on."""
    names: list[str] = []
    for column in columns:
        safe = "".join(c if c.isalnum() or c in "-. " else "_" for c in column.name)
        name = stem = f"column:{safe[:NAME_LENGTH]}"
        number = 2
        while name in names:
            name, number = f"{stem}~{number}", number + 1
        names.append(name)
    return names


def _information(cells: IntArray, predicted: IntArray) -> float:
    """Mutual information in nats of two labellings `(R,)`, less its bias for few rows."""
    joint = np.zeros((int(cells.max()) + 1, int(predicted.max()) + 1))
    np.add.at(joint, (cells, predicted), 1)
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    expected, count = rows @ columns / len(cells), len(cells)
    hit = joint > 0
    plain = (joint[hit] * np.log(joint[hit] / expected[hit])).sum() / count
    bias = (hit.sum() - (rows > 0).sum() - (columns > 0).sum() + 1) / (2 * count)
    return float(plain - bias)
