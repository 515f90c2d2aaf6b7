"""From an event to a job, or to a refusal with a name: what is known is gathered here.

The decision itself is pure (`monitoring.triggers.decide`).
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from models.errors import HoldfastError, RegistryError
from models.registry import Registry
from monitoring.jobs import UNFINISHED, Job, JobStore
from monitoring.logs import logger
from monitoring.records import RecordStore
from monitoring.triggers import DAY, Decision, Event, Policy, Situation, decide
from monitoring.watch_metrics import WatchMetrics

log = logger("watcher")


@dataclass
class Dispatcher:
    """Decides on events of all models, from any thread. `start_job` gives a job to the loop."""

    policy: Policy
    serves: Mapping[str, int | None]  # models that are served, and pinned to what
    registry: Registry
    records: RecordStore
    jobs: JobStore
    metrics: WatchMetrics
    start_job: Callable[[Job], None]
    _refused: dict[tuple[str, str], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def consider(self, event: Event, now: float, options: dict[str, Any] | None = None) -> Decision:
        """Decide on an event and start the job, or count the refusal (once per change of it)."""
        with self._lock:
            decision = decide(event, self.situation(event, now), self.policy, now)
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
            pinned=self.serves.get(event.model),
        )

    def _since(self, event: Event) -> float:
        """From when on labels count: a new champion, or an old one that came back, starts anew.

        A person may reach further back.
        """
        if event.source == "person":
            return event.since
        return max(event.since, self.champion_since(event.model))

    def champion_since(self, model: str) -> float:
        """When the champion became it, in seconds since the epoch; 0 where nothing is known.

        A pinned version has no reign that begins or ends.
        """
        changed, champion = 0.0, None
        if self.serves.get(model) is not None:
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
