"""The watcher: look at the counters, weigh the evidence, start the loop. One tick reads all.

It runs beside the service, never in the request path; losing it costs no prediction.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec

from models.errors import BundleError, RegistryError
from models.registry import Registry
from models.stats import Proportion, proportion
from monitoring import counters
from monitoring.accuracy_watch import Accuracy, AccuracyWatch
from monitoring.dispatcher import Dispatcher
from monitoring.evidence import Alarm
from monitoring.explanation import explain
from monitoring.jobs import Job, JobStore
from monitoring.logs import logger
from monitoring.performance import expected_accuracy, has_fallen
from monitoring.pulse import Pulse
from monitoring.records import RecordStore
from monitoring.schedule import DueTimes, Timetable
from monitoring.stream import Stream, references
from monitoring.triggers import DAY, Event, Policy
from monitoring.watch_metrics import WatchMetrics

OBSERVED_ROWS = 500
PRUNE_EVERY = 300.0
FIRST_LOOK_SECONDS = 2.0  # at most: it is not ready before that
log = logger("watcher")


class Plan(msgspec.Struct, frozen=True):
    """What the watcher watches and how eagerly it acts."""

    services: tuple[str, ...]
    state: str
    interval_seconds: float
    c: float
    policy: Policy
    schedule: str = ""
    timezone: str = ""
    records_kept: int = 200_000
    serves: Mapping[str, int | None] = msgspec.field(default_factory=dict)  # and pinned to what


@dataclass
class Watcher:
    """Ticks over all models of the registry. `start_job` hands a stored job to the loop."""

    plan: Plan
    registry: Registry
    records: RecordStore
    jobs: JobStore
    metrics: WatchMetrics
    start_job: Callable[[Job], None]
    streams: dict[str, Stream] = field(default_factory=dict)
    accuracies: dict[str, AccuracyWatch] = field(default_factory=dict)
    _broken: dict[str, int] = field(default_factory=dict)
    _pruned_at: float = 0.0
    pulse: Pulse = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    due_times: DueTimes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.plan.interval_seconds)
        self.dispatcher = Dispatcher(
            self.plan.policy,
            self.plan.serves,
            self.registry,
            self.records,
            self.jobs,
            self.metrics,
            self.start_job,
        )
        if self.plan.schedule:
            timetable = Timetable(self.plan.schedule, self.plan.timezone)
            self.due_times = DueTimes(timetable, Path(self.plan.state) / "watch" / "schedule.json")
            zone, following = timetable.zone_shown(), timetable.following(time.time())
            log.info(
                "schedule", line=timetable.line, zone=zone, following=timetable.shown(following)
            )

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop; a failed tick is logged and the next one tries again."""
        pause = min(self.plan.interval_seconds, FIRST_LOOK_SECONDS)
        while not stop.wait(pause):
            pause = self.plan.interval_seconds
            try:
                self.tick(time.time())
            except Exception as error:
                self.pulse.fail(error)
                log.exception("tick_failed")

    def tick(self, now: float) -> None:
        """One look: counters, evidence, accuracy, triggers."""
        self.pulse.begin()
        looks = self._look()
        for model in self.registry.models():
            if self.plan.serves and model not in self.plan.serves:
                continue  # nothing asks it here
            stream = self._stream(model)
            if stream is None:
                continue
            alarm = stream.add(looks, now)
            if alarm is not None:
                stream.explained = explain(alarm, stream.bundle, self.records, now)
                stream.save()
                self._tell(stream, alarm)
            live = self._live(stream)
            self._show(stream, live)
            for event in self._events(stream, live, now):
                self.dispatcher.consider(event, now)
                if event.source == "schedule" and self.due_times is not None:
                    self.due_times.done(model, now)  # after: one that was not answered comes again
            self._show_accuracy(stream, now)
        if now - self._pruned_at > PRUNE_EVERY:
            self._pruned_at = now
            self.records.prune(self.plan.records_kept)
        self.metrics.tick.set(now)
        self.pulse.end()

    def finished(self, job: Job) -> None:
        """Count a job that ended and export what it found."""
        self.metrics.runs.labels(job.kind, job.outcome).inc()
        self._export(job)

    def remember(self) -> None:
        """Export what the last finished jobs found, after a start."""
        for job in reversed(self.jobs.all()):
            if job.state == "done":
                self._export(job)

    def _export(self, job: Job) -> None:
        for check in job.checks:
            self.metrics.gate.labels(job.model, check["name"]).set(check["passed"])
        if job.evaluation:
            self.metrics.evaluated_at.labels(job.model).set(job.evaluation["at"])

    def _look(self) -> Mapping[str, counters.Counts]:
        looks = {}
        for url in self.plan.services:
            try:
                looks[url] = counters.parse(counters.fetch(url))
            except (OSError, HTTPException, ValueError) as error:
                self.metrics.scrape_failures.inc()
                log.warning("service_unreachable", url=url, error=str(error))
        return looks

    def _stream(self, model: str) -> Stream | None:
        """The stream of what is served, a champion or pinned; a new version gets a fresh one."""
        champion = self.plan.serves.get(model) or self.registry.aliases(model).champion
        stream = self.streams.get(model)
        if champion is None or (stream is not None and stream.version == champion):
            return stream
        if self._broken.get(model) == champion:
            return stream
        try:
            bundle = self.registry.open(model, str(champion))
        except (BundleError, RegistryError) as error:
            self._broken[model] = champion
            log.error("champion_unusable", model=model, version=champion, error=str(error))
            return stream
        stream = Stream.open(bundle, Path(self.plan.state) / "watch", c=self.plan.c)
        self.streams[model] = stream
        self.metrics.show_version(bundle.manifest, references(bundle))
        log.info("watching", model=model, version=champion)
        return stream

    def _tell(self, stream: Stream, alarm: Alarm) -> None:
        log.warning(
            "drift_alarm",
            model=stream.model,
            version=stream.version,
            channel=alarm.channel,
            direction=alarm.direction,
            words=alarm.words,
            log10_evidence=round(alarm.log10_r, 2),
            threshold=round(stream.evidence.threshold_log10, 2),
            requests=alarm.requests,
            change_at=alarm.change_at,
            promise=stream.promise,
        )

    def _live(self, stream: Stream) -> Proportion:
        since = self.dispatcher.champion_since(stream.model)
        right = self.records.observed(stream.model, stream.version, OBSERVED_ROWS, since=since)
        return proportion(right)

    def _show_accuracy(self, stream: Stream, now: float) -> None:
        """For people only: it starts nothing, and its failure stops nothing."""
        try:
            watch = self.accuracies.get(stream.model)
            if watch is None or watch.bundle is not stream.bundle:
                watch = self.accuracies[stream.model] = AccuracyWatch(stream.bundle, self.records)
            told = watch.look(stream.evidence, now, self.dispatcher.champion_since(stream.model))
            self.metrics.show_accuracy(stream.model, told)
        except Exception:
            log.exception("accuracy_unknown", model=stream.model)

    def _show(self, stream: Stream, live: Proportion) -> None:
        for channel, value in stream.evidence.log10_evidence().items():
            self.metrics.evidence.labels(stream.model, channel).set(value)
        for channel, phi in stream.evidence.phi().items():
            self.metrics.dispersion.labels(stream.model, channel).set(phi)
        self.metrics.threshold.labels(stream.model).set(stream.evidence.threshold_log10)
        self.metrics.alarm.labels(stream.model).set(stream.evidence.alarm is not None)
        self.metrics.observed.labels(stream.model).set(live.value)
        self.metrics.observed_labels.labels(stream.model).set(live.n)

    def _events(self, stream: Stream, live: Proportion, now: float) -> list[Event]:
        events = []
        model, alarm = stream.model, stream.evidence.alarm
        if alarm is not None and stream.alarm_since is not None:
            events.append(Event("drift", model, "evaluate", stream.alarm_since, alarm.words))
        else:
            figures = stream.bundle.manifest.evaluation
            if has_fallen(live, figures):
                rows = self.records.labelled(
                    model, stream.bundle.manifest.input, limit=OBSERVED_ROWS, version=stream.version
                )
                since = float(rows.at[0])
                expected = expected_accuracy(figures)
                words = f"live accuracy {live.value:.1%} (n = {live.n}), expected {expected:.1%}"
                events.append(Event("accuracy", model, "evaluate", since, words))
        if self.due_times is not None and self.due_times.due(model, now):
            events.append(Event("schedule", model, "evaluate", now - DAY, "scheduled"))
        return events

    def _told(self, model: str) -> Accuracy:
        watch = self.accuracies.get(model)
        return Accuracy() if watch is None else watch.told

    def status(self) -> list[dict[str, Any]]:
        """What is watched and how it stands, as plain data for people."""
        rows = []
        for model, stream in self.streams.items():
            alarm = stream.evidence.alarm
            live = self._live(stream)
            rows.append(
                {
                    "model": model,
                    "version": stream.version,
                    "requests": stream.evidence.requests,
                    "evidence_log10": stream.evidence.log10_evidence(),
                    "threshold_log10": stream.evidence.threshold_log10,
                    "alarm": None if alarm is None else msgspec.to_builtins(alarm),
                    "alarm_since": stream.alarm_since,
                    "promise": stream.promise,
                    "last_alarm": msgspec.to_builtins(stream.explained),
                    "expected_accuracy": expected_accuracy(stream.bundle.manifest.evaluation),
                    "observed_accuracy": msgspec.to_builtins(live) if live.n else None,
                    "accuracy": msgspec.to_builtins(self._told(model)),
                    "aliases": msgspec.to_builtins(self.registry.aliases(model)),
                }
            )
        return rows
