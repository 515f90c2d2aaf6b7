"""What the labels of each watched model say, and the events that harm and drift are.

Evidence from labels is weighed at every look and stands in the state file of the stream, so it
survives a restart and begins anew with every champion. While an alarm of drift is on, the labels
since then say whether it does harm.
"""

from dataclasses import dataclass, field

from models.base.logs import logger
from models.statistics.intervals import proportion
from monitoring.evidence.accuracy_watch import Accuracy
from monitoring.evidence.alarm import Alarm
from monitoring.evidence.labels.watch import Harm, LabelWatch
from monitoring.evidence.stream import Stream
from monitoring.loop.looks import find_harmless
from monitoring.loop.triggers import Event
from monitoring.records.store import RecordStore

LIVE_ROWS = 3000  # labelled ones since an alarm of drift, at most; beyond, harm must tell
log = logger("watcher")


@dataclass
class HarmWatches:
    """Weighs the labels of all models.

    Args:
        records: where requests and labels stand.
        c: labels per false alarm of harm at least, in the mean.
        only_flagged: whether requests that are not flagged are not recorded.
    """

    records: RecordStore
    c: float
    only_flagged: bool = False
    _watches: dict[str, LabelWatch] = field(default_factory=dict)
    _standing: dict[str, Harm] = field(default_factory=dict)

    def look(self, stream: Stream, accuracy: Accuracy, now: float, since: float) -> Harm:
        """Weigh the labels that came since the last look, and keep what they say.

        Args:
            stream: of the model; its state of labels is replaced and saved where it changed.
            accuracy: what is known of the live accuracy.
            now: seconds since the epoch.
            since: labels of requests before it do not count.

        Raises:
            StoreError: the records cannot be read.
        """
        watch = self._watches.get(stream.model)
        if watch is None or watch.bundle is not stream.bundle:
            watch = self._watches[stream.model] = LabelWatch(
                stream.bundle, self.records, c=self.c, only_flagged=self.only_flagged
            )
        before = stream.labels, stream.doubt, stream.harmless
        stream.labels, observed = watch.look(stream.labels, now, since), accuracy.observed
        harm = watch.judge(stream.labels, None if observed is None else observed.corrected)
        self._standing[stream.model] = harm
        stream.doubt = harm.doubt
        stream.harmless = self._find_harmless(stream, harm, since)
        if (stream.labels, stream.doubt, stream.harmless) != before:
            stream.save()
        if harm.alarm is not None and before[0].harm.alarm is None:
            log.warning(
                "harm_alarm",
                model=stream.model,
                version=stream.version,
                words=harm.words,
                doubt=harm.doubt,
                log10_evidence=round(harm.alarm.log10_r, 2),
                promise=harm.promise,
            )
        return harm

    def _find_harmless(self, stream: Stream, harm: Harm, since: float) -> str:
        """Why the alarm of drift that is on does no harm, in words; empty: that is not known.

        Once that is known, only evidence of harm takes it back: a figure that is looked at again
        and again would fall below the floor by chance.
        """
        alarm_since, manifest = stream.alarm_since, stream.bundle.manifest
        if alarm_since is None or harm.alarm is not None or stream.labels.bias(manifest.classes):
            return ""
        if stream.harmless:
            return stream.harmless
        since = max(since, alarm_since)
        right = self.records.observed(stream.model, stream.version, LIVE_ROWS, since=since)
        if len(right) == LIVE_ROWS:
            return ""  # these are no longer all: the evidence would choose where it begins
        harmless = find_harmless(proportion(right), manifest.evaluation)
        if harmless:
            log.info("drift_harmless", model=stream.model, version=stream.version, words=harmless)
        return harmless

    def standing(self, model: str) -> Harm | None:
        """What the last look said; None where there was none."""
        return self._standing.get(model)

    def forget(self, model: str) -> None:
        """The model is gone."""
        self._watches.pop(model, None)
        self._standing.pop(model, None)


def drift_began(stream: Stream) -> float | None:
    """When the drift of the alarm that is on had surely begun, in seconds since 1970.

    It is the late end of the onset: rows from before may be of the old kind. Where the requests of
    the onset were not recorded, it is when the alarm was raised. None without an alarm.
    """
    raised, known = stream.alarm_since, stream.explained
    if raised is None or known is None or known.last_at is None:
        return raised
    ours = known.version == stream.version and known.raised_at >= raised
    return min(known.last_at, raised) if ours else raised


def window_since(stream: Stream, harm: Harm | None) -> float | None:
    """When the window of labelled rows begins: what has moved, or got worse, had surely begun.

    None where nothing has. Labelled rows from before are old data.
    """
    moved, worse = drift_began(stream), None if harm is None or harm.alarm is None else harm.alarm
    if worse is None:
        return moved
    return worse.since if moved is None else max(moved, worse.since)


def harm_event(stream: Stream, harm: Harm) -> Event | None:
    """The event of an alarm of harm; None without one."""
    since = window_since(stream, harm)
    if harm.alarm is None or since is None:
        return None
    return Event(
        "accuracy", stream.model, "evaluate", since, harm.words,
        raised=stream.labels.crossed_at, doubt=harm.doubt,
    )  # fmt: skip


def attack_event(stream: Stream) -> Event | None:
    """The event of an alarm of attacks, as long as it is on; None without one."""
    watch = stream.perturbation
    if watch is None or not watch.slow.alarm or watch.alarm_since is None:
        return None
    return Event(
        "perturbation", stream.model, "evaluate_robustness", watch.alarm_since, watch.words
    )


def drift_event(stream: Stream, alarm: Alarm) -> Event:
    """The event of an alarm of drift; it says so where labels have shown that it does no harm."""
    since = drift_began(stream)
    assert since is not None, "an alarm has a time"
    return Event(
        "drift", stream.model, "evaluate", since, alarm.words,
        raised=stream.alarm_since, harmless=stream.harmless,
    )  # fmt: skip
