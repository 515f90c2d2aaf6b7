"""How unlikely a table's row is under a tree of its columns (Chow & Liu 1968)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import InputSchema
from monitoring.scoring.channels.table_cuts import choose_together, cut_column, find_bins
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import PlainAnswers, Tensors

SMOOTHING = 2.0  # rows that the share of a bin counts for beside those of its parent's bin
UNSEEN = 0.5  # rows that a bin counts for beside those that are in it


@dataclass(frozen=True)
class ChowLiu:
    """-log p of a row, p(x) = prod_j p(b_j | b_parent(j)) over the bins of T columns.

    The tree has the largest sum of mutual informations. Bins of values that training never showed
    (out of range, unseen, missing) have a small share, so p is never 0. Numbers and categories
    count together: an unlikely combination of usual values is unlikely.

    Args:
        columns: `(T,)` places in the row.
        cuts: `(T, E)` rising, filled up with NaN; the bin is the number of cuts at or below.
        strides: `(T, T)` float32: bins `(N, T)` @ strides + `starts` are places in `table`.
        starts: `(T,)`.
        table: `(P,)` -log p(b | parent's b), of one column after the other, in nats.
    """

    columns: IntArray
    cuts: npt.NDArray[np.float32]
    strides: npt.NDArray[np.float32]
    starts: npt.NDArray[np.float32]
    table: npt.NDArray[np.float32]
    name: str = "chow_liu"

    @classmethod
    def fit(cls, schema: InputSchema, x_unit: FloatArray) -> "ChowLiu | None":
        """From training rows `(R, D)` as `schema.to_unit` gives them; None without a row."""
        if len(x_unit) == 0:
            return None
        columns = choose_together(schema, x_unit)
        cuts = [cut_column(schema.columns[j], x_unit[:, j]) for j in columns]
        bins = np.stack(
            [find_bins(x_unit[:, j], c) for j, c in zip(columns, cuts, strict=True)], axis=1
        )
        sizes = np.array([len(c) + 1 for c in cuts])
        joint, first = _count_pairs(bins, sizes), np.cumsum([0, *sizes[:-1]])
        parents = grow_tree(_information(joint, first, len(bins)))
        width = max(map(len, cuts))
        padded = np.full((len(cuts), width), np.nan, dtype=np.float32)
        strides, starts, tables = np.eye(len(cuts), dtype=np.float32), [], []
        start = 0
        for j, parent in enumerate(parents):
            padded[j, : len(cuts[j])] = cuts[j]
            own = slice(first[j], first[j] + sizes[j])
            share = (np.diag(joint)[own] + UNSEEN) / (len(bins) + UNSEEN * sizes[j])
            p = share[None, :]
            if parent >= 0:
                strides[parent, j] = sizes[j]
                pairs = joint[first[parent] : first[parent] + sizes[parent], own]
                p = (pairs + SMOOTHING * share) / (pairs.sum(axis=1, keepdims=True) + SMOOTHING)
            starts.append(start)
            tables.append(-np.log(p).ravel())
            start += p.size
        return cls(
            np.array(columns),
            padded,
            strides,
            np.array(starts, dtype=np.float32),
            np.concatenate(tables).astype(np.float32),
        )

    def scores(self, rows: PlainAnswers) -> FloatArray:
        """`(N,)`, in nats, at least 0."""
        x = rows.x_unit[:, self.columns]
        bins = np.stack([find_bins(v, c) for v, c in zip(x.T, self.cuts, strict=True)], axis=1)
        places = (bins @ self.strides + self.starts).astype(np.int64)
        told: FloatArray = self.table[places].astype(np.float64).sum(axis=1)
        return told

    def emit(self, graph: GraphBuilder, tensors: Tensors) -> str:
        """`(N, 1)`."""
        x = graph.op("Gather", tensors.x_unit, graph.const(self.columns), axis=1)
        column = graph.op("Unsqueeze", x, graph.const([2]))
        passed = graph.op("GreaterOrEqual", column, graph.const(self.cuts))  # NaN passes none
        number = graph.op("Cast", passed, to=onnx.TensorProto.FLOAT)
        bins = graph.op("ReduceSum", number, graph.const([2]), keepdims=0)
        places = graph.op("Gemm", bins, graph.const(self.strides), graph.const(self.starts))
        whole = graph.op("Cast", places, to=onnx.TensorProto.INT32)
        told = graph.op("Gather", graph.const(self.table), whole)
        return graph.op("ReduceSum", told, graph.const([1]), keepdims=1)


def grow_tree(weights: FloatArray) -> list[int]:
    """The parent of each column in the forest of largest sum of weights `(T, T)`; -1: a root.

    Prim's method; a weight that is not above 0 joins nothing.

    >>> grow_tree(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
    [-1, 0, 1]
    """
    count = len(weights)
    parents = np.full(count, -1)
    best, near = np.zeros(count), np.full(count, -1)
    left = np.ones(count, dtype=bool)
    for _ in range(count):
        j = int(np.argmax(np.where(left, best, -1.0)))
        parents[j], left[j] = near[j], False
        closer = weights[j] > best
        best, near = np.where(closer, weights[j], best), np.where(closer, j, near)
    return [int(parent) for parent in parents]


def _count_pairs(bins: IntArray, sizes: IntArray) -> FloatArray:
    """How many rows are in bins a and b, `(sum of sizes, sum of sizes)`."""
    hot = np.zeros((len(bins), int(sizes.sum())), dtype=np.float32)
    places = bins + np.cumsum([0, *sizes[:-1]])
    hot[np.arange(len(bins))[:, None], places] = 1
    return (hot.T @ hot).astype(np.float64)


def _information(joint: FloatArray, first: IntArray, rows: int) -> FloatArray:
    """Mutual information `(T, T)` in nats of every two columns, less 1 / n a free parameter.

    That is the criterion of Akaike (1974): columns without a bond are seldom joined.
    """
    own = np.diag(joint)
    expected = np.outer(own, own) / max(rows, 1)
    hit = joint > 0
    terms = np.where(hit, joint * np.log(np.where(hit, joint / np.where(hit, expected, 1), 1)), 0)

    def by_pair(cells: FloatArray) -> FloatArray:
        summed: FloatArray = np.add.reduceat(np.add.reduceat(cells, first, axis=0), first, axis=1)
        return summed

    used = np.add.reduceat((own > 0).astype(np.float64), first)
    return by_pair(terms) / rows - np.outer(used - 1, used - 1) / rows
