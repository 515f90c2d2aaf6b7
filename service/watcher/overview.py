"""What the console asks the watcher for: how all models stand, in one answer, and their pictures.

Any thread may ask while the watcher looks.
"""

from collections.abc import Callable

import msgspec

from models.base.errors import InputError, show_value
from monitoring.loop.jobs import Job
from monitoring.watching.rings import SPANS, Point, Rates, Rings
from monitoring.watching.status import ModelStatus, describe_models
from monitoring.watching.watcher import Watcher
from service.watcher.demo import Demo, DemoState

NEWEST_JOBS = 20
MOST_POINTS = 360  # of a picture


class JobBrief(msgspec.Struct, frozen=True):
    """A run of the loop without its figures; `passed`, `failed`, `unknown` count its gates."""

    id: str
    kind: str
    model: str
    champion: int
    challenger: int | None
    source: str
    reason: str
    created_at: float
    updated_at: float
    ended_at: float | None
    state: str
    stage: str
    outcome: str | None
    detail: str
    passed: int
    failed: int
    unknown: int
    waits_until: float | None  # of an approval

    @classmethod
    def of(cls, job: Job) -> "JobBrief":
        """Leave the figures of a job out."""
        verdicts = [check.verdict for check in job.checks]
        timeout = float(job.terms.get("approval_timeout_seconds") or 0.0)
        waits = job.state == "waiting" and timeout > 0
        began = job.in_stage_since
        return cls(
            job.id, job.kind, job.model, job.champion, job.challenger, job.source, job.reason[:300],
            job.created_at, job.updated_at, job.ended_at, job.state, job.stage, job.outcome,
            job.detail[:400], verdicts.count("pass"), verdicts.count("fail"),
            verdicts.count("unknown"), began + timeout if waits else None,
        )  # fmt: skip


class Overview(msgspec.Struct, frozen=True):
    """How everything that the watcher knows stands; times are seconds since 1970."""

    now: float
    ready: str  # `ready`, or what is wrong
    last_look: str | None
    models: list[ModelStatus]
    rates: dict[str, Rates]
    jobs: list[JobBrief]  # the newest, and all that have not ended
    mode: str
    min_labels: int
    demo: DemoState


class Picture(msgspec.Struct, frozen=True):
    """The points of a span; `evidence` of each is in the order of `channels`."""

    model: str
    span: str
    step_seconds: float
    channels: tuple[str, ...]
    fields: tuple[str, ...]
    points: list[Point]


def describe_all(watcher: Watcher, demo: Demo, mode: str, min_labels: int, now: float) -> Overview:
    """Say how everything stands."""
    report = watcher.pulse.report()
    models = describe_models(watcher)
    return Overview(
        now=now,
        ready=report.status,
        last_look=report.last_look,
        models=models,
        rates={row.model: watcher.pictures.of(row.model).rates(now) for row in models},
        jobs=_newest_jobs(watcher),
        mode=mode,
        min_labels=min_labels,
        demo=demo.state(),
    )


def _newest_jobs(watcher: Watcher) -> list[JobBrief]:
    newest = watcher.jobs.all(limit=NEWEST_JOBS)
    known = {job.id for job in newest}
    older = [job for job in watcher.jobs.unfinished() if job.id not in known]
    return [JobBrief.of(job) for job in [*newest, *older]]


def draw(rings: Callable[[str], Rings], model: str | None, span: str | None) -> Picture:
    """The points of a span of a model. Raises InputError for another span."""
    chosen = span or "10m"
    if chosen not in SPANS:
        raise InputError("span", f"one of {', '.join(SPANS)}", show_value(chosen))
    of_model = rings(model or "")
    points = of_model.of(chosen)
    step = max(1, -(-len(points) // MOST_POINTS))
    # From the end, so that the newest is always there, and old ones do not jump at every look.
    kept = points if step == 1 else [p for k, p in enumerate(points) if (k + 1) % step == 0]
    if step > 1 and points and kept[-1] is not points[-1]:
        kept.append(points[-1])
    fields = tuple(Point.__struct_fields__)
    return Picture(model or "", chosen, SPANS[chosen][0], of_model.channels, fields, kept)
