"""The urn of one channel: evidence against exchangeability from sums of counters.

A finite reference of n scores and the traffic after it are exchangeable while nothing drifts, so
the cells of the next m requests follow a Pólya urn filled with the reference. Each bet's
likelihood ratio against that urn is an e-value (mean 1 without drift, exactly, for every n).

Where a score or a column is counted within each predicted class there is an urn per class. Given
how many requests each class got, the urns are independent: their e-values are multiplied, and the
product is an e-value whatever the classes do.

Every bet is played several times. The exact copy bets against all that the urn holds, and so gets
used to a drift that begins slowly. A lagged copy takes the last L requests for drifted already: its
bet is that what comes is tau times what the urn held BEFORE them. All are weighed against the same
exact urn, so all are e-values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from monitoring.evidence.bets import ChannelReference, FloatArray, IntArray, tilts

LAGS = (1000, 5000, 20_000, 80_000)
GROWTH = 20  # the lagged tilts follow when the urn has absorbed a twentieth more
LEAST_GROWTH = 10
ONE_GROUP = np.zeros(1, dtype=np.int64)


def ln_e_values(
    alpha: FloatArray,
    increments: FloatArray,
    tau: FloatArray,
    ln_tau: FloatArray,
    starts: IntArray = ONE_GROUP,
) -> FloatArray:
    """Return the log e-value of every bet for one piece of counts.

    lnE_j = sum_g D_g ln tau_jg - m ln z_j + sum_g D_g ln alpha_g
            - sum_g [lnGamma(alpha_g + D_g) - lnGamma(alpha_g)] + lnGamma(A + m) - lnGamma(A)

    with z_j = sum_g alpha_g tau_jg, A = sum_g alpha_g, m = sum_g D_g: the tilted multinomial over
    the Dirichlet-multinomial, added up over the groups, each with its own m, z and A. The mean of
    E_j under the urn is exactly 1, whatever the numbers of requests of the groups are.

    Args:
        alpha: (G,) float64 weights of the urn; > 0 where D > 0.
        increments: (G,) float64 whole counts D >= 0.
        tau: (J, G) float64 > 0 tilts of the bets.
        ln_tau: (J, G) float64, their logarithms.
        starts: (K,) first cell of every group, rising from 0.

    Returns:
        (J,) float64, in nats.

    >>> alpha, tau = np.array([2.0, 2.0]), np.array([[1.5, 0.5]])
    >>> [round(float(np.exp(ln_e_values(alpha, d, tau, np.log(tau)))[0]), 2) for d in np.eye(2)]
    [1.5, 0.5]
    """
    assert tau.shape == ln_tau.shape == (tau.shape[0], alpha.size)
    assert increments.shape == alpha.shape
    hit = increments.nonzero()[0]
    drawn, weight = increments[hit], alpha[hit]
    totals, sizes = np.add.reduceat(alpha, starts), np.add.reduceat(increments, starts)
    urn = drawn @ np.log(weight) - (gammaln(weight + drawn) - gammaln(weight)).sum()
    urn += (gammaln(totals + sizes) - gammaln(totals)).sum()
    result: FloatArray = ln_tau @ increments + urn
    ends = [*starts[1:].tolist(), alpha.size]
    for group in sizes.nonzero()[0].tolist():
        cells = slice(int(starts[group]), ends[group])
        result -= sizes[group] * np.log(tau[:, cells] @ alpha[cells])
    return result


def lagged_tilts(tau: FloatArray, share: FloatArray | float) -> FloatArray:
    """Return the tilts of an urn that has taken in drifted requests already.

    Were a share s of the urn's content drawn from tau p and the rest from p, the urn would hold
    p (1 - s + s tau) and the next request would still follow tau p: relative to the urn it is
    tilted by tau / (1 - s + s tau). (The estimate of p in a density-ratio model: Qin 1998.)

    Args:
        tau: (J, G) float64 > 0 tilts.
        share: s in [0, 1), one or (G,); 0 gives tau itself.

    >>> lagged_tilts(np.array([[4.0, 0.5]]), 0.5).round(2).tolist()
    [[1.6, 0.67]]
    """
    assert np.min(share) >= 0
    assert np.max(share) < 1
    result: FloatArray = tau / (1 - share + share * tau)
    return result


class Urn:
    """The content of a channel's urns, and the bets of all copies against it.

    Copies whose lag reaches back beyond the first absorbed request are the same bet; it is weighed
    once for all of them.

    Args:
        reference: what the urns hold at first; the bets are fixed from it for good.
        lags: requests that each lagged copy takes for drifted already.

    >>> reference = ChannelReference("energy", "score", np.full(20, 5.0), ("",) * 20)
    >>> urn = Urn(reference, (100, 500))
    >>> urn.ln_e(np.eye(20, dtype=np.int64)[0]).shape  # the exact copy and two lagged ones
    (3, 46)
    """

    def __init__(self, reference: ChannelReference, lags: tuple[int, ...]) -> None:
        self.reference, self.lags = reference, lags
        self.bets, self.tau = tilts(reference)
        self.alpha: FloatArray = reference.alpha.copy()
        self._starts = np.array([span.start for span in reference.spans])
        self._held = np.add.reduceat(reference.alpha, self._starts)
        self._set_lagged(np.zeros(len(self._starts)))

    @property
    def copies(self) -> int:
        """The exact one and one per lag."""
        return 1 + len(self.lags)

    def ln_e(self, increments: IntArray) -> FloatArray:
        """Return the log e-values (copies, J) of one piece of counts (G,)."""
        drawn = increments.astype(np.float64)
        values = ln_e_values(self.alpha, drawn, self._tau, self._ln_tau, self._starts)
        result: FloatArray = values.reshape(-1, len(self.bets))[self._which]
        return result

    def absorb(self, increments: IntArray) -> None:
        """Put counts into the urn: alpha += D."""
        self.alpha += increments
        if self.lags:
            absorbed = np.add.reduceat(self.alpha, self._starts) - self._held
            grown = absorbed.sum() - self.lagged_at.sum()
            if grown >= max(LEAST_GROWTH, self.lagged_at.sum() / GROWTH):
                self._set_lagged(absorbed)

    def _set_lagged(self, absorbed: FloatArray) -> None:
        """Set the tilts of all copies for urns that have absorbed so many requests (K,)."""
        self.lagged_at = absorbed
        total = float(absorbed.sum())
        reach, self._which = np.unique(np.minimum([0, *self.lags], total), return_inverse=True)
        cells = np.diff([*self._starts.tolist(), self.alpha.size])
        shares = np.repeat(absorbed / (self._held + absorbed), cells)
        tau = [lagged_tilts(self.tau, shares * (r / total if total else 0.0)) for r in reach]
        self._tau = np.concatenate(tau)
        self._ln_tau = np.log(self._tau)

    def expected(self, came: npt.NDArray[np.float64]) -> FloatArray:
        """Return the shares (G,) that the urns expect, given how many of `came` each group got."""
        totals = np.add.reduceat(self.alpha, self._starts)
        got = np.add.reduceat(came, self._starts) if came.any() else totals
        cells = np.diff([*self._starts.tolist(), self.alpha.size])
        weights = self.alpha * np.repeat(got / totals, cells)
        shares: FloatArray = weights / weights.sum()
        return shares

    def load(self, alpha: FloatArray, lagged_at: FloatArray) -> None:
        """Take over the content (G,), and what each group (K,) had absorbed at the last set."""
        self.alpha = alpha
        if self.lags:
            self._set_lagged(lagged_at)
