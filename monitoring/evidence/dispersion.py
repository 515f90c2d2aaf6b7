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
LEAST_PAIRS = 30  # of blocks, before their phi counts: few pairs may all be jumps
SURE = 5.0  # standard errors above 1 before phi counts as above 1
LEAST = 0.01  # ratios below are counted as this
# Of ln max(chi2_1, LEAST), by quadrature; successive differences overlap, which adds 13 %.
LN_MEAN, LN_SPREAD = -1.11087, 1.79094 * 1.134


@dataclass
class _Scale:
    """Blocks of one length: the open one, the one before, and what the pairs so far gave."""

    open: IntArray  # (G,)
    before: IntArray | None
    pairs: float
    ln_ratios: FloatArray  # (J,), summed over pairs


class ScaleState(msgspec.Struct, frozen=True):
    """The state of the blocks of one length; G cells, J bets."""

    open: list[int]  # (G,)
    before: list[int] | None  # (G,)
    pairs: float
    ln_ratios: list[float]  # (J,)


class DispersionState(msgspec.Struct, frozen=True):
    """The state of a `Dispersion`."""

    pooled: list[float]  # (G,)
    scales: list[ScaleState]


class Dispersion:
    """phi of every bet of a channel, from counts as they arrive.

    For blocks k-1 and k of m requests each, with l = ln tau_j and v_j its variance over requests,
    (mean_k l - mean_(k-1) l)^2 / (2 v_j / m) is about chi-square of one degree of freedom times
    phi_j. phi_j is the geometric mean of the ratios over that of chi-square, the largest of
    three block lengths; a few jumps (a drift begins, a drift ends) hardly move a geometric
    mean. It is 1 until there are 30 pairs and it lies above 1 by 5 standard errors.

    Args:
        ln_tau: (J, G) float64, log tilts of the bets.
        alpha: (G,) float64 reference weights, for the first estimate of v.

    References:
        McCullagh & Nelder (1989), *Generalized Linear Models*, section 4.5 (phi by the sum of
        squares); Kish (1965), *Survey Sampling* (the design effect of clusters).

    >>> rng = np.random.default_rng(0)
    >>> tau = np.array([[1.5, 0.5], [0.5, 1.5]])
    >>> calm, bursts = (Dispersion(np.log(tau), np.array([50.0, 50.0])) for _ in range(2))
    >>> for _ in range(400):
    ...     _ = calm.add(rng.multinomial(64, [0.5, 0.5]))
    ...     _ = bursts.add(8 * rng.multinomial(8, [0.5, 0.5]))  # every request comes eight times
    >>> calm.phi().tolist(), bool((abs(bursts.phi() - 8) < 4).all())
    ([1.0, 1.0], True)
    """

    def __init__(self, ln_tau: FloatArray, alpha: FloatArray) -> None:
        self._ln_tau = ln_tau
        self._moments = np.concatenate([ln_tau, ln_tau**2])
        self._pooled = alpha.copy()
        empty = np.zeros(alpha.size, dtype=np.int64)
        self._scales = [_Scale(empty.copy(), None, 0.0, np.zeros(len(ln_tau))) for _ in SCALES]
        self._phi = np.ones(len(ln_tau))

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
        """(J,) float64 >= 1."""
        return self._phi

    def _close(self, scale: _Scale) -> bool:
        """End the open block; returns whether it could be compared with an earlier one."""
        block, before = scale.open, scale.before
        scale.open, scale.before = np.zeros_like(block), block
        if scale is self._scales[0]:
            self._pooled = self._pooled * (1 - 1 / MEMORY) + block
        if before is None:
            return False
        scale.ln_ratios += np.log(np.maximum(self._ratios(before, block), LEAST)) - LN_MEAN
        scale.pairs += 1
        if scale.pairs > MEMORY:
            scale.ln_ratios *= MEMORY / scale.pairs
            scale.pairs = MEMORY
        return True

    def _ratios(self, one: IntArray, other: IntArray) -> FloatArray:
        """Squared difference of the means of ln tau over its variance without bursts, (J,)."""
        m_one, m_other = one.sum(), other.sum()
        both, bets = one + other, len(self._ln_tau)
        shares = [one / m_one - other / m_other, self._pooled / self._pooled.sum()]
        moments = self._moments @ np.column_stack([*shares, both / (m_one + m_other)])
        gap, means, squares = moments[:bets, 0], moments[:bets, 1:], moments[bets:, 1:]
        # In a drift the pooled variance is of the past: the larger one never overstates phi.
        spread = np.maximum((squares - means * means).max(axis=1), 1e-12)
        ratios: FloatArray = gap * gap / (spread * (1 / m_one + 1 / m_other))
        return ratios

    def _estimate(self) -> FloatArray:
        phi = np.ones(len(self._ln_tau))
        for scale in self._scales:
            if (
                scale.pairs >= LEAST_PAIRS
                and scale.ln_ratios.max() > SURE * LN_SPREAD * scale.pairs**0.5
            ):
                ln_phi = scale.ln_ratios / scale.pairs
                sure = ln_phi > SURE * LN_SPREAD / scale.pairs**0.5
                phi = np.where(sure, np.maximum(phi, np.exp(ln_phi)), phi)
        return phi

    def snapshot(self) -> DispersionState:
        """Return the state as a record."""
        scales = [
            ScaleState(
                scale.open.tolist(),
                None if scale.before is None else scale.before.tolist(),
                scale.pairs,
                scale.ln_ratios.tolist(),
            )
            for scale in self._scales
        ]
        return DispersionState(self._pooled.tolist(), scales)

    def load(self, state: DispersionState) -> None:
        """Take over a snapshot of a channel with the same cells and bets.

        Raises:
            ValueError: its arrays do not fit.
        """
        bets, cells = self._ln_tau.shape
        self._pooled = vector(state.pooled, cells)
        self._scales = [
            _Scale(
                vector(scale.open, cells).astype(np.int64),
                None if scale.before is None else vector(scale.before, cells).astype(np.int64),
                scale.pairs,
                vector(scale.ln_ratios, bets),
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
