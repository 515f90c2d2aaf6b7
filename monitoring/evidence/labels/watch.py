"""All evidence from the labels of one champion, weighed as they come in.

Each label is weighed once, in the order in which labels were first written. An interval of 100
requests is closed when labels came for later requests and it is older than nine in ten labels
take: labels of newer requests may still be under way, and a change of the traffic would look like a
choice of what gets labels.
"""

import math

import msgspec
import numpy as np

from models.versions.bundle import Bundle
from monitoring.evidence.accuracy_estimate import Facts, evidence_of
from monitoring.evidence.labels import harm, labelling, thumbs_up
from monitoring.evidence.labels.biases import ONLY_FLAGGED, THUMBS_UP
from monitoring.evidence.labels.harm import HarmAlarm, HarmEvidence
from monitoring.evidence.labels.labelling import INTERVAL, LabellingEvidence
from monitoring.evidence.labels.poststratified import Poststratified
from monitoring.evidence.labels.thumbs_up import ThumbsUpEvidence
from monitoring.evidence.performance import accuracy_floor, promised_accuracy
from monitoring.records.store import Recent, RecordStore

MOST_LABELS = 2000  # that one look weighs; the next goes on
MOST_INTERVALS = 20
DELAYED_LABELS = 500  # latest labels that the usual delay is taken from
USUAL = 0.9  # quantile of the delay


class LabelState(msgspec.Struct, frozen=True):
    """What is known from labels, and up to where they were weighed: small, and plain data.

    Args:
        harm, labelling, thumbs_up: the evidence.
        crossed_at: when the evidence of harm was last seen to reach its threshold, in epoch
            seconds; 0: never.
        label: number of the last label that was weighed.
        labelled: highest `seq` of a request whose label was weighed.
        request: `seq` of the last request of a closed interval.
        sound: whether the answers to the intervals that were closed last are right often enough
            even if every one without a label was wrong.
        only_flagged: whether requests that are not flagged are not recorded, and so get no label.
    """

    harm: HarmEvidence = HarmEvidence()
    labelling: LabellingEvidence = LabellingEvidence()
    thumbs_up: ThumbsUpEvidence = ThumbsUpEvidence()
    crossed_at: float = 0.0
    label: int = 0
    labelled: int = 0
    request: int = 0
    sound: bool = False
    only_flagged: bool = False

    def bias(self, classes: tuple[str, ...]) -> str:
        """Why labels do not speak for all requests, in words; empty where no reason is known.

        Where no harm can hide in the requests without a label, fewer wrong answers than promised
        are a better model.
        """
        choice = self.labelling.choice
        kept_back = self.thumbs_up.seen and not self.sound
        reasons = [ONLY_FLAGGED] if self.only_flagged else []
        reasons += [THUMBS_UP] if kept_back else []
        return "; ".join([*reasons, choice.words(classes)] if choice is not None else reasons)


class Harm(msgspec.Struct, frozen=True):
    """Whether the champion is worse than promised, as far as its labels tell.

    Args:
        labels: that were weighed.
        evidence_log10, threshold_log10: the alarm is raised where the first reaches the second.
        floor: accuracy below which there is harm; NaN: no accuracy was promised.
        alarm: the alarm that is on.
        doubt: why the alarm starts nothing: its labels are no random sample, and the accuracy
            that is corrected for that is not below the floor. Empty: nothing speaks against it.
        words: how it stands, as a sentence.
        promise: what the threshold promises, in words.
    """

    labels: int
    evidence_log10: float
    threshold_log10: float
    floor: float
    alarm: HarmAlarm | None
    doubt: str
    words: str
    promise: str

    @property
    def acts(self) -> bool:
        """Whether the loop is to act on it."""
        return self.alarm is not None and not self.doubt


