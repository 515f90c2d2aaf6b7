"""What makes each alert happen, said in the metrics that service and watcher really export.

`Scene` holds two instances of the service's metrics and the watcher's; Prometheus scrapes them by
HTTP. A cause is switched on and off; counters go on at every scrape while it is on. Each alert of a
model has a model of its own, so that none holds another one back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import generate_latest

from monitoring.counting.metrics import Metrics
from monitoring.loop.metrics import WatchMetrics

HOUR, DAY = 3600.0, 86_400.0
CELLS = tuple(f"{cell:02d}" for cell in range(4))
SERVICE = "http://127.0.0.1:1"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Page:
    """What one process answers when it is scraped."""

    expose: Callable[[], bytes]
    broken: bool = False

    def answer(self) -> Answer:
        """The metrics, or an error while it is broken."""
        if self.broken:
            return 500, {}, b"broken"
        return 200, {"Content-Type": "text/plain; version=0.0.4"}, self.expose()


@dataclass
class Errors:
    """Requests and server errors that the service counts at every scrape."""

    requests: int = 1000
    failed: int = 0


@dataclass
class Scene:
    """Service and watcher, as far as Prometheus sees them."""

    service: Metrics = field(default_factory=Metrics)
    second: Metrics = field(default_factory=Metrics)
    watch: WatchMetrics = field(default_factory=WatchMetrics)
    errors: Errors = field(default_factory=Errors)
    on: set[str] = field(default_factory=set)
    looking: bool = True

    def __post_init__(self) -> None:
        self.service_page, self.second_page = Page(self._serve), Page(self._serve_second)
        self.watch_page = Page(self._watch)
        for name in CAUSES:
            self.set(name, on=False)

    def set(self, alert: str, *, on: bool) -> None:
        """Begin or end the cause of an alert; a cause that is set again is said again."""
        (self.on.add if on else self.on.discard)(alert)
        if alert in GAUGES:
            GAUGES[alert](self.watch, name_model(alert), on)
        if alert in COUNTERS:
            COUNTERS[alert](self, name_model(alert), 0)

    def restart_watcher(self) -> None:
        """A new process: it has counted nothing, and shows nothing before it has looked."""
        self.watch, self.looking = WatchMetrics(), False

    def look(self) -> None:
        """The first look of a new watcher finds what the one before had found."""
        for name in CAUSES:
            self.set(name, on=name in self.on)
        self.looking = True

    def _serve(self) -> bytes:
        for name in self.on & COUNTERS.keys():
            COUNTERS[name](self, name_model(name), 1)
        self._count_requests()
        return generate_latest(self.service.registry)

    def _count_requests(self) -> None:
        requests, failed = self.errors.requests, self.errors.failed
        for code, number in (("200", requests - failed), ("503", failed)):
            self.service.http_requests.labels("/predict", "POST", code).inc(number)
        slow = "HoldfastLatencyBurn" in self.on
        self.service.http_duration.labels("/predict").observe_all([0.5 if slow else 0.001] * 1000)
        for model in ("HoldfastChannelShift", "HoldfastFeedbackSilent"):
            predicted = self.service.predictions.labels(name_model(model), "1", "0")
            predicted.inc(100)

    def _serve_second(self) -> bytes:
        return generate_latest(self.second.registry)

    def _watch(self) -> bytes:
        stale = "HoldfastWatcherStale" in self.on
        if self.looking:
            self.watch.looked(time.time() - (100.0 if stale else 0.0))
        return generate_latest(self.watch.registry)


def name_model(alert: str) -> str:
    """The model that an alert is made to happen to."""
    return alert.removeprefix("Holdfast").lower()


Show = Callable[[WatchMetrics, str, bool], None]
Count = Callable[[Scene, str, int], None]


def _drift(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.evidence.labels(model, "energy").set(7.0)
    watch.alarm.labels(model).set(on)


def _attack(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.attacks.labels(model, "slow").set(7.0)
    watch.attack_alarm.labels(model).set(on)


def _harm(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.observed.labels(model).set(0.7)
    watch.floor.labels(model).set(0.9)
    watch.harm_alarm.labels(model).set(on)


def _estimate(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.expected.labels(model).set(0.98)
    watch.estimated.labels(model, "high").set(0.8 if on else 0.98)
    watch.observed_labels.labels(model).set(3)


def _silent(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.usual_gap.labels(model).set(600.0)
    watch.standing.labelled_at.labels(model).set(time.time() - (2 * HOUR if on else 0.0))


def _reference(watch: WatchMetrics, model: str, on: bool) -> None:
    for cell in CELLS:
        watch.reference.labels(model, "1", "energy", cell).set(1 / len(CELLS))


def _problem(problem: str) -> Show:
    def show(watch: WatchMetrics, model: str, on: bool) -> None:
        watch.problem.labels(model, problem).set(on)

    return show


def _unread(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.service_up.labels(SERVICE).set(not on)


def _stalled(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.stalled.labels(model).set(on)


def _stage(stage: str, seconds: float) -> Show:
    def show(watch: WatchMetrics, model: str, on: bool) -> None:
        since = time.time() - seconds if on else 0.0
        watch.standing.stage_since.labels(model, stage).set(since)

    return show


def _expiring(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.deadline.labels(model).set(time.time() + HOUR if on else 0.0)


def _gives_up(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.touch(model)


def _spent(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.budget_left.labels(model).set(0 if on else 3)


def _overdue(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.due_at.labels(model).set(time.time() + (-3 * HOUR if on else HOUR))


def _stale(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.made_at.labels(model, "1").set(time.time() - (100 * DAY if on else 0.0))


def _unknown(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.unknown.labels(model, "version_made").set(on)


def _held(watch: WatchMetrics, model: str, on: bool) -> None:
    since = time.time() - 2 * DAY if on else 0.0
    watch.standing.held_since.labels(model, "never").set(since)


def _disk(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.standing.free_bytes.set(5e8 if on else 1e12)


def _biased(watch: WatchMetrics, model: str, on: bool) -> None:
    watch.biased.labels(model).set(on)


def _probe(scene: Scene, model: str, times: int) -> None:
    scene.service.flagged.labels(model, "query").inc(20 * times)


def _shift(scene: Scene, model: str, times: int) -> None:
    for cell, rows in zip(CELLS, (380, 10, 10, 0) if times else (0,) * 4, strict=True):
        scene.service.cell_observations.labels(model, "1", "energy", cell).inc(rows)


def _reload(scene: Scene, model: str, times: int) -> None:
    scene.service.reload_failures.labels(model).inc(times)


def _drop(scene: Scene, model: str, times: int) -> None:
    scene.service.dropped["store"].inc(5 * times)


def _lead_nowhere(scene: Scene, model: str, times: int) -> None:
    """Three runs, as no loop has more of them in the time of this test."""
    led = scene.watch.runs.labels(model, "retrain", "refused")
    if led._value.get() < 3:
        led.inc(times)


def _load(scene: Scene, model: str, times: int) -> None:
    """Version 2 comes, and the second instance has it only when the cause is over."""
    on = "HoldfastVersionsDiffer" in scene.on
    first, second = (each.model_loaded for each in (scene.service, scene.second))
    newest = first.labels(model, "2")._value.get()
    if on and not newest:
        first.labels(model, "2").set(time.time())
    for loaded in (first, second):
        if not loaded.labels(model, "1")._value.get():
            loaded.labels(model, "1").set(time.time())
    if newest and not on:
        second.labels(model, "2").set(time.time())


GAUGES: dict[str, Show] = {
    "HoldfastDrift": _drift,
    "HoldfastPerturbationRate": _attack,
    "HoldfastObservedAccuracyLow": _harm,
    "HoldfastEstimatedAccuracyLow": _estimate,
    "HoldfastLabelsBiased": _biased,
    "HoldfastFeedbackSilent": _silent,
    "HoldfastChannelShift": _reference,
    "HoldfastModelBroken": _problem("alias_file"),
    "HoldfastWatchImpaired": _problem("records"),
    "HoldfastWatcherBlind": _problem("model_unwatched"),
    "HoldfastCountersStill": _problem("counters_still"),
    "HoldfastServiceUnread": _unread,
    "HoldfastJobStalled": _stalled,
    "HoldfastJobStuck": _stage("training", 2 * HOUR),
    "HoldfastApprovalWaiting": _stage("approval", HOUR),
    "HoldfastApprovalExpiring": _expiring,
    "HoldfastLoopGivesUp": _gives_up,
    "HoldfastBudgetSpent": _spent,
    "HoldfastEvaluationOverdue": _overdue,
    "HoldfastModelStale": _stale,
    "HoldfastFigureUnknown": _unknown,
    "HoldfastLoopHeld": _held,
    "HoldfastStateDiskLow": _disk,
}
COUNTERS: dict[str, Count] = {
    "HoldfastQueryAttack": _probe,
    "HoldfastChannelShift": _shift,
    "HoldfastReloadFailing": _reload,
    "HoldfastRecordsDropped": _drop,
    "HoldfastLoopGivesUp": _lead_nowhere,
    "HoldfastVersionsDiffer": _load,
}
# What the scene looks up by itself; errors are `Scene.errors`, the service's end is its page's.
CAUSES = {*GAUGES, *COUNTERS, "HoldfastLatencyBurn", "HoldfastWatcherStale"}
