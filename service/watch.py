"""The watcher's composition root: settings in, a worker that ticks, runs the loop and listens."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy.engine import make_url

from models.base import logs
from models.versions.registry import Registry
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.jobs import JobStore
from monitoring.loop.lifecycle import Lifecycle
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.supervisor import Supervisor, launch
from monitoring.loop.terms import Terms, Workplace
from monitoring.loop.triggers import Policy
from monitoring.records.database import engine_url, make_engine
from monitoring.records.lease import Lease
from monitoring.records.store import RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan
from service.access.guard import Guard, admin_secret, alert_secret, origins_of, watch_guard_of
from service.configuration.program import program_version
from service.configuration.settings import Settings
from service.configuration.state_locks import shares_state, try_watcher_lock
from service.telemetry import metrics as telemetry
from service.watcher import calls as watch_calls
from service.watcher.demo import Demo
from service.watcher.leading import Leadership, Parts, candidate_of, shares_lease
from service.web.access_log import AccessLog
from service.web.call import Endpoint
from service.web.errors import StateError
from service.web.front import Front, RequestBounds

LOCK_PATIENCE = 10.0
LEAVE_SECONDS = 4.0  # less than the master's patience with its worker
STORE_PATIENCE_SECONDS = 10.0
BODY_BYTES = 1 << 22  # a thousand alerts of Alertmanager with their texts are up to 2 MiB
HELD_BYTES = 1 << 25
THREADS = 4


class WatchApplication(Front):
    """The watcher's ASGI application and its threads; both end with the server."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        guard: Guard,
        log: AccessLog,
        settings: Settings,
        stop: threading.Event,
    ) -> None:
        bounds = RequestBounds(BODY_BYTES, settings.body_timeout_seconds, HELD_BYTES, THREADS)
        origins = origins_of(settings, settings.watch_host, guard)
        super().__init__(endpoints, guard, log.write, bounds, origins)
        self.stop = stop  # of the loop and of the ticks
        self.keep: list[object] = []  # locks that are held for as long as this lives
        self.leadership: Leadership | None = None  # None: no other watcher can lead
        self.sender: telemetry.MetricSender | None = None

    def close(self) -> None:
        """Finish running requests, stop ticking, and leave the jobs as they are.

        A thread that waits for a database could keep the process and its locks for ever, so the
        process exits after some seconds in any case.
        """
        leave = threading.Timer(LEAVE_SECONDS, os._exit, (0,))
        leave.daemon = True
        leave.start()
        self.stop.set()
        super().close()
        if self.leadership is not None:
            self.leadership.end()
        if self.sender is not None:
            self.sender.close()


def start(settings: Settings) -> WatchApplication:
    """Start ticking and resume unfinished jobs, or stand by; returns the HTTP application."""
    logs.configure(settings.log_level)
    keep, stop = _hold_state(settings), threading.Event()
    for secret in (admin_secret, alert_secret):
        secret(settings)  # made now, so that people find it, and a bad file is told at the start
    guard, log = watch_guard_of(settings), AccessLog(settings.access_log)
    watcher = _make_watcher(settings, None)
    calls, shown = _make_calls(settings, guard, watcher), watcher.metrics.registry
    begin: Callable[[], None] = partial(_begin, settings, watcher, None, stop)
    leadership: Leadership | None = None
    if shares_state(settings):
        leadership = _stand_by(settings, guard, Parts(calls, shown), stop)
        calls, begin = leadership.endpoints(), leadership.start
    app = WatchApplication(calls, guard, log, settings, stop)
    app.keep, app.leadership = keep, leadership

    def exported() -> CollectorRegistry:
        active = None if leadership is None else leadership.active
        return shown if active is None else active.metrics

    instance = telemetry.name_instance(settings.watch_port)
    app.sender = telemetry.start("holdfast-watcher", program_version(), instance, exported)
    begin()
    return app


def _stand_by(settings: Settings, guard: Guard, idle: Parts, stop: threading.Event) -> Leadership:
    """A watcher of several, which leads once it has the lease."""
    lease = Lease(settings.database_url, candidate_of(settings))
    address = make_url(settings.database_url).render_as_string(hide_password=True)
    _patiently(lambda: shares_lease(lease), f"the database {address}, for another state directory")

    def lead() -> Parts:
        watcher = _make_watcher(settings, lease)
        calls = _make_calls(settings, guard, watcher)
        watcher.metrics.leader.set_function(lambda: float(lease.leads()))
        _begin(settings, watcher, lease, stop)
        return Parts(calls, watcher.metrics.registry)

    def leave() -> None:
        stop.set()  # what runs is interrupted, its children end
        os.kill(os.getpid(), signal.SIGTERM)  # the master starts a new worker, which stands by

    return Leadership(lease, idle, lead, leave, stop)


