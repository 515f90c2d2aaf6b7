"""Drift of a stream: the urns of all channels of one model version, and their one alarm.

The input is only sums of counters, so one process or forty workers give the same evidence. Here the
channels (`urn`, `bets`) run side by side, an alarm is raised, kept alive and cleared, and a period
of traffic that a person has accepted becomes the reference.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.evidence.accepted import Accepted, accepted_reference
from monitoring.evidence.alarm import Alarm
from monitoring.evidence.bets import Bet, ChannelReference, IntArray
from monitoring.evidence.channel_evidence import (
    ChannelEvidence,
    ChannelState,
    Eta,
    IncrementError,
    whole_counts,
)
from monitoring.evidence.urn import LAGS

__all__ = [
    "Accepted",
    "Alarm",
    "ChannelEvidence",
    "ChannelReference",
    "IncrementError",
    "SnapshotError",
    "StreamEvidence",
    "StreamState",
    "decode_state",
]

SNAPSHOT_FORMAT = 3
MOST_PIECE = 250  # requests weighed at once: a large reference needs no coarser beginnings


class SnapshotError(ValueError):
    """A snapshot that does not belong to the references it is restored for."""


class Peak(msgspec.Struct, frozen=True):
    """The highest evidence of a channel since it last crossed, for reports during an alarm."""

    log10_r: float
    at: int  # the request at which that count began


class StreamState(msgspec.Struct, frozen=True):
    """The state of a `StreamEvidence`; all of it can be written as JSON."""

    format: int
    c: float
    eta: Eta
    lags: tuple[int, ...]
    clear_after: int
    seed: int
    accepted: Accepted | None
    alarm: Alarm | None
    crossed_at: int
    peaks: dict[str, Peak]  # by channel
    channels: dict[str, ChannelState]


class _Format(msgspec.Struct, frozen=True):
    format: int


def decode_state(text: bytes) -> StreamState:
    """Read a state from JSON. Raises SnapshotError where it is damaged or of another format."""
    try:
        number = msgspec.json.decode(text, type=_Format).format
        if number != SNAPSHOT_FORMAT:
            raise ValueError(f"format {number}, expected {SNAPSHOT_FORMAT}")
        return msgspec.json.decode(text, type=StreamState)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error


class StreamEvidence:
    """Pólya-urn Shiryaev-Roberts evidence over all channels of one model version.

    R = mean_j R_j per channel over the bets of the exact and the lagged copies, alarm when R >= C c
    in any of the C channels. If requests come independently from one distribution (within each
    predicted class, for scores whose ranks are taken there), P(an alarm within T requests) <= T / c
    for all copies together: the mean of martingales is one. Bursts of one class alarm until phi has
    been learnt, a reference that the model was trained on always.

    While nothing drifts, traffic is put into the urn. The piece that crosses and all later ones are
    not: alpha is frozen, every R_j starts again from 0, a new crossing keeps the alarm alive, and
    after `clear_after` requests without one it clears and absorbing resumes. So a drift too weak to
    cross again within that alarms repeatedly.

    Args:
        references: one per channel, names distinct.
        c: requests > 1 per false alarm at least, in the mean.
        eta: in (0, 1], the discount for over-dispersed traffic; "auto": min(1, 1/phi) of each
            bet, phi from the calls of `update`, each of which is an interval.
        lags: requests >= 1 that each lagged copy takes for drifted already; empty: no such copy.
        seed: >= 0, of the random split of large increments.
        clear_after: requests >= 1 without a renewed crossing that clear an alarm.
        accepted: traffic that takes the place of the references (on their cells); None: none.

    Raises:
        ValueError: a parameter outside its range, no channel, a name twice, or accepted counts or
            a band that do not fit the references.

    References:
        methods.md, section 1; Ramdas et al. (2023), *Game-theoretic statistics*.

    >>> cells = np.full(20, 5.0)
    >>> labels = tuple(f"{cell:02}" for cell in range(20))
    >>> stream = StreamEvidence([ChannelReference("energy", "score", cells, labels)], c=1e4)
    >>> stream.update({"energy": np.full(20, 10)})  # 200 requests like the reference
    >>> stream.alarm is None
    True
    >>> stream.update({"energy": np.array([60] + [1] * 19)})  # the top cell fills up
    >>> stream.alarm.channel, stream.alarm.direction, stream.requests
    ('energy', 'higher', 279)
    """

    def __init__(
        self,
        references: Sequence[ChannelReference],
        *,
        c: float = 1e6,
        eta: Eta = 1.0,
        lags: tuple[int, ...] = LAGS,
        seed: int = 0,
        clear_after: int = 1000,
        accepted: Accepted | None = None,
    ) -> None:
        names = [reference.name for reference in references]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected one or more channels with distinct names, got {names}")
        right = c > 1 and (eta == "auto" or 0 < eta <= 1)
        copies = len(set(lags)) == len(lags) and min(lags, default=1) >= 1
        if not right or not copies or clear_after < 1 or seed < 0:
            raise ValueError(
                'expected c > 1, eta in (0, 1] or "auto", distinct lags >= 1, clear_after >= 1, '
                f"seed >= 0; got {c=}, {eta=}, {lags=}, {clear_after=}, {seed=}"
            )
        self.c, self.lags, self.seed, self.clear_after = c, lags, seed, clear_after
        self.eta: Eta = eta
        self._references = sorted(references, key=lambda reference: reference.name)
        self._begin(accepted, {})

    def _begin(self, accepted: Accepted | None, before: Mapping[str, ChannelEvidence]) -> None:
        """Start afresh, with what `before` knows of bursts; nothing changes if it raises."""
        channels = {r.name: self._channel(r, accepted) for r in self._references}
        for name, old in before.items():
            channels[name].adopt(old)
        self._channels, self.accepted = channels, accepted
        n = min(round(float(c.reference.alpha.sum())) for c in self._channels.values()) - 1
        self._piece = max(1, min(MOST_PIECE, n // 20))
        self._alarm: Alarm | None = None
        self._crossed_at, self._peaks = 0, dict[str, Peak]()

    def _channel(self, reference: ChannelReference, accepted: Accepted | None) -> ChannelEvidence:
        band = None
        if accepted is not None:
            band = accepted.band if reference.kind == "class" else None
            reference = accepted_reference(reference, accepted)
        return ChannelEvidence(reference, eta=self.eta, lags=self.lags, band=band)

    @property
    def references(self) -> list[ChannelReference]:
        """What the channels are compared with now, in the order of their names."""
        return [channel.reference for channel in self._channels.values()]

    def retake(self, accepted: Accepted | None) -> None:
        """Start anew: from accepted traffic, or (None) from the references.

        The alarm is over and every R is 0. The count of requests and what was learnt about bursts
        stay. Nothing changes if it raises.

        Raises:
            ValueError: accepted counts or a band that do not fit the references.
        """
        self._begin(accepted, self._channels)

    @property
    def requests(self) -> int:
        """The number of all requests: the count of the channel with the most."""
        return max(channel.requests for channel in self._channels.values())

    @property
    def threshold_log10(self) -> float:
        """log10(C c), the evidence at which a channel alarms."""
        return float(np.log10(len(self._channels) * self.c))

    @property
    def alarm(self) -> Alarm | None:
        """The alarm that is on, as it was raised, or None."""
        return self._alarm

    def log10_evidence(self) -> dict[str, float]:
        """Return log10 max(R, 1) per channel, finite and >= 0.

        While the alarm is on: the highest value since that channel's own last crossing (or since
        the alarm was raised), forgotten after `clear_after` requests, so that the restart of R at
        a crossing does not look like an end of the drift.
        """
        return {
            name: max(channel.log10_r, self._peaks[name].log10_r if name in self._peaks else 0.0)
            for name, channel in self._channels.items()
        }

    def phi(self) -> dict[str, float]:
        """Return phi >= 1 per channel, the largest of its bets; 1 says as good as independent."""
        return {name: channel.phi for name, channel in self._channels.items()}

    def least_eta(self) -> dict[str, float]:
        """Return the smallest discount eta in (0, 1] among the bets of each channel."""
        return {name: channel.least_eta for name, channel in self._channels.items()}

    def winners(self) -> dict[str, Bet | None]:
        """Return the leading bet of every channel, None before the first request; for tests."""
        return {name: channel.winner() for name, channel in self._channels.items()}

    def update(self, increments: Mapping[str, npt.ArrayLike]) -> None:
        """Take the counts of all workers since the last call; nothing changes if it raises.

        Counts above n / 20 or 250 are split into pieces at random without replacement: the order
        inside an interval carries no information. Counts that a band of class shares weighs are
        not: its law is that of requests in their order.

        Args:
            increments: channel -> (G,) whole counts >= 0. Channels left out count as 0.

        Raises:
            IncrementError: unknown channel, wrong shape, negative or broken counts, or requests
                in a cell in which the reference cannot have any.
        """
        unknown = set(increments) - set(self._channels)
        if unknown:
            raise IncrementError(
                f"unknown channels {sorted(unknown)}, expected some of {sorted(self._channels)}"
            )
        counts = {
            name: whole_counts(channel, increments[name])
            for name, channel in self._channels.items()
            if name in increments
        }
        pieces = {name: self._split(name, count) for name, count in counts.items() if count.any()}
        for step in range(max(map(len, pieces.values()), default=0)):
            self._step({name: rows[step] for name, rows in pieces.items() if step < len(rows)})
        for name in pieces:  # after them: a discount must not know what it discounts
            self._channels[name].observe(counts[name])

    def _split(self, name: str, counts: IntArray) -> IntArray:
        """Deal (G,) counts into (P, G) rows of at most n / 20 requests, at random.

        One shuffle of the requests' cells equals a chain of multivariate hypergeometric draws. It
        is seeded by the counts too: a sequence of shuffles that every stream of the same seed
        shared would strike all of them with the same unlucky piece at the same request.
        """
        m = int(counts.sum())
        if m <= self._piece or self._channels[name].banded:
            return counts[None, :]
        entropy = [self.seed, zlib.crc32(name.encode()), self._channels[name].requests]
        cells = np.repeat(np.arange(counts.size), counts)
        np.random.default_rng([*entropy, *counts.tolist()]).shuffle(cells)
        n_pieces, row = -(-m // self._piece), np.arange(m) // self._piece
        flat = np.bincount(row * counts.size + cells, minlength=n_pieces * counts.size)
        return flat.reshape(n_pieces, counts.size).astype(np.int64)

    def _step(self, pieces: Mapping[str, IntArray]) -> None:
        """Weigh one piece of every channel, then raise, keep, clear, or absorb."""
        for name, piece in pieces.items():
            self._channels[name].weigh(piece)
        bar = self.threshold_log10
        values = {name: self._channels[name].log10_r for name in pieces}
        crossed = [name for name in pieces if values[name] >= bar]
        if self._alarm is not None:
            self._sustain(crossed)
        elif crossed:
            self._raise(max(crossed, key=values.__getitem__))
        else:
            for name, piece in pieces.items():
                self._channels[name].absorb(piece)

    def _raise(self, name: str) -> None:
        """Record the alarm of one channel and start every R from 0 with the urns frozen."""
        channel = self._channels[name]
        bet = channel.winner()
        assert bet is not None, "a channel that crossed has a leading bet"
        before, after = channel.shares()
        within = f"{name} within each predicted class" if channel.reference.groups else name
        words = bet.words if channel.reference.kind != "score" else f"{within}: {bet.words}"
        self._crossed_at = self.requests
        self._alarm = Alarm(
            channel=name,
            direction=bet.direction,
            words=words,
            log10_r=channel.log10_r,
            requests=self.requests,
            onset=channel.onset(),
            before=tuple(before.tolist()),
            after=tuple(after.tolist()),
            gains=tuple(channel.gains().tolist()),
        )
        for other, evidence in self._channels.items():
            self._peaks[other] = Peak(evidence.log10_r, self.requests)
            evidence.restart()

    def _sustain(self, crossed: Sequence[str]) -> None:
        """Keep the alarm alive on a renewed crossing, or clear it when none came for long."""
        now = self.requests
        for name, channel in self._channels.items():
            peak, value = self._peaks[name], channel.log10_r
            if name in crossed or now - peak.at >= self.clear_after:
                self._peaks[name] = Peak(value, now)
            elif value > peak.log10_r:
                self._peaks[name] = Peak(value, peak.at)
            if name in crossed:
                self._crossed_at = now
                channel.restart()
        if now - self._crossed_at >= self.clear_after:
            self._alarm = None
            self._peaks.clear()
            for channel in self._channels.values():
                channel.restart()

    def snapshot(self) -> StreamState:
        """Return the whole state (no number beyond 64 bit, no infinity)."""
        return StreamState(
            format=SNAPSHOT_FORMAT,
            c=self.c,
            eta=self.eta,
            lags=self.lags,
            clear_after=self.clear_after,
            seed=self.seed,
            accepted=self.accepted,
            alarm=self._alarm,
            crossed_at=self._crossed_at,
            peaks=dict(self._peaks),
            channels={name: channel.snapshot() for name, channel in self._channels.items()},
        )

    @classmethod
    def restore(
        cls,
        references: Sequence[ChannelReference],
        snapshot: StreamState,
        *,
        c: float | None = None,
        eta: Eta | None = None,
        lags: tuple[int, ...] | None = None,
        clear_after: int | None = None,
    ) -> StreamEvidence:
        """Return the stream that goes on exactly where the snapshot was taken.

        Args:
            references: of the model version the snapshot was taken for, in any order.
            snapshot: what `snapshot` returned, or `decode_state` read.
            c: new requests per false alarm; None keeps the snapshot's, as with those below.
            eta: new discount in (0, 1], or "auto".
            lags: new lags; a lagged copy that is new begins with R = 0.
            clear_after: new number of requests that clear an alarm.

        Raises:
            SnapshotError: other channels, cells or reference weights, or a damaged snapshot.
        """
        try:
            stream = cls(
                references,
                c=snapshot.c if c is None else c,
                eta=snapshot.eta if eta is None else eta,
                lags=snapshot.lags if lags is None else lags,
                seed=snapshot.seed,
                clear_after=snapshot.clear_after if clear_after is None else clear_after,
                accepted=snapshot.accepted,
            )
            stream._load(snapshot)
        except ValueError as error:
            raise SnapshotError(
                f"the snapshot does not belong to these references ({error!r}); "
                "start the evidence anew for this model version"
            ) from error
        return stream

    def _load(self, snapshot: StreamState) -> None:
        """Take over the state of a snapshot."""
        theirs, ours = set(snapshot.channels), set(self._channels)
        if theirs != ours:
            raise ValueError(f"channels {sorted(theirs)}, expected {sorted(ours)}")
        for name, channel in self._channels.items():
            channel.load(snapshot.channels[name])
        if snapshot.alarm is not None and set(snapshot.peaks) != ours:
            raise ValueError(f"peaks of {sorted(snapshot.peaks)}, expected {sorted(ours)}")
        self._crossed_at, self._peaks = snapshot.crossed_at, dict(snapshot.peaks)
        self._alarm = snapshot.alarm
