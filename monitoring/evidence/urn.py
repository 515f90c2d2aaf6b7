"""The urn of one channel: evidence against exchangeability from sums of counters.

A finite reference of n scores and the traffic after it are exchangeable while nothing drifts, so
the cells of the next m requests follow a Pólya urn filled with the reference. Each bet's
likelihood ratio against that urn is an e-value (mean 1 without drift, exactly, for every n), and
the Shiryaev-Roberts recursion adds them up over every moment at which the drift may have begun.

Every bet is played twice. The exact copy bets against all that the urn holds, and so gets used to
a drift that begins slowly. The lagged copy takes the last L requests for drifted already: its bet
is that what comes is tau times what the urn held BEFORE them. Both are weighed against the same
exact urn, so both are e-values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from scipy.special import gammaln

from monitoring.evidence.bets import Bet, ChannelReference, FloatArray, IntArray, tilts
from monitoring.evidence.dispersion import Dispersion, DispersionState, vector

MAX_MARKS = 48
LAG = 5000
LEAST_ETA = 0.02  # bursts of 50: what varies more is not discounted further
Eta = float | Literal["auto"]


def ln_e_values(
    alpha: FloatArray, increments: FloatArray, tau: FloatArray, ln_tau: FloatArray
) -> FloatArray:
    """Return the log e-value of every bet for one piece of counts.

    lnE_j = sum_g D_g ln tau_jg - m ln z_j + sum_g D_g ln alpha_g
            - sum_g [lnGamma(alpha_g + D_g) - lnGamma(alpha_g)] + lnGamma(A + m) - lnGamma(A)

    with z_j = sum_g alpha_g tau_jg, A = sum_g alpha_g, m = sum_g D_g: the tilted multinomial over
    the Dirichlet-multinomial. The mean of E_j under the urn is exactly 1.

    Args:
        alpha: (G,) float64 weights of the urn; > 0 where D > 0.
        increments: (G,) float64 whole counts D >= 0.
        tau: (J, G) float64 > 0 tilts of the bets.
        ln_tau: (J, G) float64, their logarithms.

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
    total, m = alpha.sum(), drawn.sum()
    urn = drawn @ np.log(weight) - (gammaln(weight + drawn) - gammaln(weight)).sum()
    urn += gammaln(total + m) - gammaln(total)
    result: FloatArray = ln_tau @ increments - m * np.log(tau @ alpha) + urn
    return result


def lagged_tilts(tau: FloatArray, share: float) -> FloatArray:
    """Return the tilts of an urn that has taken in drifted requests already.

    Were a share s of the urn's content drawn from tau p and the rest from p, the urn would hold
    p (1 - s + s tau) and the next request would still follow tau p: relative to the urn it is
    tilted by tau / (1 - s + s tau). (The estimate of p in a density-ratio model: Qin 1998.)

    Args:
        tau: (J, G) float64 > 0 tilts.
        share: s in [0, 1); 0 gives tau itself.

    >>> lagged_tilts(np.array([[4.0, 0.5]]), 0.5).round(2).tolist()
    [[1.6, 0.67]]
    """
    assert 0 <= share < 1
    return tau / (1 - share + share * tau)


@dataclass(frozen=True)
class _Mark:
    """The cell counts of a channel after some number of requests."""

    requests: int
    counts: IntArray


class ChannelState(msgspec.Struct, frozen=True):
    """The state of a `ChannelEvidence`: G cells, J bets of one or two copies."""

    kind: str
    labels: list[str]  # (G,)
    reference: list[float]  # (G,)
    alpha: list[float]  # (G,)
    lag: int
    lagged_at: float
    dispersion: DispersionState
    requests: int
    ln_r: list[float | None]  # (J,); None is -inf, which JSON has not
    ln_cusum: list[float]  # (J,)
    began: list[int]  # (J,)
    seen: list[int]  # (G,)
    marks: list[tuple[int, list[int]]]  # requests, and the counts (G,) after them


