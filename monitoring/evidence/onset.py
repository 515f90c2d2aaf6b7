"""When a drift began, as a set of requests: all beginnings that the evidence cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from scipy.special import logsumexp

from monitoring.evidence.bets import FloatArray, IntArray

WITHIN = 7.0  # nats below the best beginning
CONFIDENCE = 0.98  # share of alarms whose set holds the true beginning; `benchmarks.drift_field`
MOST = 96  # stretches, before neighbours are merged
KEPT = 64
FINEST = 1 / 16  # length of a merged stretch over its age, at first
COARSER = 1.5
DIGITS = 3  # of a gain in nats: short in the file, and the same again after it was read


class Onset(msgspec.Struct, frozen=True):
    """The drift began after a request from `first` to `last`, most likely after `likely`."""

    first: int
    last: int
    likely: int


@dataclass(frozen=True)
class _Stretch:
    """Neighbouring requests: the number before the first, what each bet gained, their cells."""

    begin: int
    gains: FloatArray  # (J,) nats
    counts: IntArray  # (G,)


class StretchState(msgspec.Struct, frozen=True):
    """The state of one stretch."""

    begin: int
    gains: list[float]  # (J,)
    counts: list[int]  # (G,)


class History:
    """What each bet has gained of late, in stretches that get longer with their age.

    With S_j the sum of the log e-values of bet j, M_s = ln mean_j exp(S_j(now) - S_j(s)) is how
    much better a drift after request s explains the traffic than none. The onset is the set
    {s : M_s >= max M - 7}, widened to the neighbouring stretches, so that merging loses no
    beginning. Memory is bounded: a stretch may be as long as a share of its age.

    Args:
        begin: the number of requests before the first stretch.

    References:
        Siegmund (1988), *Confidence sets in change-point problems*.

    >>> history = History(0)
    >>> for piece in range(20):  # ten requests each; the drift begins after the 100th
    ...     gain = 3.0 if piece >= 10 else -1.0
    ...     history.add(10, np.array([gain, -0.1]), np.array([10, 0]))
    >>> history.onset()
    Onset(first=20, last=130, likely=100)
    """

    def __init__(self, begin: int) -> None:
        self._stretches: list[_Stretch] = []
        self.now = begin

    def add(self, requests: int, gains: FloatArray, counts: IntArray) -> None:
        """Note a piece: its number of requests, what the bets gained (J,), its counts (G,)."""
        self._stretches.append(_Stretch(self.now, gains.round(DIGITS), counts))
        self.now += requests
        share = FINEST
        while len(self._stretches) > (MOST if share == FINEST else KEPT):
            self._merge(share)
            share *= COARSER

    def _merge(self, share: float) -> None:
        """Join neighbours as long as they make no more than a share of their age."""
        ends = [stretch.begin for stretch in self._stretches[1:]] + [self.now]
        merged = [self._stretches[0]]
        for stretch, end in zip(self._stretches[1:], ends[1:], strict=True):
            last = merged[-1]
            if end - last.begin > share * (self.now - end):
                merged.append(stretch)
                continue
            gains = (last.gains + stretch.gains).round(DIGITS)
            merged[-1] = _Stretch(last.begin, gains, last.counts + stretch.counts)
        self._stretches = merged

    def onset(self) -> Onset:
        """The set of beginnings; all of it is `now` before the first request."""
        if not self._stretches:
            return Onset(self.now, self.now, self.now)
        begins = [stretch.begin for stretch in self._stretches] + [self.now]
        gains = np.array([stretch.gains for stretch in self._stretches])
        sums = np.cumsum(gains[::-1], axis=0)[::-1]
        m = np.append(logsumexp(sums, axis=1) - np.log(sums.shape[1]), 0.0)
        inside = np.flatnonzero(m >= m.max() - WITHIN)
        first, last = max(0, inside[0] - 1), min(len(m) - 1, inside[-1] + 1)
        return Onset(begins[first], begins[last], begins[int(m.argmax())])

    def counts_since(self, request: int) -> FloatArray:
        """Counts (G,) of the stretches that begin at or after a request."""
        came = [stretch.counts for stretch in self._stretches if stretch.begin >= request]
        counts: FloatArray = np.sum(came, axis=0, dtype=np.float64)
        return counts

    def snapshot(self) -> list[StretchState]:
        """Return the state as records."""
        return [StretchState(s.begin, s.gains.tolist(), s.counts.tolist()) for s in self._stretches]

    def load(self, states: list[StretchState], now: int, bets: int, cells: int) -> None:
        """Take over a snapshot.

        Raises:
            ValueError: its arrays do not fit the number of bets and cells.
        """
        self.now = now
        self._stretches = [
            _Stretch(s.begin, np.array(s.gains, dtype=np.float64), np.array(s.counts))
            for s in states
        ]
        if any(s.gains.shape != (bets,) or s.counts.shape != (cells,) for s in self._stretches):
            raise ValueError(f"expected stretches of {bets} bets and {cells} cells")
