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

from models.statistics.arrays import IntArray
from monitoring.evidence.bets import ChannelReference, fit_tilts
from monitoring.evidence.tilts import FloatArray, Tilts

LAGS = (1000, 5000, 20_000, 80_000)
GROWTH = 20  # the lagged tilts follow when the urn has absorbed a twentieth more
LEAST_GROWTH = 10
LEAST_STIRLING = 50.0
ONE_GROUP = np.zeros(1, dtype=np.int64)


def ln_rising(weight: FloatArray, count: FloatArray) -> FloatArray:
    """Return ln [w (w + 1) ... (w + d - 1) / w^d] = sum_i ln(1 + i / w) for i < d, elementwise.

    The difference of two lnGamma loses digits as the urn grows: after 1e9 requests each of its
    terms is 2e10, which float64 knows to 4e-6. Above w = 50 Stirling's series is used, of which
    every term is small (the first one left out is below 1e-12).

    Args:
        weight: (...,) w > 0.
        count: (...,) d >= 0, whole.

    >>> ln_rising(np.array([1.0, 1e9]), np.array([3.0, 2.0])).round(12).tolist()
    [1.791759469228, 1e-09]
    """
    big = np.maximum(weight, LEAST_STIRLING)
    before, after = 1 / big, 1 / (big + count)
    result: FloatArray = (big + count - 0.5) * np.log1p(count * before) - count
    result += (after - before) / 12 - (after**3 - before**3) / 360 + (after**5 - before**5) / 1260
    small = weight < LEAST_STIRLING
    if small.any():
        w, d = weight[small], count[small]
        result[small] = gammaln(w + d) - gammaln(w) - d * np.log(w)
    return result


def ln_e_values(
    alpha: FloatArray, increments: FloatArray, tilts: Tilts, starts: IntArray = ONE_GROUP
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
        tilts: of J bets.
        starts: (K,) first cell of every group, rising from 0.

    Returns:
        (J,) float64, in nats.

    >>> from monitoring.evidence.tilts import TableTilts
    >>> alpha, tilts = np.array([2.0, 2.0]), TableTilts(np.array([[1.5, 0.5]]), (2,))
    >>> [round(float(np.exp(ln_e_values(alpha, d, tilts))[0]), 2) for d in np.eye(2)]
    [1.5, 0.5]
    """
    assert increments.shape == alpha.shape
    hit = increments.nonzero()[0]
    totals, sizes = np.add.reduceat(alpha, starts), np.add.reduceat(increments, starts)
    came = sizes.nonzero()[0]
    urn = ln_rising(totals[came], sizes[came]).sum() - ln_rising(alpha[hit], increments[hit]).sum()
    result: FloatArray = tilts.ln_odds(alpha, increments, starts) + urn
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
        self.bets, self.tilts = fit_tilts(reference)
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
        values = ln_e_values(self.alpha, drawn, self._copies, self._starts)
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
        held = absorbed / (self._held + absorbed)
        self._copies = self.tilts.lag(np.outer(reach / total if total else 0 * reach, held))

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
