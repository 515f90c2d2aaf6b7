"""Rank cells: where the held-out scores cut the number line, and what each cell weighs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray

STEADY = 1e-6  # scores that differ by less are the same score, rounded differently
TAIL_RANKS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
UPPER_RANKS = (*TAIL_RANKS, *np.linspace(0.12, 0.5, 24)[:-1])
RANKS = (*UPPER_RANKS, 0.5, *(1 - u for u in reversed(UPPER_RANKS)))


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


def class_weights(cells: IntArray, count: int) -> FloatArray:
    """Reference weights `(G,)` of classes or categories: counts and one row spread over all."""
    return np.bincount(cells, minlength=count) + 1.0 / count
