"""Rank cells: where the held-out scores cut the number line, and what each cell weighs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray

STEADY = 1e-6  # scores that differ by less are the same score, rounded differently
TAIL_RANKS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
UPPER_RANKS = (*TAIL_RANKS, *np.linspace(0.12, 0.5, 24)[:-1])
RANKS = (*UPPER_RANKS, 0.5, *(1 - u for u in reversed(UPPER_RANKS)))
FEW_UPPER_RANKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
FEW_RANKS = (
    *FEW_UPPER_RANKS,
    *(1 - u for u in reversed(FEW_UPPER_RANKS)),
)  # of one class: 25 cells


def rank_edges(scores: FloatArray, ranks: Sequence[float] = RANKS) -> npt.NDArray[np.float32]:
    """Falling cell edges at upper-tail `ranks` (71) of held-out scores `(n,)`; ties are merged.

    The edge at rank u is the i-th largest score, i = round(u (n + 1)); the cell of a score s is
    the number of edges above it.
    """
    falling = np.sort(scores.astype(np.float32))[::-1]
    index = np.unique(np.rint(np.asarray(ranks) * (len(falling) + 1)).astype(int))
    index = index[(index >= 1) & (index <= len(falling))]
    return np.unique(falling[index - 1])[::-1].copy()


def rank_cells(scores: FloatArray, edges: FloatArray) -> IntArray:
    """Cell `(N,)` of each score: how many of the falling `edges` lie above it."""
    above: IntArray = (edges[None, :] > scores.astype(np.float32)[:, None]).sum(axis=1)
    return above


def steady(edges: npt.NDArray[np.float32], *, least: float = STEADY) -> npt.NDArray[np.float32]:
    """Falling edges moved a hair down, so that rounding never parts equal scores.

    Many rows of a table or of a forest have the very same score, and it is often an edge; one run
    may round it up and the next one down. Edges closer than two hairs are merged, so that every
    cell keeps a score.

    Args:
        edges: `(E,)`, falling.
        least: the smallest hair; 0 where scores are small numbers that are not computed.
    """
    hair = np.maximum(least, STEADY * np.abs(edges)).astype(np.float32)
    kept: list[int] = []
    for index, edge in enumerate(edges):
        if not kept or edge < edges[kept[-1]] - 2 * hair[kept[-1]]:
            kept.append(index)
    moved: npt.NDArray[np.float32] = edges[kept] - hair[kept]
    return moved


def score_weights(scores: FloatArray, edges: FloatArray) -> FloatArray:
    """Reference weights `(G,)` of the cells: counts, plus the (n+1)-th gap in the lowest."""
    weights = np.bincount(rank_cells(scores, edges), minlength=len(edges) + 1).astype(np.float64)
    weights[-1] += 1
    return weights


def split_edges(
    edges: npt.NDArray[np.float32], cells: Sequence[int]
) -> list[npt.NDArray[np.float32]]:
    """The falling edges of each group of a channel, of all that are kept one after the other.

    A group of k cells has k - 1 edges.

    Args:
        edges: `(sum of (k - 1),)`, as "<channel>/edges" of a reference holds them.
        cells: k of each group; empty: the channel is one group.

    >>> split_edges(np.float32([3, 1, 2]), (3, 1, 2))
    [array([3., 1.], dtype=float32), array([], dtype=float32), array([2.], dtype=float32)]
    """
    if not cells:
        return [edges]
    assert len(edges) == sum(cells) - len(cells), "a group has an edge less than cells"
    return np.split(edges, np.cumsum([count - 1 for count in cells])[:-1])


def cells_in_groups(scores: FloatArray, groups: IntArray, edges: Sequence[FloatArray]) -> IntArray:
    """Cell `(N,)` of each score within a channel whose groups lie one after the other.

    Args:
        scores: `(N,)`.
        groups: `(N,)` the group of each row.
        edges: falling, of each group.

    >>> edges = split_edges(np.float32([3, 1]), (3, 1))
    >>> cells_in_groups(np.array([2.5, 0.5]), np.array([0, 1]), edges)
    array([1, 3])
    """
    first = np.cumsum([0, *(len(falling) + 1 for falling in edges)])
    cells = first[groups]
    for group, falling in enumerate(edges):
        own = groups == group
        cells[own] += rank_cells(scores[own], falling)
    return cells


def class_weights(cells: IntArray, count: int) -> FloatArray:
    """Reference weights `(G,)` of classes or categories: counts and one row spread over all."""
    return np.bincount(cells, minlength=count) + 1.0 / count
