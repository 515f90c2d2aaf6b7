"""How the evidence of a watched version stands: what it promises, what moved, what was learnt.

`GET /models` and `holdfast drift show` say the same.
"""

import msgspec

from models.versions.registry_state import Acceptance
from monitoring.evidence.alarm import Alarm
from monitoring.evidence.class_band import ClassBand
from monitoring.evidence.explanation import Explanation
from monitoring.evidence.stream import Stream
from monitoring.watching.history import History, Span


class Moments(msgspec.Struct, frozen=True):
    """When the change behind an alarm may have begun; seconds since 1970, as looks know it."""

    first: float
    likely: float
    last: float


class Learnt(msgspec.Struct, frozen=True):
    """What was learnt about the traffic of a version.

    Args:
        phi: by channel, how many times more counts vary than those of independent requests; the
            evidence is discounted by it. 1: as good as independent.
        repeats: rows that were exact repeats of a client within a minute, as a share of all; they
            count once. None: not known.
        class_band: the limits within which class shares come and go; None: no whole cycle was
            accepted.
        recorded: what is recorded of the traffic, which can be accepted as normal.
    """

    phi: dict[str, float]
    repeats: float | None
    class_band: ClassBand | None
    recorded: Span | None


class DriftStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence of the watched version of a model; None: not known, or there is none.

    Times are seconds since 1970.
    """

    model: str
    version: int | None = None
    requests: int | None = None
    evidence_log10: dict[str, float] | None = None  # by channel
    threshold_log10: float | None = None
    alarm: Alarm | None = None
    alarm_since: float | None = None
    onset: Moments | None = None  # of the alarm that is on
    harmless: str | None = None  # why the alarm that is on does no harm
    promise: str | None = None
    last_alarm: Explanation | None = None
    learnt: Learnt | None = None
    accepted: Acceptance | None = None  # what the evidence compares with; None: the reference


def describe_drift(stream: Stream, history: History) -> DriftStatus:
    """Say how the evidence of a stream stands.

    Args:
        stream: of the watched version.
        history: of the same version.
    """
    evidence = stream.evidence
    return DriftStatus(
        model=stream.model,
        version=stream.version,
        requests=evidence.requests,
        evidence_log10=evidence.log10_evidence(),
        threshold_log10=evidence.threshold_log10,
        alarm=evidence.alarm,
        alarm_since=stream.alarm_since,
        onset=None if evidence.alarm is None else _find_moments(evidence.alarm, history),
        harmless=stream.harmless or None,
        promise=stream.promise,
        last_alarm=stream.explained,
        learnt=_describe_learnt(stream, history),
        accepted=stream.accepted,
    )


def _describe_learnt(stream: Stream, history: History) -> Learnt:
    evidence = stream.evidence
    band = None if evidence.accepted is None else evidence.accepted.band
    return Learnt(evidence.phi(), None, band, history.span())


def _find_moments(alarm: Alarm, history: History) -> Moments | None:
    """Turn requests into times; None where they are not recorded."""
    onset = alarm.onset
    marks = (onset.first, onset.likely, onset.last)
    first, likely, last = (history.when(max(1, mark)) for mark in marks)
    if first is None or likely is None or last is None:
        return None
    return Moments(first[0], sum(likely) / 2, last[1])
