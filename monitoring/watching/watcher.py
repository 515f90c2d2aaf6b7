"""The watcher: reads counters, weighs the evidence, and starts the loop; `tick` does all of it.

It runs beside the service and not in the request path, so predictions go on without it. Each part
of a look and each model is tried by itself: a part that fails becomes a problem with a name
(`monitoring.watching.problems`) and stops nothing else.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from models.base.errors import RegistryError
from models.base.logs import logger
from models.base.schedule import DueTimes, Timetable
from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from models.versions.registry import Registry
from models.versions.registry_state import Canary
from monitoring.counting.counters import Page, share_of_repeats
from monitoring.counting.repeats import MOST_PROBABLE
from monitoring.evidence.accuracy_watch import Accuracy, AccuracyWatch
from monitoring.evidence.channels import Alarm
from monitoring.evidence.explanation import Explanation, explain
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.stream import Stream
from monitoring.loop.deciding.waits import Wait, find_waits
from monitoring.loop.dispatcher import Dispatcher
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import DAY, Event
from monitoring.records.store import RecordStore, StoreError
from monitoring.watching.acceptance import Acceptances
from monitoring.watching.harm import (
    HarmWatches,
    attack_event,
    drift_event,
    harm_event,
    window_since,
)
from monitoring.watching.pictures import Pictures
from monitoring.watching.plan import WatchPlan as WatchPlan
from monitoring.watching.problems import ALL_MODELS, Problem, Problems, Result, in_words
from monitoring.watching.pruning import prune_state
from monitoring.watching.pulse import Pulse
from monitoring.watching.services import Services
from monitoring.watching.sources.scraped import services_of
from monitoring.watching.standing import Standings
from monitoring.watching.stillness import Stillness
from monitoring.watching.watched import SCHEDULE_FILE, WatchedVersions

OBSERVED_ROWS = 500
PRUNE_EVERY = 300.0
FIRST_LOOK_SECONDS = 2.0  # at most: it is not ready before that
log = logger("watcher")


@dataclass
class Watcher:
    """Watches all models of the registry. `start_job` gives a stored job to the loop."""

    plan: WatchPlan
    registry: Registry
    records: RecordStore
    jobs: JobStore
    metrics: WatchMetrics
    start_job: Callable[[Job], None]
    accuracies: dict[str, AccuracyWatch] = field(default_factory=dict)
    _still: dict[str, Stillness] = field(default_factory=dict)
    _store_away: Exception | None = None  # in this look: it is not waited for twice
    _pruned_at: float = 0.0
    _remembered: bool = True
    pulse: Pulse = field(init=False)
    problems: Problems = field(init=False)
    services: Services = field(init=False)
    watched: WatchedVersions = field(init=False)
    harms: HarmWatches = field(init=False)
    acceptances: Acceptances = field(init=False)
    standings: Standings = field(init=False)
    pictures: Pictures = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    due_times: DueTimes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        plan, folder = self.plan, Path(self.plan.state) / "watch"
        self.pulse = Pulse(plan.interval_seconds)
        self.problems = Problems(self.metrics.problem, self.metrics.problems)
        self.services = services_of(plan.services, plan.prometheus, self.metrics)
        self.watched = WatchedVersions(
            self.registry, plan.serves, folder, plan.c, self.problems, self._show_version
        )
        self.harms = HarmWatches(self.records, plan.c, plan.records_kept.only_flagged)
        self.acceptances = Acceptances(self.registry, folder)
        self.pictures = Pictures(folder / "rings")
        parts = self.registry, self.jobs, self.metrics, self.start_job
        self.dispatcher = Dispatcher(plan.policy, plan.serves, *parts)
        self.standings = Standings(
            plan.policy, Path(plan.state), self.registry, self.jobs, self.records, self.metrics,
            lambda model: 0.0 if self.due_times is None else self.due_times.next_at(model),
        )  # fmt: skip
        if plan.schedule:
            timetable = Timetable(plan.schedule, plan.timezone)
            self.due_times = DueTimes(timetable, folder / SCHEDULE_FILE)
            zone, following = timetable.describe_zone(), timetable.following(time.time())
            next_time = timetable.render_time(following)
            log.info("schedule", line=timetable.line, zone=zone, following=next_time)

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams that are weighed, by model."""
        return self.watched.streams

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
        """One look: counters, evidence, accuracy, triggers, of every model."""
        self.pulse.begin()
        self._store_away = None
        pages = self.services.look(now)
        before, models = self.watched.names, self.watched.models(now)
        for model in set(before) - set(models):
            self._forget(model)
        for model in models:
            self.problems.attempt(
                model, "unexpected", now, partial(self._look_at, model, pages, now)
            )
        if not 0 <= now - self._pruned_at <= PRUNE_EVERY:
            self._pruned_at = now
            kept, state = self.plan.records_kept, Path(self.plan.state)
            prune = partial(prune_state, state, kept, self.records, self.jobs, now)
            self._ask_store(ALL_MODELS, "prune", now, prune)
        self.problems.attempt(ALL_MODELS, "disk", now, partial(self.standings.show_disk, now))
        if not self._remembered:
            self.remember()
        self.metrics.looked(now)
        self.pulse.end()

    def _look_at(self, model: str, pages: Mapping[str, Page], now: float) -> None:
        """Do all parts of a look at one model; a part that fails does not stop the others."""
        stream = self.watched.find(model, now)
        if stream is None:
            return
        self._look_for_movement(stream, pages, now)
        if self.problems.attempt(
            model, "acceptance", now, partial(self.acceptances.follow, stream)
        ):
            self._show_references(stream, now)
        self._weigh(stream, pages, now)
        live = self._ask_store(model, "records", now, partial(self.observe, stream))
        if live is not None:
            self.metrics.observed.labels(model).set(live.value)
            self.metrics.observed_labels.labels(model).set(live.n)
        harm = self._ask_store(model, "labels", now, partial(self._weigh_labels, stream, now))
        answer = partial(self._answer, self._events(stream, harm, now), now)
        self._ask_store(model, "trigger", now, answer)
        if self.due_times is not None:
            self._tell(model, "schedule_state", self.due_times.fault, now)
        self._ask_store(model, "accuracy", now, partial(self._show_accuracy, stream, now))
        self._ask_store(model, "standing", now, partial(self._show_standing, stream, now))
        draw = partial(self.pictures.note, stream, pages, self.accuracy(model), now)
        self.problems.attempt(model, "pictures", now, draw)

    def _answer(self, events: list[Event], now: float) -> None:
        for event in events:
            self.dispatcher.consider(event, now)
            if event.source == "schedule" and self.due_times is not None:
                self.due_times.done(event.model, now)  # after: one not answered comes again

    def _ask_store(
        self, model: str, problem: Problem, now: float, ask: Callable[[], Result]
    ) -> Result | None:
        """As `Problems.attempt`; once the store was away, later parts do not wait for it."""

        def ask_once() -> Result:
            if self._store_away is not None:
                raise self._store_away
            try:
                return ask()
            except (StoreError, sa.exc.OperationalError) as error:
                self._store_away = error
                raise

        return self.problems.attempt(model, problem, now, ask_once)

    def _tell(self, model: str, problem: Problem, words: str | None, now: float) -> None:
        """Note the problem if there are words, clear it if they are empty; None: not known."""
        if words:
            self.problems.note(model, problem, words, now)
        elif words is not None:
            self.problems.clear(model, problem, now)

    def _look_for_movement(self, stream: Stream, pages: Mapping[str, Page], now: float) -> None:
        model, still = stream.model, self._still.get(stream.model)
        if still is None or still.version != stream.version:
            still = self._still[model] = Stillness(model, stream.version)
        canary = self._find_canary(model, now)
        verdict = still.look(pages, None if canary is None else canary.version)
        self._tell(model, "counters_still", verdict.still, now)
        self._tell(model, "model_unwatched", verdict.unseen, now)

    def _find_canary(self, model: str, now: float) -> Canary | None:
        """Return the canary of a model and export its share; NaN: the registry cannot be read."""
        try:
            canary = self.registry.state(model).find_canary(now)
        except (RegistryError, OSError):  # told as a problem of the alias file already
            self.metrics.canary_share.labels(model).set(math.nan)
            return None
        self.metrics.canary_share.labels(model).set(0.0 if canary is None else canary.share)
        return canary

    def _weigh(self, stream: Stream, pages: Mapping[str, Page], now: float) -> None:
        model, cells = stream.model, {name: page.cells for name, page in pages.items()}
        services, chance = self.services, stream.bundle.manifest.calibration.repeat_probability
        looked_for = chance is not None and chance <= MOST_PROBABLE
        stream.repeats = share_of_repeats(pages.values(), model) if looked_for else None
        add = partial(stream.add, cells, now, services.distrusted, services.restarted)
        alarm = self.problems.attempt(model, "evidence", now, add)
        note = partial(self.acceptances.note, stream, now, raised=alarm is not None)
        self.problems.attempt(model, "history", now, note)
        if alarm is not None:
            self._log_alarm(stream, alarm)
            explanation = self.problems.attempt(
                model, "explanation", now, partial(self._explain, stream, alarm, now)
            )
            if explanation is not None:
                stream.explained = explanation
                stream.save()
        elif stream.evidence.alarm is None:
            self.problems.clear(model, "explanation", now)
        if stream.attacked and stream.perturbation is not None:
            words = stream.perturbation.words
            log.warning("attack_alarm", model=model, version=stream.version, words=words)
        ours = f"{model}/{stream.version}/"
        spoiled = {
            f"{name} has a value in {channel} that is no count"
            for name, page in pages.items()
            for channel in page.spoiled
            if channel.startswith(ours)
        }
        words = "; ".join(sorted(stream.refused | spoiled))
        self._tell(model, "counters_refused", words, now)
        self._tell(model, "evidence_state", stream.fault or stream.noticed, now)
        self.metrics.show_stream(stream)

    def _explain(self, stream: Stream, alarm: Alarm, now: float) -> Explanation:
        when = self.acceptances.history(stream).when
        return explain(alarm, stream.bundle, self.records, now, when)

    def _forget(self, model: str) -> None:
        """Forget a model that has left the registry, with its metrics and problems."""
        self.watched.forget(model)
        self.accuracies.pop(model, None)
        self.harms.forget(model)
        self.standings.forget(model)
        self.acceptances.forget(model)
        self.pictures.forget(model)
        self._still.pop(model, None)
        self.problems.forget(model)
        self.metrics.forget(model)
        log.info("model_gone", model=model)

    def count_job(self, job: Job) -> None:
        """Count a job that ended and export its results."""
        self.metrics.count_job(job)
        self._export(job)

    def remember(self) -> None:
        """Export the results of the last finished jobs after a start, once the store answers."""
        try:
            jobs = self.jobs.all()
        except sa.exc.SQLAlchemyError as error:
            log.warning("jobs_not_remembered", reason=in_words(error))
            self._remembered = False
            return
        self._remembered = True
        for job in reversed(jobs):
            if job.state == "done":
                self._export(job)

    def _export(self, job: Job) -> None:
        try:
            self.metrics.show_job(job)
        except Exception:  # figures of a child of another version, say: the job ends all the same
            log.exception("job_not_exported", job=job.id)

    def _show_version(self, stream: Stream, now: float) -> None:
        manifest, compared = stream.bundle.manifest, stream.evidence.references
        show = partial(self.metrics.show_version, manifest, compared)
        self.problems.attempt(stream.model, "figures", now, show)

    def _show_references(self, stream: Stream, now: float) -> None:
        version, compared = str(stream.version), stream.evidence.references
        show = partial(self.metrics.show_references, stream.model, version, compared)
        self.problems.attempt(stream.model, "figures", now, show)

    def _log_alarm(self, stream: Stream, alarm: Alarm) -> None:
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
            onset=[alarm.onset.first, alarm.onset.last],
            promise=stream.promise,
        )

    def observe(self, stream: Stream) -> Proportion:
        """Measure the live accuracy since the champion was promoted. Raises StoreError."""
        since = self.dispatcher.champion_since(stream.model)
        right = self.records.observed(stream.model, stream.version, OBSERVED_ROWS, since=since)
        return proportion(right)

    def _show_accuracy(self, stream: Stream, now: float) -> None:
        """For people only: it starts nothing."""
        watch = self.accuracies.get(stream.model)
        if watch is None or watch.bundle is not stream.bundle:
            watch = self.accuracies[stream.model] = AccuracyWatch(stream.bundle, self.records)
        since = self.dispatcher.champion_since(stream.model)
        bias = stream.labels.bias(stream.bundle.manifest.classes)
        accuracy = watch.look(stream.evidence, now, since, bias)
        self.metrics.show_accuracy(stream.model, accuracy)

    def _show_standing(self, stream: Stream, now: float) -> None:
        """What waits, and for whom: it starts nothing."""
        self.standings.show(stream, now)
        self.standings.show_labels(stream.model, now)

    def _weigh_labels(self, stream: Stream, now: float) -> Harm:
        since = self.dispatcher.champion_since(stream.model)
        harm = self.harms.look(stream, self.accuracy(stream.model), now, since)
        self.metrics.show_harm(stream.model, harm)
        return harm

    def _events(self, stream: Stream, harm: Harm | None, now: float) -> list[Event]:
        """Harm goes before drift: a look at once says what of both is true."""
        events = []
        model, alarm = stream.model, stream.evidence.alarm
        worse = None if harm is None else harm_event(stream, harm)
        if worse is not None:
            events.append(worse)
        if alarm is not None and (harm is None or not harm.acts):
            events.append(drift_event(stream, alarm))
        if (attack := attack_event(stream)) is not None:
            events.append(attack)
        if self.due_times is not None and self.due_times.due(model, now):
            events.append(Event("schedule", model, "evaluate", now - DAY, "scheduled"))
        return events

    def waits(self, model: str, now: float) -> list[Wait]:
        """Say why a model is not retrained yet. Raises StoreError where that cannot be told."""
        harm, stream = self.harms.standing(model), self.streams.get(model)
        return find_waits(
            model, self.registry, self.jobs, self.records, self.plan.serves.get(model),
            self.plan.needs, harm, None if stream is None else window_since(stream, harm), now,
        )  # fmt: skip

    def accuracy(self, model: str) -> Accuracy:
        """Return what is known about the model's live accuracy."""
        watch = self.accuracies.get(model)
        return Accuracy() if watch is None else watch.latest
