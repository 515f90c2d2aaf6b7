"""Tilts: the likelihood ratios of a channel's bets over its cells, and what counts win by them.

Bets on ranks differ in every cell and are a table. A bet on the share of one class differs in that
class alone: two numbers say it. As a table, the bets on C classes would take 5 C^2 numbers, 4 GB
for 10,000 classes, and five times that for all copies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import IntArray

FloatArray = npt.NDArray[np.float64]


class Tilts(Protocol):
    """J bets over G cells in K groups: tau_jg > 0, of mean 1 over the reference of every group."""

    def __len__(self) -> int:
        """J."""

    def row(self, bet: int) -> FloatArray:
        """(G,) tau of one bet."""

    def lag(self, shares: FloatArray) -> Tilts:
        """The bets of R copies, R J of them: those of urns that hold a share of drifted requests.

        Args:
            shares: (R, K) in [0, 1), of each copy in each group; see `lagged_tilts`.
        """

    def ln_odds(self, alpha: FloatArray, drawn: FloatArray, starts: IntArray) -> FloatArray:
        """(J,) sum_g D_g ln tau_jg - sum_k m_k ln (z_jk / A_k), z_jk = sum_g alpha_g tau_jg.

        Args:
            alpha: (G,) weights of the urn.
            drawn: (G,) whole counts D >= 0, m_k of them in group k.
            starts: (K,) first cell of every group, rising from 0.
        """


@dataclass(frozen=True, eq=False)
class TableTilts:
    """Bets that differ in every cell: tau (J, G) > 0, `sizes` (K,) cells in the groups."""

    tau: FloatArray
    sizes: tuple[int, ...]
    ln_tau: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Take the logarithms once."""
        object.__setattr__(self, "ln_tau", np.log(self.tau))

    def __len__(self) -> int:
        """J."""
        return len(self.tau)

    def row(self, bet: int) -> FloatArray:
        """(G,) tau of one bet."""
        row: FloatArray = self.tau[bet]
        return row

    def lag(self, shares: FloatArray) -> TableTilts:
        """The bets of all copies, one copy after the other."""
        cells = np.repeat(shares, self.sizes, axis=1)
        return TableTilts(np.concatenate([lagged_tilts(self.tau, s) for s in cells]), self.sizes)

    def ln_odds(self, alpha: FloatArray, drawn: FloatArray, starts: IntArray) -> FloatArray:
        """See `Tilts.ln_odds`."""
        result: FloatArray = self.ln_tau @ drawn
        came = np.add.reduceat(drawn, starts)
        ends = [*starts[1:].tolist(), alpha.size]
        for group in came.nonzero()[0].tolist():
            cells = slice(int(starts[group]), ends[group])
            own = alpha[cells]
            result -= came[group] * np.log(self.tau[:, cells] @ own / own.sum())
        return result


@dataclass(frozen=True, eq=False)
class ShareTilts:
    """Bets on the share of one cell each, of one group of cells.

    Args:
        cells: number of cells G.
        cell: (J,) which one each bet is on.
        inside: (J,) tau of that cell, > 0.
        outside: (J,) tau of all others, > 0.
    """

    cells: int
    cell: IntArray
    inside: FloatArray
    outside: FloatArray

    def __len__(self) -> int:
        """J."""
        return len(self.cell)

    def row(self, bet: int) -> FloatArray:
        """(G,) tau of one bet."""
        row = np.full(self.cells, self.outside[bet])
        row[self.cell[bet]] = self.inside[bet]
        return row

    def lag(self, shares: FloatArray) -> ShareTilts:
        """The bets of all copies, one copy after the other."""
        inside, outside = (
            np.concatenate([lagged_tilts(tau, s[0]) for s in shares])
            for tau in (self.inside, self.outside)
        )
        return ShareTilts(self.cells, np.tile(self.cell, len(shares)), inside, outside)

    def ln_odds(self, alpha: FloatArray, drawn: FloatArray, starts: IntArray) -> FloatArray:
        """See `Tilts.ln_odds`."""
        assert len(starts) == 1, "bets on classes have one group"
        total, m, hits = alpha.sum(), drawn.sum(), drawn[self.cell]
        share = alpha[self.cell] / total
        mean = self.outside + share * (self.inside - self.outside)
        result: FloatArray = hits * np.log(self.inside) + (m - hits) * np.log(self.outside)
        result -= m * np.log(mean)
        return result


def lagged_tilts(tau: FloatArray, share: FloatArray | float) -> FloatArray:
    """Return the tilts of an urn that has taken in drifted requests already.

    Were a share s of the urn's content drawn from tau p and the rest from p, the urn would hold
    p (1 - s + s tau) and the next request would still follow tau p: relative to the urn it is
    tilted by tau / (1 - s + s tau). (The estimate of p in a density-ratio model: Qin 1998.)

    Args:
        tau: (..., G) float64 > 0 tilts.
        share: s in [0, 1), one or (G,); 0 gives tau itself.

    >>> lagged_tilts(np.array([[4.0, 0.5]]), 0.5).round(2).tolist()
    [[1.6, 0.67]]
    """
    assert np.min(share) >= 0
    assert np.max(share) < 1
    result: FloatArray = tau / (1 - share + share * tau)
    return result
