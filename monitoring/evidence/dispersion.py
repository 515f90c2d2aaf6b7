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
    phi: FloatArray  # (S,) >= 1, as they say


class ScaleState(msgspec.Struct, frozen=True):
    """The state of the blocks of one length; G cells, S rows."""

    open: list[int]  # (G,)
    before: list[int] | None  # (G,)
    pooled: list[float]  # (G,)
    pairs: float
    gaps: list[float]  # (S,)
    phi: list[float]  # (S,)


class DispersionState(msgspec.Struct, frozen=True):
    """The state of a `Dispersion`."""

    scales: list[ScaleState]


class _Rows:
    """Values of a request in each cell: the rows (S, G), centred, and their moments."""

    def __init__(self, rows: FloatArray, weights: FloatArray) -> None:
        rows = rows - (rows @ weights)[:, None]
        self.variances: FloatArray = rows**2 @ weights
        self.fourth: FloatArray = rows**4 @ weights
        self._moments = np.concatenate([rows, rows**2])

    def moments(self, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sums of the values and of their squares (S, k), weighed by shares (G, k)."""
        means, squares = (self._moments @ shares).reshape(2, -1, shares.shape[1])
        return means, squares


class _Indicators:
    """The same for the G indicators of the cells, x_g = [cell g] - w_g, without their table."""

    def __init__(self, weights: FloatArray) -> None:
        self._weights = w = weights
        self.variances: FloatArray = w * (1 - w)
        self.fourth: FloatArray = w * (1 - w) ** 4 + (1 - w) * w**4

    def moments(self, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sums of the values and of their squares (G, k), weighed by shares (G, k)."""
        w, total = self._weights[:, None], shares.sum(axis=0)
        return shares - w * total, (1 - 2 * w) * shares + w**2 * total


class Dispersion:
    """phi of every row of values of a channel, from counts as they arrive.

    For blocks k-1 and k of m requests each, with l the values of a row and v its variance over all
    requests of the blocks so far, (mean_k l - mean_(k-1) l)^2 m / 2 is v times phi in the mean. phi
    is the mean over pairs divided by v, lowered by two standard errors of it, a division by
    1 + 2 sqrt((3 + kurtosis / m) / pairs) (squares of successive differences overlap; the excess
    kurtosis of l is large where few requests matter), and the largest of three block lengths, at
    least 1. It is 1 until there are 20 pairs. A gap beyond twelve times what phi so far explains is
    a jump, such as a drift that begins, and counts as that much.

    Args:
        rows: (S, G) float64, what a request in each cell is worth; None: the indicators of the G
            cells, which take G numbers and not G^2.
        alpha: (G,) float64 reference weights, for the kurtosis.

    References:
        McCullagh & Nelder (1989), *Generalized Linear Models*, section 4.5 (phi by the sum of
        squares); Kish (1965), *Survey Sampling* (the design effect of clusters).

    >>> rng = np.random.default_rng(0)
    >>> calm, bursts = (Dispersion(np.eye(2), np.ones(2)) for _ in range(2))
    >>> for _ in range(400):
    ...     _ = calm.add(rng.multinomial(64, [0.5, 0.5]))
    ...     _ = bursts.add(8 * rng.multinomial(8, [0.5, 0.5]))  # every request comes eight times
    >>> bool((calm.phi() < 1.1).all()), bool((abs(bursts.phi() - 8) < 2).all())
    (True, True)
    """

    def __init__(self, rows: FloatArray | None, alpha: FloatArray) -> None:
        self._weights = weights = alpha / alpha.sum()
        self._worth: _Rows | _Indicators
        self._worth = _Indicators(weights) if rows is None else _Rows(rows, weights)
        self._variances = np.maximum(self._worth.variances, TINY)
        self._kurtosis = self._worth.fourth / self._variances**2 - 3
        s, g = len(self._variances), len(alpha)
        self._scales = [
            _Scale(np.zeros(g, np.int64), None, np.zeros(g), 0.0, np.zeros(s), np.ones(s))
            for _ in SCALES
        ]
        self._phi = np.ones(s)

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
        shares = [scale.pooled / scale.pooled.sum(), both, before / m_one - block / m_other]
        means, squares = self._worth.moments(np.column_stack(shares))
        spread = np.maximum(squares[:, :2] - means[:, :2] ** 2, TINY)  # of all blocks, of the two
        gaps = means[:, 2] ** 2 / (1 / m_one + 1 / m_other)
        scale.gaps = scale.gaps + np.minimum(gaps, MOST * scale.phi * spread.max(axis=1))
        scale.pairs += 1
        scale.phi = np.maximum(scale.gaps / scale.pairs / spread[:, 0], 1.0)
        if scale.pairs > MEMORY:
            fade = MEMORY / scale.pairs
            scale.pooled, scale.gaps, scale.pairs = scale.pooled * fade, scale.gaps * fade, MEMORY
        return True

    def _estimate(self) -> FloatArray:
        """phi (S,) >= 1: the largest of the block lengths, each lowered by its error."""
        phi = np.ones(len(self._variances))
        for scale in self._scales:
            if scale.pairs >= LEAST_PAIRS:
                length = scale.pooled.sum() / (scale.pairs + 1)
                error = np.sqrt((3 + np.maximum(self._kurtosis, 0) / length) / scale.pairs)
                lowered = scale.phi / (1 + SURE * error)
                phi = np.maximum(phi, lowered)
        return phi

    def adopt(self, other: Dispersion, rows: IntArray) -> None:
        """Take over phi from the same channel with another reference: row s from its row rows[s].

        What a request in a cell is worth has changed with the reference: phi holds on, not the gaps
        that it was measured from, and the next block is compared with one of these rows.
        """
        for scale, theirs in zip(self._scales, other._scales, strict=True):
            scale.pooled = self._weights * theirs.pooled.sum()
            scale.pairs, scale.phi = theirs.pairs, theirs.phi[rows]
            scale.gaps = scale.phi * scale.pairs * self._variances
        self._phi = self._estimate()

    def snapshot(self) -> DispersionState:
        """Return the state as a record."""
        scales = [
            ScaleState(
                scale.open.tolist(),
                None if scale.before is None else scale.before.tolist(),
                scale.pooled.tolist(),
                scale.pairs,
                scale.gaps.tolist(),
                scale.phi.tolist(),
            )
            for scale in self._scales
        ]
        return DispersionState(scales)

    def load(self, state: DispersionState) -> None:
        """Take over a snapshot of a channel with the same cells and rows.

        Raises:
            ValueError: its arrays do not fit.
        """
        rows, cells = len(self._variances), len(self._weights)
        self._scales = [
            _Scale(
                vector(scale.open, cells).astype(np.int64),
                None if scale.before is None else vector(scale.before, cells).astype(np.int64),
                vector(scale.pooled, cells),
                scale.pairs,
                vector(scale.gaps, rows),
                vector(scale.phi, rows),
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
