"""The watcher's composition root: settings in, a worker that ticks, runs the loop and listens."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.engine import make_url

from models.base import locks, logs
from models.versions.registry import Registry
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.jobs import JobStore
from monitoring.loop.lifecycle import Lifecycle, Workplace
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.supervisor import Supervisor, launch
from monitoring.loop.terms import Terms
from monitoring.loop.triggers import Policy
from monitoring.records.database import engine_url, make_engine, try_watch_lock
from monitoring.records.store import RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan
from service.access.guard import Guard, admin_secret, alert_secret, origins_of, watch_guard_of
from service.configuration.program import program_version
from service.configuration.settings import Settings
from service.configuration.state_locks import watcher_lock
from service.telemetry import metrics as telemetry
from service.watcher import calls as watch_calls
from service.watcher.demo import Demo
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
        if self.sender is not None:
            self.sender.close()


def start(settings: Settings) -> WatchApplication:
    """Start ticking and resume unfinished jobs; returns the HTTP application."""
    logs.configure(settings.log_level)
    keep = _only_one(settings)
    engine = make_engine(settings.database_url, STORE_PATIENCE_SECONDS)
    registry, records = (
        Registry(settings.registry_dir, settings.keys),
        RecordStore(settings.database_url, later=True),
    )
    jobs, metrics = JobStore(engine), WatchMetrics()
    loop: list[Supervisor] = []  # the watcher and the loop know each other
    watcher = Watcher(
        plan_of(settings), registry, records, jobs, metrics, lambda job: loop[0].begin(job)
    )
    place = Workplace(settings.state, settings.database_url)
    lifecycle = Lifecycle(
        place, registry, jobs, records, metrics, watcher.count_job, settings.trainings
    )
    loop.append(Supervisor(lifecycle, _terms(settings), partial(launch, _system_url(settings))))
    watcher.remember()
    for secret in (admin_secret, alert_secret):
        secret(settings)  # made now, so that people find it, and a bad file is told at the start
    guard, log = watch_guard_of(settings), AccessLog(settings.access_log)
    demo = Demo(registry, settings.service_url.split(",")[0], guard.tokens_needed)
    calls = watch_calls.endpoints(
        watcher, HandledAlerts(engine), time.time, demo,
        mode=settings.mode, min_labels=settings.min_labels,
    )  # fmt: skip
    app = WatchApplication(calls, guard, log, settings, lifecycle.stop)
    app.keep += keep
    instance = telemetry.name_instance(settings.watch_port)
    app.sender = telemetry.start(
        "holdfast-watcher", program_version(), instance, lambda: metrics.registry
    )
    loop[0].start()
    threading.Thread(target=watcher.run, args=(app.stop,), name="watch", daemon=True).start()
    return app


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


def _only_one(settings: Settings) -> list[object]:
    """Take the watcher's locks of state and database, or two watchers would judge and promote.

    Two states cannot share a database either: their watchers would start each other's jobs.
    """
    lock = locks.try_exclusive
    state = _patiently(
        lambda: lock(watcher_lock(settings)), f"the state directory {settings.state}"
    )
    if make_url(settings.database_url).get_backend_name() != "postgresql":
        return [state]
    address = make_url(settings.database_url).render_as_string(hide_password=True)
    url = settings.database_url
    return [state, _patiently(lambda: try_watch_lock(url), f"the database {address}")]


def _patiently(take: Callable[[], object | None], what: str) -> object:
    """Call `take` until it succeeds; the last process of a killed watcher may still be ending."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while (lock := take()) is None:
        if time.monotonic() > deadline:
            raise StateError(f"another watcher runs on {what}")
        time.sleep(0.2)
    return lock
