"""The watcher's composition root: settings in, a worker that ticks, runs the loop and listens."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID

from models.registry import Registry
from monitoring import logs, slots
from monitoring.database import engine_url, make_sqlite_file
from monitoring.jobs import UNFINISHED, Job, JobStore
from monitoring.lifecycle import LOOP_VERSION, Lifecycle, Terms
from monitoring.records import RecordStore
from monitoring.triggers import Policy
from monitoring.watch_metrics import WatchMetrics
from monitoring.watcher import Plan, Watcher
from monitoring.webhook import HandledAlerts
from service import watch_calls
from service.access_log import AccessLog
from service.call import Endpoint
from service.errors import StateError
from service.front import Bounds, Front
from service.guard import (
    Guard,
    admin_secret,
    alert_secret,
    origins_of,
    watch_guard_of,
)
from service.settings import Settings, watcher_lock

LOCK_PATIENCE = 10.0
BODY_BYTES = 1 << 20
HELD_BYTES = 1 << 25
THREADS = 4


class WatchApplication(Front):
    """The watcher's ASGI application, and what lives behind it; the server's end closes both."""

    def __init__(
        self, endpoints: Sequence[Endpoint], guard: Guard, log: AccessLog, settings: Settings
    ) -> None:
        bounds = Bounds(BODY_BYTES, settings.body_timeout_seconds, HELD_BYTES, THREADS)
        origins = origins_of(settings, settings.watch_host, guard)
        super().__init__(endpoints, guard, log.write, bounds, origins)
        self.stop = threading.Event()
        self.keep: list[IO[bytes]] = []  # locks that are held for as long as this lives

    def close(self) -> None:
        """Answer what has begun, and tick no more."""
        super().close()
        self.stop.set()


def start(settings: Settings) -> WatchApplication:
    """Start ticking and resume unfinished jobs; returns the HTTP application."""
    logs.configure(settings.log_level)
    keep = _only_one(settings)
    make_sqlite_file(_system_url(settings))
    engine = sa.create_engine(engine_url(settings.database_url))
    registry, records = (
        Registry(settings.registry_dir, settings.keys),
        RecordStore(settings.database_url),
    )
    jobs, metrics = JobStore(engine), WatchMetrics()
    watcher = Watcher(_plan(settings), registry, records, jobs, metrics, _start_workflow)
    lifecycle = Lifecycle(_terms(settings), registry, jobs, records, watcher.finished)
    _launch(settings)
    _LIFECYCLE.append(lifecycle)
    _adopt(jobs)
    watcher.remember()
    for secret in (admin_secret, alert_secret):
        secret(settings)  # made now, so that people find it, and a bad file is told at the start
    calls = watch_calls.endpoints(watcher, HandledAlerts(engine), time.time)
    log = AccessLog(settings.access_log)
    app = WatchApplication(calls, watch_guard_of(settings), log, settings)
    app.keep.append(keep)
    threading.Thread(target=watcher.run, args=(app.stop,), name="watch", daemon=True).start()
    return app


_LIFECYCLE: list[Lifecycle] = []  # DBOS finds the instance by its name; this keeps it alive


def _start_workflow(job: Job) -> None:
    with SetWorkflowID(job.id):
        DBOS.start_workflow(_LIFECYCLE[0].run, job.id)


def _launch(settings: Settings) -> None:
    DBOS(
        config={
            "name": "holdfast",
            "system_database_url": _system_url(settings),
            "executor_id": "watcher",
            "application_version": LOOP_VERSION,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.5,
        }
    )
    DBOS.launch()


def _system_url(settings: Settings) -> str:
    """DBOS keeps its own database: a file beside the records, or a schema in the same server."""
    if settings.database_url.startswith("sqlite"):
        return f"sqlite:///{Path(settings.state) / 'loop.sqlite'}"
    return settings.database_url


def _adopt(jobs: JobStore) -> None:
    """Close jobs that no workflow will ever finish (begun under another version of the loop)."""
    for job in jobs.all():
        if job.state in UNFINISHED:
            status = DBOS.get_workflow_status(job.id)
            if status is None or status.status not in ("PENDING", "ENQUEUED", "DELAYED"):
                detail = "no workflow goes on with it; start it again if it is still wanted"
                jobs.change(job.id, state="done", outcome="abandoned", detail=detail)


def _plan(settings: Settings) -> Plan:
    return Plan(
        services=tuple(u.strip() for u in settings.service_url.split(",") if u.strip()),
        state=settings.state,
        interval_seconds=settings.watch_interval_seconds,
        c=settings.drift_c,
        policy=Policy(
            min_labels=settings.min_labels,
            cool_down_seconds=settings.cool_down_seconds,
            daily_budget=settings.daily_budget,
        ),
        schedule=settings.schedule,
        timezone=settings.timezone,
        records_kept=settings.record_rows_kept,
        serves={spec.name: spec.version for spec in settings.model_specs},
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
        state=settings.state,
        database_url=settings.database_url,
        mode=settings.mode,
        approval_timeout_seconds=settings.approval_timeout_seconds,
        probation_seconds=settings.probation_seconds,
        retrain_epochs=settings.retrain_epochs,
        min_labels=settings.min_labels,
        label_patience_seconds=settings.label_patience_seconds,
    )


def _only_one(settings: Settings) -> IO[bytes]:
    """Hold the state's watcher lock; two watchers would both judge and promote."""
    deadline = time.monotonic() + LOCK_PATIENCE  # a killed watcher's last process may linger
    while (lock := slots.try_exclusive(watcher_lock(settings))) is None:
        if time.monotonic() > deadline:
            raise StateError(f"another watcher runs on the state directory {settings.state}")
        time.sleep(0.2)
    return lock
