"""Over-dispersion of the traffic: how much more its counts vary than those of independent requests.

Requests in bursts or sessions are not exchangeable, and a bet that assumes they are wins with every
burst. A bet sums ln tau over requests; phi is the variance of its mean between blocks of traffic,
divided by the variance for independent requests. Successive blocks are compared, so that a drift,
which lasts, is not mistaken for dispersion, which recurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from monitoring.evidence.bets import FloatArray, IntArray

SCALES = (32, 256, 2048)  # requests in a block, at least: bursts are seen from twice their length
MEMORY = 400.0  # blocks, after which the past fades
LEAST_PAIRS = 20  # of blocks, before their phi counts: few pairs may all be jumps
SURE = 2.0  # standard errors that phi is lowered by
MOST = 12.0  # times phi so far, beyond which a gap between two blocks is a jump and counts as this
TINY = 1e-12


@dataclass
class _Scale:
    """Blocks of one length: the open one, the one before, and what the pairs so far gave."""

    open: IntArray  # (G,)
    before: IntArray | None
    pooled: FloatArray  # (G,) requests of the blocks so far
    pairs: float
    gaps: FloatArray  # (S,) squared, in variances of a request, summed over pairs


class ScaleState(msgspec.Struct, frozen=True):
    """The state of the blocks of one length; G cells, S rows."""

    open: list[int]  # (G,)
    before: list[int] | None  # (G,)
    pooled: list[float]  # (G,)
    pairs: float
    gaps: list[float]  # (S,)


class DispersionState(msgspec.Struct, frozen=True):
    """The state of a `Dispersion`."""

    scales: list[ScaleState]


class Dispersion:
    """phi of every row of values of a channel, from counts as they arrive.

    For blocks k-1 and k of m requests each, with l the values of a row and v its variance over all
    requests of the blocks so far, (mean_k l - mean_(k-1) l)^2 m / 2 is v times phi in the mean. phi
    is the mean over pairs divided by v, lowered by two standard errors, / (1 + 2 sqrt(3 / pairs))
    (3: squares of successive differences overlap), and the largest of three block lengths, at least
    1. It is 1 until there are 20 pairs. A gap beyond twelve times what phi so far explains is a
    jump, such as a drift that begins, and counts as that much.

    Args:
        rows: (S, G) float64, what a request in each cell is worth.

    References:
        McCullagh & Nelder (1989), *Generalized Linear Models*, section 4.5 (phi by the sum of
        squares); Kish (1965), *Survey Sampling* (the design effect of clusters).

    >>> rng = np.random.default_rng(0)
    >>> calm, bursts = (Dispersion(np.eye(2)) for _ in range(2))
    >>> for _ in range(400):
    ...     _ = calm.add(rng.multinomial(64, [0.5, 0.5]))
    ...     _ = bursts.add(8 * rng.multinomial(8, [0.5, 0.5]))  # every request comes eight times
    >>> bool((calm.phi() < 1.1).all()), bool((abs(bursts.phi() - 8) < 2).all())
    (True, True)
    """

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows
        self._moments = np.concatenate([rows, rows**2])
        none = np.zeros(rows.shape[1])
        self._scales = [
            _Scale(none.astype(np.int64), None, none.copy(), 0.0, np.zeros(len(rows)))
            for _ in SCALES
        ]
        self._phi = np.ones(len(rows))

    def add(self, counts: IntArray) -> bool:
        """Add the counts (G,) of one interval; returns whether phi was estimated again."""
        anew = False
        for length, scale in zip(SCALES, self._scales, strict=True):
            scale.open = scale.open + counts
            if scale.open.sum() >= length:
                anew = self._close(scale) or anew
        if anew:
            self._phi = self._estimate()
        return anew

    def phi(self) -> FloatArray:
        """(S,) float64 >= 1."""
        return self._phi

    def _close(self, scale: _Scale) -> bool:
        """End the open block; returns whether it could be compared with an earlier one."""
        block, before = scale.open, scale.before
        scale.open, scale.before = np.zeros_like(block), block
        scale.pooled = scale.pooled + block
        if before is None:
            return False
        m_one, m_other = before.sum(), block.sum()
        both = (before + block) / (m_one + m_other)
        gap = self._rows @ (before / m_one - block / m_other)
        spread = np.maximum(self._variances(scale.pooled), self._variances(both))
        most = MOST * self._plain(scale) * spread
        scale.gaps = scale.gaps + np.minimum(gap * gap / (1 / m_one + 1 / m_other), most)
        scale.pairs += 1
        if scale.pairs > MEMORY:
            fade = MEMORY / scale.pairs
            scale.pooled, scale.gaps, scale.pairs = scale.pooled * fade, scale.gaps * fade, MEMORY
        return True

    def _variances(self, counts: FloatArray) -> FloatArray:
        """Variance (S,) of the rows over requests with such counts (G,)."""
        means, squares = (self._moments @ (counts / counts.sum())).reshape(2, -1)
        result: FloatArray = np.maximum(squares - means * means, TINY)
        return result

    def _plain(self, scale: _Scale) -> FloatArray:
        """phi (S,) >= 1 of one block length as it was seen."""
        if not scale.pairs:
            return np.ones(len(self._rows))
        seen: FloatArray = scale.gaps / scale.pairs / self._variances(scale.pooled)
        return np.maximum(seen, 1.0)

    def _estimate(self) -> FloatArray:
        """phi (S,) >= 1: the largest of the block lengths, each lowered by its error."""
        phi = np.ones(len(self._rows))
        for scale in self._scales:
            if scale.pairs >= LEAST_PAIRS:
                lowered = self._plain(scale) / (1 + SURE * (3 / scale.pairs) ** 0.5)
                phi = np.maximum(phi, lowered)
        return phi

    def snapshot(self) -> DispersionState:
        """Return the state as a record."""
        scales = [
            ScaleState(
                scale.open.tolist(),
                None if scale.before is None else scale.before.tolist(),
                scale.pooled.tolist(),
                scale.pairs,
                scale.gaps.tolist(),
            )
            for scale in self._scales
        ]
        return DispersionState(scales)

    def load(self, state: DispersionState) -> None:
        """Take over a snapshot of a channel with the same cells and rows.

        Raises:
            ValueError: its arrays do not fit.
        """
        rows, cells = self._rows.shape
        self._scales = [
            _Scale(
                vector(scale.open, cells).astype(np.int64),
                None if scale.before is None else vector(scale.before, cells).astype(np.int64),
                vector(scale.pooled, cells),
                scale.pairs,
                vector(scale.gaps, rows),
            )
            for _, scale in zip(SCALES, state.scales, strict=True)
        ]
        self._phi = self._estimate()


def vector(values: Sequence[float], length: int) -> FloatArray:
    """Return a float64 vector of the length that a state needs. Raises ValueError."""
    result = np.array(values, dtype=np.float64)
    if result.shape != (length,):
        raise ValueError(f"expected {length} numbers, got shape {result.shape}")
    return result