def _make_watcher(settings: Settings, lease: Lease | None) -> Watcher:
    """A watcher that does not tick yet; what it writes into the store of jobs asks the lease."""
    engine = make_engine(settings.database_url, STORE_PATIENCE_SECONDS)
    jobs = JobStore(engine) if lease is None else JobStore(engine, lease.check_in)
    records, metrics = RecordStore(settings.database_url, later=True), WatchMetrics()
    metrics.leader.set(0 if shares_state(settings) else 1)
    registry = Registry(settings.registry_dir, settings.keys)
    return Watcher(plan_of(settings), registry, records, jobs, metrics, lambda job: None)


def _make_calls(settings: Settings, guard: Guard, watcher: Watcher) -> tuple[Endpoint, ...]:
    engine = make_engine(settings.database_url, STORE_PATIENCE_SECONDS)
    demo = Demo(watcher.registry, settings.service_url.split(",")[0], guard.tokens_needed)
    return watch_calls.endpoints(
        watcher, HandledAlerts(engine), time.time, demo,
        mode=settings.mode, min_labels=settings.min_labels,
    )  # fmt: skip


def _begin(
    settings: Settings, watcher: Watcher, lease: Lease | None, stop: threading.Event
) -> None:
    """Start the loop, which resumes unfinished jobs, and the ticks."""
    place = Workplace(settings.state, settings.database_url, 0 if lease is None else lease.token)
    registry = watcher.registry
    if lease is not None:
        registry = Registry(settings.registry_dir, settings.keys, lease.check)
    lifecycle = Lifecycle(
        place, registry, watcher.jobs, watcher.records, watcher.metrics, watcher.count_job,
        settings.trainings,
    )  # fmt: skip
    lifecycle.stop = stop
    if lease is not None:
        lifecycle.fence = lease.check
    loop = Supervisor(lifecycle, _terms(settings), partial(launch, _system_url(settings)))
    watcher.start_job = loop.begin
    watcher.dispatcher.start_job = loop.begin
    watcher.remember()
    loop.start()
    threading.Thread(target=watcher.run, args=(stop,), name="watch", daemon=True).start()


def _system_url(settings: Settings) -> str:
    """Return the URL of DBOS's database: a file beside the records, or the same server."""
    if settings.database_url.startswith("sqlite"):
        return f"sqlite:///{Path(settings.state) / 'loop.sqlite'}"
    return engine_url(settings.database_url).render_as_string(hide_password=False)


def plan_of(settings: Settings) -> WatchPlan:
    """What a watcher with these settings watches, and how eagerly it acts."""
    return WatchPlan(
        services=tuple(u.strip() for u in settings.service_url.split(",") if u.strip()),
        state=settings.state,
        interval_seconds=settings.watch_interval_seconds,
        c=settings.drift_c,
        policy=Policy(
            cool_down_seconds=settings.cool_down_seconds,
            daily_budget=settings.daily_budget,
        ),
        schedule=settings.schedule,
        timezone=settings.timezone,
        records_kept=settings.kept,
        serves={spec.name: spec.version for spec in settings.model_specs},
        min_labels=settings.min_labels,
        labeller_share=settings.labeller_share,
        prometheus=settings.prometheus_url,
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
        mode=settings.mode,
        approval_timeout_seconds=settings.approval_timeout_seconds,
        shadow_seconds=settings.shadow_seconds,
        canary=settings.canary,
        canary_seconds=settings.canary_seconds,
        probation_seconds=settings.probation_seconds,
        retrain_epochs=settings.retrain_epochs,
        min_labels=settings.min_labels,
        labeller_share=settings.labeller_share,
        trusted_labellers=tuple(
            f"token {name}" for name in filter(None, settings.trusted_labellers.split(","))
        ),
        label_patience_seconds=settings.label_patience_seconds,
        step_timeout_seconds=settings.step_timeout_seconds,
    )


def _hold_state(settings: Settings) -> list[object]:
    """Take the watcher's lock of the state, or two watchers would judge and promote.

    Watchers that share a PostgreSQL share the lock, too: its lease says which one leads.
    """
    what = f"the state directory {settings.state}"
    return [_patiently(lambda: try_watcher_lock(settings), what)]


def _patiently(take: Callable[[], object | None], what: str) -> object:
    """Call `take` until it succeeds; the last process of a killed watcher may still be ending."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while (lock := take()) is None:
        if time.monotonic() > deadline:
            raise StateError(f"another watcher runs on {what}")
        time.sleep(0.2)
    return lock
