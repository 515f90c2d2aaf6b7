"""What the labels of each watched model say, and the event that harm is.

Evidence from labels is weighed at every look and stands in the state file of the stream, so it
survives a restart and begins anew with every champion.
"""

from dataclasses import dataclass, field

from models.base.logs import logger
from monitoring.evidence.accuracy_watch import Accuracy
from monitoring.evidence.labels.watch import Harm, LabelWatch
from monitoring.evidence.stream import Stream
from monitoring.loop.triggers import Event
from monitoring.records.store import RecordStore

log = logger("watcher")


@dataclass
class HarmWatches:
    """Weighs the labels of all models.

    Args:
        records: where requests and labels stand.
        c: labels per false alarm of harm at least, in the mean.
    """

    records: RecordStore
    c: float
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
            watch = self._watches[stream.model] = LabelWatch(stream.bundle, self.records, c=self.c)
        before, stream.labels = stream.labels, watch.look(stream.labels, now, since)
        if stream.labels != before:
            stream.save()
        observed = accuracy.observed
        harm = watch.judge(stream.labels, None if observed is None else observed.corrected)
        self._standing[stream.model] = harm
        if harm.alarm is not None and before.harm.alarm is None:
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

    def standing(self, model: str) -> Harm | None:
        """What the last look said; None where there was none."""
        return self._standing.get(model)

    def forget(self, model: str) -> None:
        """The model is gone."""
        self._watches.pop(model, None)
        self._standing.pop(model, None)


def harm_event(stream: Stream, harm: Harm) -> Event | None:
    """The event of an alarm of harm; None without one."""
    if harm.alarm is None:
        return None
    return Event(
        "accuracy", stream.model, "evaluate", harm.alarm.since, harm.words,
        raised=stream.labels.crossed_at, doubt=harm.doubt,
    )  # fmt: skip
