"""The evidence of one channel: its bets' e-values added up over every possible beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import Bet, ChannelReference, FloatArray, IntArray, spread_rows
from monitoring.evidence.class_band import BandBets, ClassBand
from monitoring.evidence.dispersion import Dispersion, DispersionState, vector
from monitoring.evidence.onset import History, Onset, StretchState
from monitoring.evidence.urn import LAGS, Urn

LEAST_ETA = 0.02  # bursts of 50: what varies more is not discounted further
Eta = float | Literal["auto"]


class IncrementError(ValueError):
    """Counter increments that no stream of requests can have produced."""


class ChannelState(msgspec.Struct, frozen=True):
    """The state of a `ChannelEvidence`: G cells in K groups, J bets of several copies."""

    kind: str
    labels: list[str]  # (G,)
    reference: list[float]  # (G,)
    alpha: list[float]  # (G,)
    lags: list[int]  # of the copies after the exact one
    lagged_at: list[float]  # (K,)
    dispersion: DispersionState
    requests: int
    ln_r: list[list[float | None]]  # (copies, J); None is -inf, which JSON has not
    history: list[StretchState]


class ChannelEvidence:
    """Shiryaev-Roberts evidence of one channel, R_j <- (m + R_j) exp(eta_j lnE_j), R = mean_j R_j.

    j runs over the bets of all copies. Without drift R_t - t is a martingale over requests t (a
    supermartingale for eta < 1, by Jensen's inequality), whatever the scores are, so P(R reaches b
    within T requests) <= T / b. It holds for any tilts and any eta that are fixed before the piece
    they weigh: both may follow the traffic of the past.

    Args:
        reference: the cells of the channel; the bets are fixed from it for good.
        eta: in (0, 1], the discount for over-dispersed (bursty) traffic; the delay grows as 1/eta.
            "auto": min(1, 1/phi_j) per bet, phi_j from the intervals given to `observe`.
        lags: requests that each lagged copy takes for drifted already; empty for no such copy.
        band: of the class shares, to bet on leaving it instead of against an urn.

    Raises:
        ValueError: the band does not fit the channel.

    References:
        Pollak (1985); Ramdas et al. (2023), *Game-theoretic statistics*, section on e-detectors.

    >>> reference = ChannelReference("energy", "score", np.full(20, 5.0), ("",) * 20)
    >>> evidence = ChannelEvidence(reference)
    >>> for _ in range(40):
    ...     evidence.update(np.eye(20, dtype=np.int64)[0])  # only the highest scores arrive
    >>> evidence.log10_r > 6, evidence.winner().direction
    (True, 'higher')
    """

    def __init__(
        self,
        reference: ChannelReference,
        *,
        eta: Eta = 1.0,
        lags: tuple[int, ...] = LAGS,
        band: ClassBand | None = None,
    ) -> None:
        self.reference = reference
        self.eta: Eta = eta
        self.banded = band is not None
        self._book = Urn(reference, lags) if band is None else BandBets(band, reference)
        self.bets = self._book.bets
        rows, self._row = spread_rows(reference, self.bets, self._book.tilts)
        self._dispersion = Dispersion(rows, reference.alpha)
        self._eta: FloatArray | float = 1.0 if eta == "auto" else eta
        self.requests = 0
        self.restart()

    def restart(self) -> None:
        """Set every R_j to 0; the urn and the request count stay as they are."""
        self._ln_r = np.full((self._book.copies, len(self.bets)), -np.inf)
        self._history = History(self.requests)

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
        if self._dispersion.add(increments):
            self._discount()

    def _discount(self) -> None:
        if self.eta == "auto":
            self._eta = np.maximum(1 / self._dispersion.phi()[self._row], LEAST_ETA)

    def weigh(self, increments: IntArray) -> None:
        """Take one piece of counts into the evidence and leave the urn as it is.

        Args:
            increments: (G,) whole counts >= 0, none in a cell of weight 0.
        """
        m = int(increments.sum())
        if m == 0:
            return
        ln_e = self._book.ln_e(increments) * self._eta
        self._ln_r = np.logaddexp(self._ln_r, np.log(m)) + ln_e
        self.requests += m
        self._history.add(m, ln_e[0], increments)

    def absorb(self, increments: IntArray) -> None:
        """Put counts into the urn: alpha += D."""
        self._book.absorb(increments)

    @property
    def alpha(self) -> FloatArray:
        """(G,) float64: what the urn holds."""
        return self._book.alpha

    @property
    def phi(self) -> float:
        """How many times more the counts vary than those of independent requests, >= 1.

        The largest of the channel's bets.
        """
        return float(self._dispersion.phi().max())

    @property
    def least_eta(self) -> float:
        """The smallest discount of a bet, in (0, 1]; 1 where there is none."""
        return float(np.min(self._eta, initial=1.0))

    @property
    def log10_r(self) -> float:
        """log10 of max(R, 1), finite: 0 says no evidence, also at the start where R = 0."""
        top = float(self._ln_r.max(initial=-np.inf))
        if top == -np.inf:
            return 0.0
        ln_mean = top + np.log(np.exp(self._ln_r - top).mean())
        return max(0.0, float(ln_mean / np.log(10)))

    def _leader(self) -> int:
        return int(self._ln_r.max(axis=0).argmax())

    def winner(self) -> Bet | None:
        """Return the bet with the largest R_j, or None before the first request."""
        return None if np.isinf(self._ln_r).all() else self.bets[self._leader()]

    def gains(self) -> FloatArray:
        """(G,) float64: ln tau of the winning bet, what a request in each cell adds to it."""
        gains: FloatArray = np.log(self._book.tilts.row(self._leader()))
        return gains

    def onset(self) -> Onset:
        """The requests after which a drift may have begun, of those since the last restart."""
        return self._history.onset()

    def shares(self) -> tuple[FloatArray, FloatArray]:
        """Return what the urn expects and what came since the likely onset, as cell shares.

        Where cells are in groups, the urn is asked about the numbers of requests that they got.

        Returns:
            Two (G,) float64 arrays that each sum to 1; before the first request they are equal.
        """
        came = self._history.counts_since(self.onset().likely)
        if not came.any():
            expected = self._book.expected(np.zeros(self.alpha.size))
            return expected, expected
        return self._book.expected(came), came / came.sum()

    def adopt(self, other: ChannelEvidence) -> None:
        """Take over how bursty the traffic is, and the request count, from the same channel.

        Its reference may be another, and so may its bets on a cell's share.
        """
        self.requests = other.requests
        rows = np.arange(len(other._dispersion.phi()))  # of cells
        if self.reference.kind == "score":  # of bets
            rows = _match_bets(self.bets, other.bets)
        self._dispersion.adopt(other._dispersion, rows)
        self._discount()
        self.restart()

    def snapshot(self) -> ChannelState:
        """Return the state as a record."""
        return ChannelState(
            kind=self.reference.kind,
            labels=list(self.reference.labels),
            reference=self.reference.alpha.tolist(),
            alpha=self.alpha.tolist(),
            lags=list(self._book.lags),
            lagged_at=self._book.lagged_at.tolist(),
            dispersion=self._dispersion.snapshot(),
            requests=self.requests,
            ln_r=[[None if r == -np.inf else r for r in copy] for copy in self._ln_r.tolist()],
            history=self._history.snapshot(),
        )

    def load(self, state: ChannelState) -> None:
        """Take over a snapshot of the same channel.

        Its lags may be others; a lagged copy that is new begins with R = 0.

        Raises:
            ValueError: the snapshot is of another reference or its arrays do not fit.
        """
        name, cells, bets = self.reference.name, self.alpha.size, len(self.bets)
        same = (
            state.kind == self.reference.kind
            and tuple(state.labels) == self.reference.labels
            and np.array_equal(state.reference, self.reference.alpha)
        )
        if not same:
            raise ValueError(f"channel {name!r}: expected its own {cells} cells and weights")
        groups = len(self._book.lagged_at)
        self._book.load(vector(state.alpha, cells), vector(state.lagged_at, groups))
        self._dispersion.load(state.dispersion)
        self._discount()
        known = dict(zip([0, *state.lags], state.ln_r, strict=True))
        for copy, lag in enumerate([0, *self._book.lags]):
            if lag in known:
                r = [-np.inf if value is None else value for value in known[lag]]
                self._ln_r[copy] = vector(r, bets)
        self.requests = state.requests
        self._history.load(state.history, state.requests, bets, cells)


def whole_counts(channel: ChannelEvidence, counts: npt.ArrayLike) -> IntArray:
    """Return increments as (G,) int64, or raise an `IncrementError` that says what is wrong."""
    name, cells = channel.reference.name, channel.alpha.size
    try:
        values = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise IncrementError(f"channel {name!r}: expected ({cells},) numbers") from error
    if values.shape != (cells,):
        raise IncrementError(f"channel {name!r}: expected shape ({cells},), got {values.shape}")
    if not (np.isfinite(values).all() and (values >= 0).all() and (values == values.round()).all()):
        raise IncrementError(f"channel {name!r}: expected whole counts >= 0, got {values}")
    impossible = np.flatnonzero((values > 0) & (channel.alpha == 0))
    if impossible.size:
        raise IncrementError(
            f"channel {name!r}: cell {channel.reference.labels[impossible[0]]!r} has requests but "
            "no reference weight; the edges and the reference come from different versions"
        )
    return values.astype(np.int64)


def _match_bets(bets: Sequence[Bet], known: Sequence[Bet]) -> IntArray:
    """Return for every bet the number (J,) of the known one that varies as it does.

    Bets on ranks are the same for every reference. One on a cell's share varies as any other on it,
    whatever the factor.
    """
    same = {(bet.cell, bet.words): number for number, bet in enumerate(known)}
    about = {bet.cell: number for number, bet in enumerate(known)}
    numbers = [
        number if bet.cell is None else same.get((bet.cell, bet.words), about[bet.cell])
        for number, bet in enumerate(bets)
    ]
    return np.array(numbers, dtype=np.int64)
