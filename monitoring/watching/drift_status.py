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


class Learnt(msgspec.Struct, frozen=True):
    """What was learnt about the traffic of a version.

    Args:
        phi: by channel, how many times more counts vary than those of independent requests; 1: as
            good as independent.
        discount: by channel, what is left of the evidence of its most discounted bet, for that.
        repeats: share of the rows, since the services began, that repeat a row of the same client
            within a minute and count once. None: not known.
        class_band: the limits within which class shares come and go; None: no whole cycle was
            accepted.
        recorded: what is recorded of the traffic, which can be accepted as normal.
    """

    phi: dict[str, float]
    discount: dict[str, float]
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
        harmless=stream.harmless or None,
        promise=stream.promise,
        last_alarm=stream.explained,
        learnt=_describe_learnt(stream, history),
        accepted=stream.accepted,
    )


def _describe_learnt(stream: Stream, history: History) -> Learnt:
    evidence = stream.evidence
    band = None if evidence.accepted is None else evidence.accepted.band
    return Learnt(evidence.phi(), evidence.least_eta(), stream.repeats, band, history.span())
