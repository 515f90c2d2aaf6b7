"""Who sees to it that jobs move: starts them, has them go on after a crash, ends what stands still.

Two threads beside the workflows. One starts jobs and resumes those whose workflow has stopped; it
asks DBOS and may wait for its database. The other looks at the signs of life and asks DBOS nothing,
so that a database that hangs does not blind it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dbos import DBOS, SetWorkflowID

from models.base.logs import logger
from monitoring.loop.durable.recorded import sentence
from monitoring.loop.jobs import ABANDONING, Job
from monitoring.loop.lifecycle import Lifecycle
from monitoring.loop.terms import LOOP_VERSION, Terms, begun_elsewhere, frozen, terms_of
from monitoring.records.database import make_sqlite_file

LOOK_SECONDS = 2.0
WATCH_SECONDS = 5.0
IDLE_SECONDS = 10.0  # a workflow that was just started or recovered may take that to begin
MOST_RESUMED = 5  # in a row, without a step forward
HEALTHY_SECONDS = 60.0
STALLED_SECONDS = 300.0  # longer than a step waits for what passes
RUNNABLE = ("PENDING", "ENQUEUED", "DELAYED", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
ELSEWHERE = (
    "it was begun by another version of the loop, and no workflow goes on with it; "
    "start it again if it is still wanted"
)
log = logger("lifecycle")


def launch(system_url: str) -> None:
    """Start DBOS, which resumes unfinished workflows. Raises where its database is away."""
    make_sqlite_file(system_url)
    DBOS(
        config={
            "name": "holdfast",
            "system_database_url": system_url,
            "executor_id": "watcher",
            "application_version": LOOP_VERSION,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.5,
        }
    )
    try:
        DBOS.launch()
    except Exception:
        DBOS.destroy()  # what was begun of it would keep the next try from starting
        raise


def forget_workflows(ids: list[str]) -> None:
    """Remove what DBOS keeps of jobs. Raises where its database is away or not launched yet."""
    DBOS.delete_workflows(ids, delete_children=True)


@dataclass
class _Idle:
    """A job that does not run here: since when, at which stage, resumed how often and when last."""

    since: float
    stage: str
    resumed: int = 0
    resumed_at: float = 0.0


@dataclass
class Supervisor:
    """Keeps the jobs of `lifecycle` moving. New ones get the `terms`; `launch` starts DBOS."""

    lifecycle: Lifecycle
    terms: Terms
    launch: Callable[[], None]
    wake: threading.Event = field(default_factory=threading.Event)
    _launched: bool = False
    _idle: dict[str, _Idle] = field(default_factory=dict)
    _missed: dict[str, float] = field(default_factory=dict)
    _stalled: set[str] = field(default_factory=set)
    _shown: set[str] = field(default_factory=set)

    def start(self) -> None:
        """Start both threads; they end with `lifecycle.stop` or the process."""
        for name, run in (("jobs", self._start_jobs), ("watchdog", self._watch_jobs)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def begin(self, job: Job) -> None:
        """A job was stored: have it started. Waits for nothing."""
        self.wake.set()

    def _start_jobs(self) -> None:
        while not self.lifecycle.stop.is_set():
            try:
                if not self._launched:
                    self.launch()
                    self._launched = True
                jobs = self.lifecycle.jobs.unfinished()
                names = {job.id for job in jobs}
                self._idle = {name: idle for name, idle in self._idle.items() if name in names}
                for job in reversed(jobs):
                    self._ensure(job)
            except Exception as error:
                log.error("jobs_not_started", error=sentence(error))
            self.wake.wait(LOOK_SECONDS)
            self.wake.clear()

    def _ensure(self, job: Job) -> None:
        """One job that cannot be started or resumed keeps no other from it."""
        if self.lifecycle.beats.age(job.id) is not None:
            self._runs(job)
            return
        try:
            if job.stage == ABANDONING:  # by a process that has ended since
                self.lifecycle.abandon(job, job.detail)
                return
            status = DBOS.get_workflow_status(job.id)
            if begun_elsewhere(job) or (status is not None and not job.terms):
                self.lifecycle.abandon(job, ELSEWHERE)
            elif status is None:
                self._begin(job)
            elif status.status not in RUNNABLE:
                detail = f"its workflow ended ({status.status}) and left it at {job.stage!r}"
                self.lifecycle.abandon(job, detail)
            else:
                self._resume(job)
        except Exception as error:
            log.error("job_not_started", job=job.id, error=sentence(error))

    def _runs(self, job: Job) -> None:
        """It runs here; only one that has done so for a while is taken to be well again."""
        now, idle = time.monotonic(), self._idle.get(job.id)
        if idle is not None and now - idle.resumed_at > HEALTHY_SECONDS:
            del self._idle[job.id]
        elif idle is not None:
            idle.since = now

    def _begin(self, job: Job) -> None:
        if not job.terms:
            job = self.lifecycle.jobs.advance(job.id, terms=frozen(self.terms))
        now = time.monotonic()
        self._idle[job.id] = _Idle(now, job.stage, resumed_at=now)
        with SetWorkflowID(job.id):
            DBOS.start_workflow(self.lifecycle.run, job.id)

    def _resume(self, job: Job) -> None:
        """Once it has been idle for a while, longer each time; too often in a row: give it up."""
        now = time.monotonic()
        idle = self._idle.setdefault(job.id, _Idle(now, job.stage))
        if idle.stage != job.stage:
            idle = self._idle[job.id] = _Idle(now, job.stage)
        if now - idle.since < IDLE_SECONDS * 2**idle.resumed:
            return
        if idle.resumed >= MOST_RESUMED:
            detail = f"its workflow stopped {MOST_RESUMED} times at {job.stage!r}"
            self.lifecycle.abandon(job, detail)
            return
        idle.since = idle.resumed_at = now
        idle.resumed += 1
        log.warning("job_resumed", job=job.id, stage=job.stage, times=idle.resumed)
        DBOS.resume_workflow(job.id)

    def _watch_jobs(self) -> None:
        while not self.lifecycle.stop.wait(WATCH_SECONDS):
            try:
                self.look()
            except Exception as error:
                log.error("jobs_not_watched", error=sentence(error))

    def look(self) -> None:
        """Show which jobs stand still, and end those that have done so for too long."""
        jobs = self.lifecycle.jobs.unfinished()
        metrics, seen = self.lifecycle.metrics, set()
        names = {job.id for job in jobs}
        self._missed = {name: since for name, since in self._missed.items() if name in names}
        for age, job in sorted(((self._age(j), j) for j in jobs), key=lambda pair: pair[0]):
            seen.add(job.model)
            self._show(job, age)  # of several jobs of a model the one that is worst off is last
            if age > terms_of(job).step_timeout_seconds + STALLED_SECONDS:
                detail = f"it stood still for {age:.0f} s at {job.stage!r}"
                self.lifecycle.abandon(job, detail)
        for model in self._shown - seen:
            for gauge in (metrics.stalled, metrics.moved):
                gauge.remove_by_labels({"model": model})
        self._shown = seen
        self._stalled &= names

    def _age(self, job: Job) -> float:
        """Seconds since it moved; of one that does not run here, since that was first seen."""
        beats = self.lifecycle.beats
        age = beats.age(job.id)
        if age is not None:
            self._missed.pop(job.id, None)
            return age
        return beats.clock() - self._missed.setdefault(job.id, beats.clock())

    def _show(self, job: Job, age: float) -> None:
        metrics, stalled = self.lifecycle.metrics, age > STALLED_SECONDS
        metrics.stalled.labels(job.model).set(stalled)
        metrics.moved.labels(job.model).set(time.time() - age)
        if stalled and job.id not in self._stalled:
            self._stalled.add(job.id)
            log.error("job_stalled", job=job.id, stage=job.stage, seconds=round(age))
        elif not stalled and job.id in self._stalled:
            self._stalled.discard(job.id)
            log.info("job_moves_again", job=job.id, stage=job.stage)
