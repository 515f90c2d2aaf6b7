"""The watcher's composition root: settings in, a worker that ticks, runs the loop and listens."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID
from flask import Flask

from models.registry import Registry
from monitoring import logs, slots
from monitoring.jobs import UNFINISHED, Job, JobStore
from monitoring.lifecycle import LOOP_VERSION, Lifecycle, Terms
from monitoring.records import RecordStore
from monitoring.triggers import Policy
from monitoring.watch_app import Tokens, create_watch_app
from monitoring.watch_metrics import WatchMetrics
from monitoring.watcher import Plan, Watcher
from monitoring.webhook import HandledAlerts
from service import auth
from service.auth import secret_in
from service.errors import StateError
from service.settings import Settings, watcher_lock
from service.wsgi_origins import origins_of, protect

LOCK_PATIENCE = 10.0


def start(settings: Settings) -> Flask:
    """Start ticking and resume unfinished jobs; returns the HTTP application."""
    logs.configure(settings.log_level)
    keep = _only_one(settings)
    engine = sa.create_engine(settings.database_url)
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
    stop = threading.Event()
    ticking = threading.Thread(target=watcher.run, args=(stop,), name="watch", daemon=True)
    ticking.start()
    app = create_watch_app(watcher, HandledAlerts(engine), tokens(settings), time.time)
    protect(app, origins_of(settings, settings.watch_host, _tokens_needed(settings)))
    app.extensions["holdfast"] = (keep, stop, ticking)
    return app


def tokens(settings: Settings) -> Tokens:
    """The secrets of the watcher: from the files that are set, else made once in the state."""
    return Tokens(
        admin=secret_in(settings.admin_token_file, settings.admin_token_path),
        alert=secret_in(settings.alert_token_file, Path(settings.state) / "run" / "alert_token"),
    )


def _tokens_needed(settings: Settings) -> Callable[[], bool]:
    return auth.Tokens(settings.tokens_path, required=bool(settings.tokens_file)).needed


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