class LabelWatch:
    """Weighs the labels of one version.

    Args:
        bundle: of the version.
        records: where its requests and labels stand.
        c: labels per false alarm of harm at least, in the mean.
        only_flagged: whether requests that are not flagged are not recorded.
    """

    def __init__(
        self, bundle: Bundle, records: RecordStore, *, c: float, only_flagged: bool = False
    ) -> None:
        self.bundle, self.c, self._only_flagged = bundle, c, only_flagged
        self._records = records
        self._facts = Facts.of(bundle.reference)
        self._promised = promised_accuracy(bundle.manifest.evaluation)
        self.floor = accuracy_floor(self._promised)
        self._model, self._version = bundle.manifest.model, bundle.manifest.version

    def look(self, state: LabelState, now: float, since: float = 0.0) -> LabelState:
        """Weigh the labels that came since the last look.

        Args:
            state: of the last look.
            now: seconds since the epoch.
            since: labels of requests before it do not count.

        Raises:
            StoreError: the records cannot be read; the state is as before.
        """
        if self._records.newest() < max(state.labelled, state.request):  # a new store begins anew
            state = msgspec.structs.replace(state, label=0, labelled=0, request=0)
        if state.only_flagged != self._only_flagged:
            state = msgspec.structs.replace(state, only_flagged=self._only_flagged)
        return self._close_intervals(self._weigh_labels(state, now, since), now, since)

    def judge(self, state: LabelState, corrected: Poststratified | None) -> Harm:
        """How the champion stands.

        Args:
            state: as of the last look.
            corrected: the observed accuracy, corrected for which requests got labels; None where
                that is not possible.
        """
        evidence, alarm = state.harm, state.harm.alarm
        return Harm(
            labels=evidence.labels,
            evidence_log10=evidence.log10_r,
            threshold_log10=math.log10(self.c),
            floor=self.floor,
            alarm=alarm,
            doubt="" if alarm is None else self._doubt(state, corrected),
            words=self._words(evidence),
            promise=harm.promise(self.floor, self.c),
        )

    def _words(self, evidence: HarmEvidence) -> str:
        alarm = evidence.alarm
        if not harm.can_judge(self.floor):
            return "no accuracy was promised: nothing can fall below it"
        if alarm is None:
            return f"no harm is seen in {evidence.labels} labels"
        assert self._promised is not None
        return (
            f"harm: {alarm.right} of {alarm.of} labelled answers were right "
            f"({alarm.right / alarm.of:.1%}), expected {self._promised.value:.1%}, "
            f"floor {self.floor:.1%}"
        )

    def _doubt(self, state: LabelState, corrected: Poststratified | None) -> str:
        """Thumbs-up-only labels can hide harm and never feign it; a choice of hard requests can."""
        if state.only_flagged:
            return ONLY_FLAGGED
        choice = state.labelling.choice
        if choice is None or (corrected is not None and corrected.high < self.floor):
            return ""
        words = f"labels are no random sample: {choice.words(self.bundle.manifest.classes)}"
        if corrected is None:
            return f"{words}; the accuracy cannot be corrected for that"
        return (
            f"{words}; the accuracy corrected for that is {corrected.value:.1%} "
            f"({corrected.low:.1%} to {corrected.high:.1%}), not below the floor of "
            f"{self.floor:.1%}"
        )

    def _weigh_labels(self, state: LabelState, now: float, since: float) -> LabelState:
        labels = self._records.labels_after(
            self._model, self._version, state.label, MOST_LABELS, since=since
        )
        if not len(labels):
            return state
        worse = harm.update(state.harm, labels.right, labels.at, floor=self.floor, c=self.c)
        praise = state.thumbs_up
        if self._facts is not None:
            chance = self._facts.right(
                evidence_of(labels.confidence, labels.entropy, labels.p_value)
            )
            praise = thumbs_up.update(praise, labels.right, chance)
        crossed = worse.crossed_at > state.harm.crossed_at
        return msgspec.structs.replace(
            state,
            harm=worse,
            thumbs_up=praise,
            crossed_at=now if crossed else min(state.crossed_at, now),
            label=int(labels.number[-1]),
            labelled=max(state.labelled, int(labels.seq.max())),
        )

    def _close_intervals(self, state: LabelState, now: float, since: float) -> LabelState:
        if state.request >= state.labelled:
            return state
        requests = self._records.following(
            self._model, self._version, state.request, MOST_INTERVALS * INTERVAL, since=since
        )
        if len(requests) < INTERVAL:
            return state
        delays = self._records.label_delays(self._model, self._version, DELAYED_LABELS)
        latest = now - float(np.quantile(delays, USUAL)) if len(delays) else now
        chosen, classes = state.labelling, len(self.bundle.manifest.classes)
        request, sound = state.request, state.sound
        for start in range(0, len(requests) - INTERVAL + 1, INTERVAL):
            rows = np.s_[start : start + INTERVAL]
            if requests.seq[rows][-1] >= state.labelled or requests.at[rows].max() > latest:
                break
            chosen = _weigh_interval(chosen, requests, rows, classes)
            request = int(requests.seq[rows][-1])
        closed = requests.seq <= request
        if closed.any():
            right = requests.labelled & (requests.predicted == requests.label)
            sound = bool(np.mean(right[closed]) >= self.floor)  # never where nothing was promised
        return msgspec.structs.replace(state, labelling=chosen, request=request, sound=sound)


def _weigh_interval(
    evidence: LabellingEvidence, requests: Recent, rows: slice, classes: int
) -> LabellingEvidence:
    return labelling.update(
        evidence,
        requests.confidence[rows],
        requests.p_value[rows],
        requests.predicted[rows],
        requests.labelled[rows],
        classes=classes,
    )
