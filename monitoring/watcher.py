"""The watcher: look at the counters, weigh the evidence, start the loop. One tick reads all.

It runs beside the service, never in the request path; losing it costs no prediction.
"""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec

from models.errors import BundleError, HoldfastError, RegistryError
from models.registry import Registry
from models.stats import Proportion, proportion
from monitoring import counters
from monitoring.accuracy_watch import Accuracy, AccuracyWatch
from monitoring.evidence import Alarm
from monitoring.explanation import explain
from monitoring.jobs import UNFINISHED, Job, JobStore
from monitoring.logs import logger
from monitoring.performance import expected_accuracy, has_fallen
from monitoring.pulse import Pulse
from monitoring.records import RecordStore
from monitoring.schedule import DueTimes, Timetable
from monitoring.stream import Stream, references
from monitoring.triggers import DAY, Decision, Event, Policy, Situation, decide
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
    _refused: dict[tuple[str, str], str] = field(default_factory=dict)
    _broken: dict[str, int] = field(default_factory=dict)
    _pruned_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    pulse: Pulse = field(init=False)
    due_times: DueTimes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.plan.interval_seconds)
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
                self.consider(event, now)
                if event.source == "schedule" and self.due_times is not None:
                    self.due_times.done(model, now)  # after: one that was not answered comes again
            self._show_accuracy(stream, now)
        if now - self._pruned_at > PRUNE_EVERY:
            self._pruned_at = now
            self.records.prune(self.plan.records_kept)
        self.metrics.tick.set(now)
        self.pulse.end()

    def consider(self, event: Event, now: float, options: dict[str, Any] | None = None) -> Decision:
        """Decide on an event and start the job, or count the refusal (once per change of it)."""
        with self._lock:
            decision = decide(event, self.situation(event, now), self.plan.policy, now)
            if decision.start is not None:
                job = self._job(event, decision, now, options or {})
                log.info("job_started", job=job.id, kind=job.kind, model=job.model, why=job.reason)
                self.start_job(job)
                self._refused.pop((event.model, event.source), None)
                return Decision(decision.start, None, job.id)
            key, name = (event.model, event.source), str(decision.refusal)
            if self._refused.get(key) != name or event.source in ("alert", "person"):
                self._refused[key] = name
                self.metrics.refusals.labels(name).inc()
                log.info(
                    "job_refused",
                    model=event.model,
                    source=event.source,
                    refusal=name,
                    why=decision.detail,
                )
            return decision

    def situation(self, event: Event, now: float) -> Situation:
        """What the decision rests on, from registry, jobs and records."""
        try:
            champion = self.registry.aliases(event.model).champion
        except RegistryError:
            champion = None
        jobs = self.jobs.all(event.model)
        ours = [j for j in jobs if j.champion == champion and j.evaluation]
        judged = [j for j in ours if j.evaluation["verdict"] != "inconclusive"]
        labels = 0
        if champion is not None:
            since = self._since(event)
            labels = len(self.records.observed(event.model, champion, 5000, since=since))
        return Situation(
            champion=champion,
            running=next((j.id for j in jobs if j.state in UNFINISHED), None),
            labels_since=labels,
            judged_at=max((j.evaluation["at"] for j in judged), default=None),
            looked_at=max((j.evaluation["at"] for j in ours), default=None),
            labels_seen=ours[0].evaluation["window"]["n"] if ours else 0,
            runs_today=sum(j.created_at > now - DAY for j in jobs),
            pinned=self.plan.serves.get(event.model),
        )

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
        since = self._champion_since(stream.model)
        right = self.records.observed(stream.model, stream.version, OBSERVED_ROWS, since=since)
        return proportion(right)

    def _since(self, event: Event) -> float:
        """From when on labels count: a new champion, or an old one that came back, starts anew.

        A person may reach further back.
        """
        if event.source == "person":
            return event.since
        return max(event.since, self._champion_since(event.model))

    def _champion_since(self, model: str) -> float:
        """When the champion became it, in seconds since the epoch; 0 where nothing is known.

        A pinned version has no reign that begins or ends.
        """
        changed, champion = 0.0, None
        if self.plan.serves.get(model) is not None:
            return changed
        try:
            audit = self.registry.audit(model)
        except RegistryError:
            return 0.0
        for record in audit:
            if record.aliases.champion != champion:
                champion = record.aliases.champion
                changed = datetime.fromisoformat(record.at).timestamp()
        return changed

    def _show_accuracy(self, stream: Stream, now: float) -> None:
        """For people only: it starts nothing, and its failure stops nothing."""
        try:
            watch = self.accuracies.get(stream.model)
            if watch is None or watch.bundle is not stream.bundle:
                watch = self.accuracies[stream.model] = AccuracyWatch(stream.bundle, self.records)
            told = watch.look(stream.evidence, now, self._champion_since(stream.model))
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

    def _job(self, event: Event, decision: Decision, now: float, options: dict[str, Any]) -> Job:
        champion = self.registry.aliases(event.model).champion
        if champion is None or decision.start is None:
            raise HoldfastError(f"model {event.model!r} has no champion")
        job = Job(
            id=f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
            kind=decision.start,
            model=event.model,
            champion=champion,
            source=event.source,
            reason=event.reason,
            since=self._since(event),
            created_at=now,
            options=options,
        )
        return self.jobs.put(job)

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
