"""The columns of a table as channels: cells of a number's ranks, or one per value or category.

A column's cell within the group of the predicted class (`monitoring.scoring.class_ranks`) is found
from `x_unit` alone, so it says what moved in the customer's own words.
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
from models.versions.schema import Column, InputSchema
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
TINY = np.float32(1e-30)  # above 0, whose next number is too small to compute with
MISSING, MISSING_EDGE, LEAST = np.float32(-3e38), np.float32(-2e38), np.float32(-1e38)
NAME_LENGTH = 48
NEAR_CONSTANT = 0.98  # share of one value from which ranks would say nothing of the others
MOST_VALUES = len(RANKS)  # of a number, that have a cell each


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
        return _known(x_unit[:, self.index])

    def edges(self, x_unit: FloatArray) -> npt.NDArray[np.float32]:
        """Falling edges of held-out rows; the last parts numbers from missing ones.

        Few different values have an edge each, where the rare ones of ties have no rank.
        """
        known = x_unit[np.isfinite(x_unit[:, self.index]), self.index].astype(np.float32)
        different = np.unique(known)
        few = len(different) <= MOST_VALUES
        edges = steady(different[::-1] if few else rank_edges(known, RANKS), least=0.0)
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

    def cell_labels(self, edges: FloatArray) -> tuple[str, ...]:
        """(G,) names of the cells."""
        labels = [f"{cell:02d}" for cell in range(len(edges) + 1)]
        if self.missing:
            labels[-1] = "missing"
        return tuple(labels)


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


@dataclass(frozen=True)
class ValueColumn:
    """A number with hardly a value but one: a cell for each value, "other value", and "missing".

    Ranks are blind to it: where 998 of 1000 rows are 0, every rank lies on the zeros, and what is
    above them has no rank of its own.

    Args:
        name: of the channel, "column:" and the column's.
        index: of the column.
        values: `(V,)` that have a cell, rising, unit range.
        labels: of the cells; "missing" only where a missing value is an answerable one.
    """

    name: str
    index: int
    values: npt.NDArray[np.float32]
    labels: tuple[str, ...]

    @classmethod
    def fit(cls, name: str, index: int, column: Column, values: FloatArray) -> "ValueColumn | None":
        """From training values `(R,)`; None where ranks do: no value has 98 % of those known.

        Two values, however they are divided, are also values and no ranks.
        """
        known = values[np.isfinite(values)].astype(np.float32)
        different, counts = np.unique(known, return_counts=True)
        if len(different) > 2 and counts.max() < NEAR_CONSTANT * len(known):
            return None
        if len(different) > MOST_VALUES:
            different = different[[counts.argmax()]]
        raw = different.astype(np.float64) * ((column.high - column.low) or 1.0) + column.low
        labels = [f"{value:g}" for value in raw] + ["other value"]
        return cls(name, index, different, (*labels, "missing") if column.missing else (*labels,))

    def edges(self) -> npt.NDArray[np.float32]:
        """`(2V + 1,)` falling: above each value and below it, and above a missing one."""
        above = np.maximum(np.nextafter(self.values, np.float32(np.inf)), self.values + TINY)
        falling = np.stack([above, self.values], axis=1)[::-1].ravel()
        return np.append(falling, MISSING_EDGE)

    @property
    def table(self) -> IntArray:
        """`(2V + 2,)` the cell of each rank between the edges, from the highest."""
        count = len(self.values)
        ranks = np.full(2 * count + 2, count, dtype=np.int32)  # other values
        ranks[1 : 2 * count : 2] = np.arange(count)[::-1]
        ranks[-1] = len(self.labels) - 1
        return ranks

    def cells(self, x_unit: FloatArray) -> IntArray:
        """`(N,)`."""
        cells: IntArray = self.table[rank_cells(_known(x_unit[:, self.index]), self.edges())]
        return cells

    def weights(self, x_unit: FloatArray) -> FloatArray:
        """`(G,)` summing to n + 1: counts, and one row spread over all.

        A value that no row of the reference has weighs what it has of that one row, as an unseen
        category does: the urn learns its share from the first ones, and bets only on more.
        """
        return class_weights(self.cells(x_unit), len(self.labels))


TableColumn = NumericColumn | ValueColumn | CategoryColumn
KINDS = (NumericColumn, ValueColumn, CategoryColumn)  # in the order of their cells


def choose_columns(
    schema: InputSchema, x_unit: FloatArray, predicted: IntArray
) -> list[TableColumn]:
    """The columns that become channels: ranked numbers, values, categories, each in table order.

    Of more than 32, those whose cells tell most about the model's answer (mutual information
    on training rows, Miller-Madow corrected).

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
        made = _make(name, index, column, x_unit[:, index])
        if isinstance(made, NumericColumn):
            cells = made.cells(x_unit, made.edges(x_unit))
        else:
            cells = made.cells(x_unit)
        found.append((_information(cells, predicted), made))
    best = sorted(found, key=lambda pair: -pair[0])[:MAX_COLUMNS]
    kept = sorted((made for _, made in best), key=lambda made: made.index)
    return sorted(kept, key=lambda made: KINDS.index(type(made)))


def _make(name: str, index: int, column: Column, values: FloatArray) -> TableColumn:
    if column.kind == "categorical":
        return CategoryColumn.fit(name, index, column, values)
    few = ValueColumn.fit(name, index, column, values)
    return NumericColumn(name, index, column.missing) if few is None else few


def emit_values(
    graph: GraphBuilder, x_unit: str, columns: Sequence[NumericColumn | ValueColumn]
) -> str:
    """Nodes for the numbers of the columns, `(N, K)`, a missing one far below every number."""
    x = graph.op("Gather", x_unit, graph.const([c.index for c in columns]), axis=1)
    above = graph.op("Max", x, graph.const(LEAST))
    return graph.op("Where", graph.op("IsNaN", x), graph.const(MISSING), above)


def emit_categories(graph: GraphBuilder, x_unit: str, columns: Sequence[CategoryColumn]) -> str:
    """Nodes for `CategoryColumn.cells`, `(N, K)` int32: one look-up in the joined tables."""
    sizes = np.array([len(c.table) - 3 for c in columns], dtype=np.float32)
    x = graph.op("Gather", x_unit, graph.const([c.index for c in columns]), axis=1)
    unseen = graph.const(np.float32(-1))
    near = graph.op("Min", graph.op("Max", x, unseen), graph.const(sizes))
    place = graph.op(
        "Where", graph.op("IsNaN", x), graph.const(sizes + 1), near
    )  # one is added below
    whole = graph.op(
        "Cast", graph.op("Add", place, graph.const(np.float32(1))), to=onnx.TensorProto.INT64
    )
    return emit_tables(graph, whole, [c.table for c in columns])


def emit_tables(graph: GraphBuilder, places: str, tables: Sequence[IntArray]) -> str:
    """`(N, K)` int32: what the table of each column holds at the int64 places `(N, K)`."""
    start = np.cumsum([0, *(len(table) for table in tables[:-1])]).astype(np.int64)
    index = graph.op("Add", places, graph.const(start))
    return graph.op("Gather", graph.const(np.concatenate(tables)), index)


def _known(x: FloatArray) -> npt.NDArray[np.float32]:
    """Numbers `(N,)` as float32, NaN far below every number."""
    known: npt.NDArray[np.float32] = np.where(
        np.isnan(x), MISSING, np.maximum(x.astype(np.float32), LEAST)
    )
    return known


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