class ChannelEvidence:
    """Shiryaev-Roberts evidence of one channel, R_j <- (m + R_j) exp(eta_j lnE_j), R = mean_j R_j.

    j runs over the bets, the lagged copy's after the exact one's. Without drift R_t - t is a
    martingale over requests t (a supermartingale for eta < 1, by Jensen's inequality), whatever
    the scores are, so P(R reaches b within T requests) <= T / b. It holds for any tilts and any
    eta that are fixed before the piece they weigh: both may follow the traffic of the past.

    Args:
        reference: the cells of the channel; the bets are fixed from it for good.
        eta: in (0, 1], the discount for over-dispersed (bursty) traffic; the delay grows as 1/eta.
            "auto": min(1, 1/phi_j) per bet, phi_j from the intervals given to `observe`.
        lag: requests that the lagged copy takes for drifted already; 0 for no such copy.

    References:
        Pollak (1985); Ramdas et al. (2023), *Game-theoretic statistics*, section on e-detectors.

    >>> reference = ChannelReference("energy", "score", np.full(20, 5.0), ("",) * 20)
    >>> evidence = ChannelEvidence(reference)
    >>> for _ in range(40):
    ...     evidence.update(np.eye(20, dtype=np.int64)[0])  # only the highest scores arrive
    >>> evidence.log10_r > 6, evidence.winner().direction
    (True, 'higher')
    """

    def __init__(self, reference: ChannelReference, *, eta: Eta = 1.0, lag: int = LAG) -> None:
        self.reference = reference
        self.eta: Eta = eta
        self.lag = lag
        self.alpha: FloatArray = reference.alpha.copy()
        self.requests = 0
        self._bets, self._plain_tau = tilts(reference)
        self._dispersion = Dispersion(np.log(self._plain_tau), reference.alpha)
        self._copies = 2 if lag else 1
        self._eta: FloatArray | float = 1.0 if eta == "auto" else eta
        self._tau = np.concatenate([self._plain_tau] * self._copies)
        self._ln_tau = np.log(self._tau)
        self._lagged_at = 0.0  # absorbed requests when the lagged tilts were last set
        self._seen = np.zeros(self.alpha.size, dtype=np.int64)
        self.restart()

    def restart(self) -> None:
        """Set every R_j to 0; the urn and the request count stay as they are."""
        self._ln_r = np.full(len(self._tau), -np.inf)
        self._ln_cusum = np.zeros(len(self._tau))
        self._began = np.full(len(self._tau), self.requests, dtype=np.int64)
        self._marks = [_Mark(self.requests, self._seen.copy())]

    def update(self, increments: IntArray) -> None:
        """Weigh one piece of counts, then put it into the urn.

        Args:
            increments: (G,) whole counts; their sum m should stay below about n / 20.
        """
        self.weigh(increments)
        self.absorb(increments)

    def observe(self, increments: IntArray) -> None:
        """Learn how bursty the traffic is from a whole interval (G,), before or after its pieces.

        The discount that follows holds for the pieces weighed from now on.
        """
        if self._dispersion.add(increments) and self.eta == "auto":
            self._discount()

    def _discount(self) -> None:
        phi = self._dispersion.phi()
        calm = phi.max() == 1
        self._eta = 1.0 if calm else np.tile(np.maximum(1 / phi, LEAST_ETA), self._copies)

    def weigh(self, increments: IntArray) -> None:
        """Take one piece of counts into the evidence and leave the urn as it is.

        Args:
            increments: (G,) whole counts >= 0, none in a cell of weight 0.
        """
        m = int(increments.sum())
        if m == 0:
            return
        ln_e = ln_e_values(self.alpha, increments.astype(np.float64), self._tau, self._ln_tau)
        ln_e *= self._eta
        self._ln_r = np.logaddexp(self._ln_r, np.log(m)) + ln_e
        self.requests += m
        self._seen += increments
        self._ln_cusum = np.maximum(self._ln_cusum + ln_e, 0.0)
        self._began[self._ln_cusum == 0] = self.requests
        self._marks.append(_Mark(self.requests, self._seen.copy()))
        if len(self._marks) > MAX_MARKS:  # the older half gets coarser, the newer stays fine
            del self._marks[1 : MAX_MARKS // 2 : 2]

    def absorb(self, increments: IntArray) -> None:
        """Put counts into the urn: alpha += D."""
        self.alpha += increments
        if self.lag:
            absorbed = float(self.alpha.sum() - self.reference.alpha.sum())
            if absorbed - self._lagged_at >= max(1, self.lag // 20):  # the tilts move slowly
                self._set_lagged(absorbed)

    def _set_lagged(self, absorbed: float) -> None:
        """Set the tilts of the lagged copy for an urn that has absorbed so many requests."""
        self._lagged_at = absorbed
        share = min(absorbed, self.lag) / (self.reference.alpha.sum() + absorbed)
        rows = slice(len(self._bets), None)
        self._tau[rows] = lagged_tilts(self._plain_tau, float(share))
        self._ln_tau[rows] = np.log(self._tau[rows])

    @property
    def phi(self) -> float:
        """How many times more the counts vary than those of independent requests, >= 1.

        The largest of the channel's bets.
        """
        return float(self._dispersion.phi().max())

    @property
    def least_eta(self) -> float:
        """The smallest discount of a bet, in (0, 1]."""
        return float(np.min(self._eta))

    @property
    def log10_r(self) -> float:
        """log10 of max(R, 1), finite: 0 says no evidence, also at the start where R = 0."""
        top = float(self._ln_r.max())
        if top == -np.inf:
            return 0.0
        ln_mean = top + np.log(np.exp(self._ln_r - top).mean())
        return max(0.0, float(ln_mean / np.log(10)))

    def winner(self) -> Bet | None:
        """Return the bet with the largest R_j, or None before the first request."""
        leader = int(self._ln_r.argmax())
        return None if self._ln_r[leader] == -np.inf else self._bets[leader % len(self._bets)]

    def gains(self) -> FloatArray:
        """(G,) float64: ln tau of the winning bet, what a request in each cell adds to it."""
        gains: FloatArray = np.log(self._plain_tau[int(self._ln_r.argmax()) % len(self._bets)])
        return gains

    @property
    def change_at(self) -> int:
        """The request after which the winning bet began to win (its maximum-likelihood start)."""
        return int(self._began[int(self._ln_r.argmax())])

    def shares(self) -> tuple[FloatArray, FloatArray]:
        """Return what the urn expects and what came since `change_at`, as cell shares.

        The second comes from thinned marks, so it may begin a little before `change_at`.

        Returns:
            Two (G,) float64 arrays that each sum to 1; the second is 0 before the first request.
        """
        start = max(
            (mark for mark in self._marks if mark.requests <= self.change_at),
            key=lambda mark: mark.requests,
            default=self._marks[0],
        )
        came = (self._seen - start.counts).astype(np.float64)
        return self.alpha / self.alpha.sum(), came / max(1.0, came.sum())

    def snapshot(self) -> ChannelState:
        """Return the state as a record."""
        return ChannelState(
            kind=self.reference.kind,
            labels=list(self.reference.labels),
            reference=self.reference.alpha.tolist(),
            alpha=self.alpha.tolist(),
            lag=self.lag,
            lagged_at=self._lagged_at,
            dispersion=self._dispersion.snapshot(),
            requests=self.requests,
            ln_r=[None if value == -np.inf else value for value in self._ln_r.tolist()],
            ln_cusum=self._ln_cusum.tolist(),
            began=self._began.tolist(),
            seen=self._seen.tolist(),
            marks=[(mark.requests, mark.counts.tolist()) for mark in self._marks],
        )

    def load(self, state: ChannelState) -> None:
        """Take over a snapshot of the same channel.

        Its lag may be another one; a lagged copy that is new begins with R = 0.

        Raises:
            ValueError: the snapshot is of another reference or its arrays do not fit.
        """
        name, cells = self.reference.name, self.alpha.size
        same = (
            state.kind == self.reference.kind
            and tuple(state.labels) == self.reference.labels
            and np.array_equal(state.reference, self.reference.alpha)
        )
        if not same:
            raise ValueError(f"channel {name!r}: expected its own {cells} cells and weights")
        ln_r = [-np.inf if value is None else value for value in state.ln_r]
        self.alpha = vector(state.alpha, cells)
        self._dispersion.load(state.dispersion)
        if self.eta == "auto":
            self._discount()
        self._ln_r, self._ln_cusum, self._began = self._restore_bets(state, ln_r)
        self._seen = vector(state.seen, cells).astype(np.int64)
        self._marks = [
            _Mark(at, vector(counts, cells).astype(np.int64)) for at, counts in state.marks
        ]
        self.requests = state.requests
        if self.lag:
            self._set_lagged(state.lagged_at)

    def _restore_bets(
        self, state: ChannelState, ln_r: list[float]
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return R, its cusum and the start of every bet; a copy that is new has nothing yet."""
        bets, had = len(self._bets), 2 if state.lag else 1
        shared = np.s_[: bets * min(had, self._copies)]
        fresh, cusum, began = self._ln_r.copy(), self._ln_cusum.copy(), self._began.copy()
        fresh[shared] = vector(ln_r, bets * had)[shared]
        cusum[shared] = vector(state.ln_cusum, bets * had)[shared]
        began[:] = state.requests
        began[shared] = vector(state.began, bets * had)[shared].astype(np.int64)
        return fresh, cusum, began
