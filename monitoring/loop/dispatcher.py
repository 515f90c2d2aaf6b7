"""From an event to a job, or to a refusal with a name: what is known is gathered here.

The decision itself is pure (`monitoring.loop.triggers.decide`).
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.base.errors import HoldfastError
from models.base.logs import logger
from models.versions.numbers import keep_versions
from models.versions.registry import Registry
from monitoring.loop.deciding.standing import find_reign, find_situation
from monitoring.loop.jobs import Job, JobStore, JsonObject
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Decision, Event, Policy, Situation, decide

SKEW_SECONDS = 300.0  # that clocks of other machines may be ahead of this one's
log = logger("watcher")


class NotStartedError(HoldfastError):
    """A job was decided on, and the loop could not take it; the job has ended as `failed`."""

    def __init__(self, job: Job, error: Exception) -> None:
        super().__init__(f"job {job.id} could not be started: {type(error).__name__}: {error}")
        self.job = job


@dataclass
class Dispatcher:
    """Decides on events of all models, from any thread. `start_job` gives a job to the loop."""

    policy: Policy
    serves: Mapping[str, int | None]  # models that are served, and pinned to what
    registry: Registry
    jobs: JobStore
    metrics: WatchMetrics
    start_job: Callable[[Job], None]
    _refused: dict[tuple[str, str], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def consider(self, event: Event, now: float, options: JsonObject | None = None) -> Decision:
        """Decide on an event and start the job, or count the refusal (once per change of it).

        Raises:
            NotStartedError: the loop could not take the job; the job has ended as `failed`.
        """
        with self._lock:
            situation = self.situation(event, now)
            decision = decide(event, situation, self.policy, now)
            if decision.start is not None and situation.champion is not None:
                job = self._job(event, decision.start, situation.champion, now, options or {})
                self._refused.pop((event.model, event.source), None)
                self._start(job)
                return Decision(decision.start, None, job.id)
            self._refuse(event, decision)
            return decision

    def _start(self, job: Job) -> None:
        """Give a stored job to the loop; one that it does not take ends, and frees the model."""
        try:
            self.start_job(job)
        except Exception as error:
            log.exception("job_not_started", job=job.id, kind=job.kind, model=job.model)
            failure = NotStartedError(job, error)
            self.jobs.end(job.id, "failed", str(failure))
            self.metrics.runs.labels(job.model, job.kind, "failed").inc()
            raise failure from error
        log.info("job_started", job=job.id, kind=job.kind, model=job.model, why=job.reason)

    def _refuse(self, event: Event, decision: Decision) -> None:
        key, name = (event.model, event.source), str(decision.refusal)
        if self._refused.get(key) == name and event.source not in ("alert", "person"):
            return
        self._refused[key] = name
        self.metrics.count_refusal(event.model, name)
        log.info(
            "job_refused",
            model=event.model,
            source=event.source,
            refusal=name,
            why=decision.detail,
        )

    def situation(self, event: Event, now: float) -> Situation:
        """What the decision rests on, from registry and jobs."""
        pinned = self.serves.get(event.model)
        return find_situation(event.model, self.registry, self.jobs, pinned, now)

    def since(self, event: Event, now: float) -> float:
        """From when on labels count: a new champion, or an old one that came back, starts anew.

        A person may reach further back. What lies in the future is no beginning of anything.
        """
        begun = min(event.since, now) if event.since <= now + SKEW_SECONDS else 0.0
        if event.source == "person":
            return begun
        reign = self.champion_since(event.model)
        return max(begun, reign if reign <= now else 0.0)

    def champion_since(self, model: str) -> float:
        """When the champion became it, in seconds since the epoch; 0 where nothing is known.

        A pinned version has no reign that begins or ends.
        """
        return 0.0 if self.serves.get(model) is not None else find_reign(self.registry, model).since

    def _job(self, event: Event, kind: str, champion: int, now: float, options: JsonObject) -> Job:
        job = Job(
            id=f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
            kind=kind,
            model=event.model,
            champion=champion,
            source=event.source,
            reason=event.reason,
            since=self.since(event, now),
            reign=self.champion_since(event.model),
            created_at=now,
            options=options,
        )
        with keep_versions(self.registry, event.model):
            return self.jobs.put(job)
