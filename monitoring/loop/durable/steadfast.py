"""What every step of the loop rests on: tries while a fault passes, waits, signs of life."""

import threading
from collections.abc import Callable
from typing import TypeVar

from dbos import DBOSConfiguredInstance

from models.base.logs import logger
from monitoring.loop.durable.beats import Beats
from monitoring.loop.durable.patience import Interrupted, rest, try_patiently
from monitoring.loop.durable.recorded import sentence
from monitoring.loop.durable.waits import wait_for
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.records.lease import LeaseLostError

Result = TypeVar("Result")
log = logger("lifecycle")


class Steadfast(DBOSConfiguredInstance):
    """Tries and waits on behalf of jobs, and says in them what it waits for."""

    def __init__(self, name: str, jobs: JobStore, metrics: WatchMetrics) -> None:
        super().__init__(config_name=name)
        self.jobs = jobs
        self.metrics = metrics
        self.fence: Callable[[], None] = lambda: None  # of the lease: what is recorded asks it
        self.beats = Beats()
        self.stop = threading.Event()

    def wait(
        self, job_id: str, name: str, seconds: float, look: Callable[[], Result | None]
    ) -> Result | None:
        """What `look` gives, or None after so many seconds of a job's wait of this name."""
        return wait_for(
            look, jobs=self.jobs, job_id=job_id, name=name, seconds=seconds,
            beat=lambda: self.beats.beat(job_id), rest=lambda pause: rest(pause, self.stop),
        )  # fmt: skip

    def over(self, job_id: str) -> Job:
        """The job as it is stored."""
        return self.jobs.get(job_id)

    def patiently(
        self,
        job_id: str,
        step: str,
        act: Callable[[], Result],
        patience_seconds: float | None = None,
    ) -> Result:
        """The result of `act`, tried again while its fault passes; the job says what for.

        Where another watcher has taken the lease, what runs here is interrupted: it goes on there.
        """
        waited = False

        def tell(words: str, tries: int) -> None:
            nonlocal waited
            waited = True
            self.beats.beat(job_id)
            self.metrics.retries.labels(step).inc()
            log.warning("step_waits", job=job_id, step=step, why=words, tries=tries)
            self._note(job_id, f"waiting: {words} (try {tries})")

        try:
            result = try_patiently(act, tell, self.stop, patience_seconds)
        except LeaseLostError as error:
            raise Interrupted(str(error)) from error
        if waited and step != "end":
            self._note(job_id, "")
        return result

    def _note(self, job_id: str, detail: str) -> None:
        """Say it in the job where that can be written: it may be what is waited for."""
        try:
            self.jobs.advance(job_id, detail=detail)
        except Exception as error:
            log.debug("job_not_told", job=job_id, error=sentence(error))
