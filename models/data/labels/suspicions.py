"""Columns of a table that look like row numbers, like identifiers, or like the label itself."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.data.raw import RawColumn
from models.statistics.arrays import IntArray

FEWEST_ROWS = 40  # of a table that is looked at
FEWEST_DIFFERENT = 100  # rows from which whole numbers that never repeat are remarkable
MOST_ROWS = 20_000  # that a rule is fitted and judged on
GIVEN_AWAY = 0.99  # share of rows for which a column alone tells the label
OF_MAJORITY = 0.2  # its errors are at most so large a part of those of the commonest label
MOST_DEPTH = 8
MOST_DIFFERENT = 100  # values, each of which has a label of its own in a rule

Values = npt.NDArray[np.float32]
Fit = Callable[[Values, IntArray], tuple[Values, IntArray]]  # edges and the leaves between them


def note_suspicions(columns: Sequence[RawColumn], y: IntArray) -> list[str]:
    """Sentences on columns that a model should perhaps not see; a warning, never a refusal.

    Args:
        columns: of the training part, each `(N,)`.
        y: `(N,)` labels.
    """
    if len(y) < FEWEST_ROWS:
        return []
    notes = [sentence for column in columns if (sentence := _note_identifier(column))]
    order = np.random.default_rng(0).permutation(len(y))[:MOST_ROWS]
    majority = float(np.bincount(y[order]).max() / len(order))
    for column in columns:
        share = judge_column(column.values[order], y[order])
        if share >= GIVEN_AWAY and 1 - share <= OF_MAJORITY * (1 - majority):
            notes.append(
                f"column {column.name!r} alone tells the label for {_percent(share)} of the rows "
                f"that its rule was not fitted on (always the commonest label: "
                f"{_percent(majority)}): is it made from the label, or known only after it? Then "
                "name it in --ignore"
            )
    return notes


def judge_column(values: Values, y: IntArray) -> float:
    """The share of rows that a rule on one column gets right, fitted on the other half of them.

    The rule is a classification tree of few leaves (Breiman et al., 1984: Gini), missing values
    one of them; of few different values also the commonest label of each, if that is better.

    Args:
        values: float32 `(N,)` in an order that says nothing, NaN where missing.
        y: int64 `(N,)` labels.
    """
    assert values.shape == y.shape
    different = np.unique(values)
    if len(different) > MOST_DIFFERENT:
        return _judge(_fit_tree, values, y)
    places = np.searchsorted(different, values).astype(np.float32)
    return max(_judge(_fit_tree, values, y), _judge(_fit_table, places, y))


def _judge(fit: Fit, x: Values, y: IntArray) -> float:
    half, right = len(y) // 2, 0
    for fitted, judged in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        edges, leaves = fit(x[fitted], y[fitted])
        right += int((_apply_rule(x[judged], edges, leaves) == y[judged]).sum())
    return right / len(y)


def _note_identifier(column: RawColumn) -> str:
    """What is suspicious of whole numbers that never repeat; empty where nothing is."""
    values = column.values
    if column.texts is not None or len(values) < FEWEST_ROWS or np.isnan(values).any():
        return ""
    ordered = np.sort(values).astype(np.float64)
    if (ordered != np.floor(ordered)).any() or (np.diff(ordered) == 0).any():
        return ""
    low, high = ordered[0], ordered[-1]
    if high - low + 1 == len(values):
        return (
            f"column {column.name!r} counts the rows ({low:.0f} to {high:.0f}): a row number tells "
            "the order of the file, which a client's row does not have; if it is one, name it in "
            "--ignore"
        )
    steps = np.diff(values)
    rises = bool((steps > 0).all() or (steps < 0).all())
    if rises or len(values) >= FEWEST_DIFFERENT:
        reason = "rises or falls from row to row" if rises else "is another one in every row"
        return (
            f"column {column.name!r} is a whole number that {reason}, as an identifier or a time "
            "is: a model learns nothing from it of rows to come; if it is one, name it in --ignore"
        )
    return ""


def _fit_table(places: Values, y: IntArray) -> tuple[Values, IntArray]:
    """The commonest label of each place, 0 to the greatest; of those without rows, of all."""
    count, classes = MOST_DIFFERENT, int(y.max()) + 1
    table = np.zeros((count, classes), dtype=np.int64)
    np.add.at(table, (places.astype(np.int64), y), 1)
    table += np.bincount(y) * (table.sum(axis=1, keepdims=True) == 0)
    edges = np.arange(1, count, dtype=np.float32) - np.float32(0.5)
    return edges, np.append(table.argmax(axis=1), np.bincount(y).argmax())


def _fit_tree(values: Values, y: IntArray) -> tuple[Values, IntArray]:
    """Edges between the leaves, rising, and the label of each; the last label is of NaN."""
    there = ~np.isnan(values)
    classes = int(y.max()) + 1
    usual = int(np.bincount(y).argmax())
    of_missing = int(np.bincount(y[~there]).argmax()) if (~there).any() else usual
    order = np.argsort(values[there], kind="stable")
    ordered, labels = values[there][order], y[there][order]
    cuts: list[int] = []
    depth = min(math.ceil(math.log2(classes)) + 2, MOST_DEPTH)
    _split(ordered, np.eye(classes, dtype=np.int64)[labels].cumsum(axis=0), 0, depth, cuts)
    ends = [0, *sorted(cuts), len(labels)]
    leaves = [
        int(np.bincount(labels[a:b]).argmax()) if b > a else usual
        for a, b in itertools.pairwise(ends)
    ]
    edges = [(ordered[cut - 1] + ordered[cut]) / 2 for cut in ends[1:-1]]
    return np.array(edges, dtype=np.float32), np.array([*leaves, of_missing], dtype=np.int64)


def _split(ordered: Values, counts: IntArray, start: int, depth: int, cuts: list[int]) -> None:
    """Cut rows `start` to `start + len(ordered)`, sorted by value, where Gini falls most.

    `counts` `(n, K)` are the labels up to each row, from `start` on.
    """
    if depth == 0 or len(ordered) < 2 or np.count_nonzero(counts[-1]) < 2:
        return
    left, right = counts[:-1], counts[-1] - counts[:-1]
    sizes = np.arange(1, len(ordered))
    purity = (left**2).sum(axis=1) / sizes + (right**2).sum(axis=1) / (len(ordered) - sizes)
    purity[ordered[1:] == ordered[:-1]] = -1.0
    cut = int(purity.argmax()) + 1
    if purity[cut - 1] < 0:
        return
    cuts.append(start + cut)
    _split(ordered[:cut], counts[:cut], start, depth - 1, cuts)
    _split(ordered[cut:], counts[cut:] - counts[cut - 1], start + cut, depth - 1, cuts)


def _apply_rule(values: Values, edges: Values, leaves: IntArray) -> IntArray:
    places = np.searchsorted(edges, values, "right")
    labels: IntArray = leaves[np.where(np.isnan(values), len(leaves) - 1, places)]
    return labels


def _percent(share: float) -> str:
    return f"{math.floor(share * 1000) / 10:g} %"
