"""The live accuracy of one champion: with labels, without, and what a class shift makes of it.

It reads the records every few seconds, outside the request path. A look costs one query for the
latest requests and one run of the graph on at most 200 new inputs, however much traffic there was.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from models.base.errors import BundleError
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.runner import Runner
from monitoring.evidence.accuracy_estimate import (
    AccuracyEstimate,
    Facts,
    Floats,
    estimate,
    evidence,
)
from monitoring.evidence.channels import StreamEvidence
from monitoring.evidence.label_shift import LabelShift, label_shift
from monitoring.evidence.performance import Observed, observe
from monitoring.records.keeping.limits import NO_INPUTS
from monitoring.records.store import Recent, RecordStore

EVERY_SECONDS = 5.0
SURVEYED = 2000  # latest requests, whose coverage and classes are looked at
LABELLED = 500  # latest labelled requests, which the observed accuracy rests on
WINDOW, LEAST = 1000, 100  # inputs that the estimate rests on, at most and at least
NEW_MOST, NEW_LEAST = 200, 20  # inputs that one look runs through the graph
READ_BYTES = 1 << 26  # of records in one look; large inputs are surveyed fewer at a time
NO_FACTS = "the version was made without labelled rows, which the estimate is fitted on"
TOO_FEW = f"fewer than {LEAST} requests so far"
log = logger("watcher")


class Accuracy(msgspec.Struct, frozen=True):
    """What is known about the live accuracy; `absent` says why there is no estimate."""

    observed: Observed | None = None
    estimated: AccuracyEstimate | None = None
    absent: str = TOO_FEW
    label_shift: LabelShift | None = None  # only while the class channel alone has an alarm


def list_alarmed_channels(stream: StreamEvidence) -> list[str]:
    """List the channels that have an alarm, in the order of their names."""
    if stream.alarm is None:
        return []
    bar = stream.threshold_log10
    crossed = {name for name, value in stream.log10_evidence().items() if value >= bar}
    return sorted(crossed | {stream.alarm.channel})


class AccuracyWatch:
    """Looks at the records of one version; `latest` is the last result, replaced as a whole."""

    def __init__(self, bundle: Bundle, records: RecordStore) -> None:
        self.latest = Accuracy()
        self.bundle = bundle
        self._records = records
        self._facts = Facts.of(bundle.reference)
        self._runner = None if self._facts is None else _runner(bundle)
        self._classes = {c.name for c in bundle.manifest.channels if c.kind == "class"}
        # Evidence and p-value of the sampled requests, the latest last: `(n, 3 + 1)`.
        self._window: Floats = np.empty((0, 4))
        self._blind = False  # requests came, and none with its input
        self._seen = 0  # seq of the latest request that could be sampled
        self._looked_at = -EVERY_SECONDS
        schema = bundle.manifest.input
        row_bytes = schema.size * np.dtype(schema.dtype).itemsize
        self._affordable = max(NEW_LEAST, READ_BYTES // row_bytes)
        self._rng = np.random.default_rng(bundle.manifest.version)

    def look(
        self, stream: StreamEvidence, now: float, since: float = 0.0, bias: str = ""
    ) -> Accuracy:
        """Return what is known now; the records are read at most every 5 s.

        Args:
            stream: says which channels have an alarm.
            now: seconds since the epoch.
            since: labels of requests before it do not count.
            bias: why labelled requests do not speak for all; empty: no reason is known.

        Raises:
            StoreError: the records cannot be read.
        """
        if 0 <= now - self._looked_at < EVERY_SECONDS:
            return self.latest
        self._looked_at = now
        model, version = self.bundle.manifest.model, self.bundle.manifest.version
        recent = self._records.recent(model, version, min(SURVEYED, self._affordable))
        self._sample(recent)
        names = list_alarmed_channels(stream)
        shift = self._label_shift(stream, recent) if self._only_classes(names) else None
        estimated = self._estimate([name for name in names if name not in self._classes])
        absent = "" if estimated is not None else self._why_absent()
        if estimated is not None and shift is not None:
            estimated = widen_interval(estimated, shift)
        observed = observe(
            self._records.latest_labels(model, version, LABELLED, since=since),
            recent,
            self._records.label_delays(model, version, LABELLED),
            bias,
        )
        if estimated is not None:
            estimated = distrust_contradicted(estimated, observed)
        self.latest = Accuracy(observed, estimated, absent, shift)
        return self.latest

    def _only_classes(self, names: Sequence[str]) -> bool:
        return bool(names) and self._classes.issuperset(names)

    def _sample(self, recent: Recent) -> None:
        """Run some of the new requests through the graph and keep their scores."""
        new = recent.seq[recent.seq > self._seen]
        if self._runner is None or len(new) < NEW_LEAST:
            return
        self._seen = int(new[-1])
        most = min(NEW_MOST, self._affordable)
        sample = np.sort(self._rng.choice(new, min(most, len(new)), replace=False))
        x = self._records.inputs(sample.tolist(), self.bundle.manifest.input)
        self._blind = not len(x) and self._records.has_inputs(self.bundle.manifest.model) is False
        if not len(x):
            return
        answer = self._runner.run(x)
        scored = np.column_stack([evidence(answer), answer.drift_p_value])
        self._window = np.concatenate([self._window, scored])[-WINDOW:]

    def _estimate(self, alarms: Sequence[str]) -> AccuracyEstimate | None:
        if self._facts is None or len(self._window) < LEAST:
            return None
        return estimate(self._facts, self._window[:, :3], self._window[:, 3], alarms)

    def _why_absent(self) -> str:
        if self._facts is None:
            return NO_FACTS
        if self._blind:
            return NO_INPUTS
        return TOO_FEW if self._runner is not None else "the graph cannot be loaded; see the log"

    def _label_shift(self, stream: StreamEvidence, recent: Recent) -> LabelShift | None:
        assert stream.alarm is not None
        since = max(1, stream.requests - stream.alarm.onset.likely)
        classes = self.bundle.manifest.classes
        counts = np.bincount(recent.predicted[-since:], minlength=len(classes))
        return label_shift(self.bundle.reference, classes, counts.astype(np.float64))


def widen_interval(estimated: AccuracyEstimate, shift: LabelShift) -> AccuracyEstimate:
    """The estimate where only the class mix changed: its interval holds the re-weighted one's.

    The value stays: it follows the mix by itself, and errs less where few rows were held out.
    """
    return msgspec.structs.replace(
        estimated,
        low=min(estimated.low, shift.accuracy.low),
        high=max(estimated.high, shift.accuracy.high),
    )


def distrust_contradicted(estimated: AccuracyEstimate, observed: Observed) -> AccuracyEstimate:
    """The estimate, not trustworthy where unbiased labels contradict it: the intervals are apart.

    At least 100 labels are needed.
    """
    seen = observed.accuracy
    apart = seen.high < estimated.low or seen.low > estimated.high
    if observed.bias or seen.n < LEAST or not apart:
        return estimated
    words = f"{seen.n} labels contradict it: {seen.low:.1%} to {seen.high:.1%} are right"
    why = f"{estimated.why}; {words}" if estimated.why else words
    return msgspec.structs.replace(estimated, trustworthy=False, why=why)


def _runner(bundle: Bundle) -> Runner | None:
    try:
        return Runner(bundle)
    except BundleError as error:
        log.error("accuracy_not_estimated", model=bundle.name, error=str(error))
        return None
