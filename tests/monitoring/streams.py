"""Synthetic references and streams with a known truth, for the tests of the urn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import ChannelReference

TAIL = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02)
RANKS = np.concatenate([[0], TAIL, np.linspace(0.03, 0.97, 55), 1 - np.array(TAIL)[::-1], [1]])


class Score:
    """A score channel: a reference of n scores, cut into 72 upper-tail rank cells."""

    def __init__(self, name: str, scores: npt.NDArray[np.float64]) -> None:
        n = len(scores)
        ranks = np.round(RANKS * (n + 1)).astype(int)
        falling = np.concatenate([[np.inf], np.sort(scores)[::-1], [-np.inf]])
        self.edges = falling[ranks[1:-1]]
        alpha = np.diff(ranks).astype(np.float64)
        labels = tuple(f"{cell:02}" for cell in range(len(ranks) - 1))
        self.reference = ChannelReference(name, "score", alpha, labels)

    def counts(self, scores: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
        """Return (P, G) cell counts of consecutive pieces of `size` scores."""
        cells = np.searchsorted(-self.edges, -scores, side="left")
        return pieces(cells, size, len(self.reference.alpha))


def classes(name: str, drawn: npt.NDArray[np.int64], n_classes: int) -> ChannelReference:
    """Return a class channel from n drawn classes, one prior observation shared by all."""
    alpha: npt.NDArray[np.float64] = np.bincount(drawn, minlength=n_classes) + np.float64(
        1 / n_classes
    )
    return ChannelReference(name, "class", alpha, tuple(str(k) for k in range(n_classes)))


def pieces(cells: npt.NDArray[np.int64], size: int, n_cells: int) -> npt.NDArray[np.int64]:
    """Return (P, G) counts of consecutive pieces of cells, the last one perhaps smaller."""
    row = np.arange(len(cells)) // size
    flat = np.bincount(row * n_cells + cells, minlength=(row[-1] + 1) * n_cells)
    return flat.reshape(-1, n_cells).astype(np.int64)
