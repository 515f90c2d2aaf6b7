"""Jobs of the loop as people see them: one row each.

A change is a compare-and-swap on the whole row, so that of two writers at once neither undoes the
other: the first answer to an approval counts, and a job ends once.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.base.errors import HoldfastError
from models.evaluation.gates.checks import Bounds, Check
from models.evaluation.gates.live import SHADOW
from models.statistics.shadow import Shadowed
from models.versions.signature import Keys
from monitoring.loop.results import ChangedLabel, Look, WindowFacts
from monitoring.records.database import make_sqlite_file
from monitoring.records.lease import TransactionFence

State = Literal["running", "waiting", "done"]
UNFINISHED = ("running", "waiting")
APPROVAL = "approval"  # the stage in which a challenger waits for a person
LABELS_APPROVAL = "approval of changed labels"  # before anything is trained
ABANDONING = "abandoning"  # nobody goes on with it: it is being cleared away
JsonObject = dict[str, Any]  # of a person's call, or of a version of the loop that may be another


class PersonAnswer(msgspec.Struct, frozen=True):
    """What a person said to a job that waited, and when (seconds since 1970)."""

    approved: bool
    actor: str
    reason: str
    at: float

    @property
    def word(self) -> str:
        """`approved` or `rejected`."""
        return "approved" if self.approved else "rejected"

    @property
    def words(self) -> str:
        """Who said what, when and why.

        >>> PersonAnswer(True, "ada", "looks right", 0.0).words
        "approved by 'ada' at 1970-01-01 00:00:00 UTC: looks right"
        """
        at = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.word} by {self.actor!r} at {at}" + (self.reason and f": {self.reason}")


class Job(msgspec.Struct, frozen=True):
    """One run of the loop. `outcome` and `ended_at` are set when it is done.

    `terms` are the settings that it depends on, as they were when it began; `waited` says how much
    of its waits has passed, in seconds; `shadow` how champion and challenger did on the same
    requests when they were last compared, `uncompared` by step why that could not be done; `stages`
    when each stage was last entered.
    `reign` is when the champion became it; labels from then to `since` count as old data.
    `changes` are labels that have changed, `labels_answer` what a person said to that, `followed`
    who has said that they are meant (empty: nobody); `material` what was learnt from.
    `window` is what the referee left of the labelled rows; `tried` why a training would only repeat
    an earlier one (empty: it would not).
    """

    id: str
    kind: str
    model: str
    champion: int
    source: str
    reason: str
    since: float
    created_at: float
    state: State = "running"
    stage: str = "queued"
    updated_at: float = 0.0
    outcome: str | None = None
    detail: str = ""
    challenger: int | None = None
    checks: tuple[Check, ...] = ()
    evaluation: Look | None = None
    options: JsonObject = {}
    ended_at: float | None = None
    answer: PersonAnswer | None = None
    terms: JsonObject = {}
    waited: dict[str, float] = {}
    shadow: Shadowed | None = None
    uncompared: dict[str, str] = {}
    stages: dict[str, float] = {}
    reign: float = 0.0
    changes: tuple[ChangedLabel, ...] = ()
    labels_answer: PersonAnswer | None = None
    followed: str = ""
    material: str = ""
    window: WindowFacts | None = None
    tried: str = ""

    @property
    def stage_name(self) -> str:
        """The stage without its details, of which there are few.

        >>> Job("j", "evaluate", "m", 1, "person", "", 0.0, 0.0, stage="queued (2nd)").stage_name
        'queued'
        """
        return _plain(self.stage)

    @property
    def reign_then(self) -> float:
        """`reign`; 0, of which nothing is known, where the clock was set back since."""
        return self.reign if self.reign <= self.created_at else 0.0

    @property
    def in_stage_since(self) -> float:
        """When it came to its stage, seconds since 1970."""
        return self.stages.get(self.stage, self.created_at)

    def stage_seconds(self) -> dict[str, float]:
        """How long it stayed in each stage that it has left, by the stage's name."""
        entered = sorted([(self.created_at, "queued"), *((at, s) for s, at in self.stages.items())])
        spent: dict[str, float] = {}
        for (at, stage), (following, _) in pairwise(entered):
            name = _plain(stage)
            spent[name] = spent.get(name, 0.0) + following - at
        return spent

    def answer_to(self, stage: str) -> PersonAnswer | None:
        """What a person said to the question of a stage; None: nothing yet."""
        return self.labels_answer if stage == LABELS_APPROVAL else self.answer

    @property
    def promotion_words(self) -> str:
        """What replaced what, and where the two were not compared."""
        lost = "".join(f"; not compared in {step}: {why}" for step, why in self.uncompared.items())
        if SHADOW not in self.uncompared:
            shown = (c for c in self.checks if c.name == SHADOW and c.verdict == "unknown")
            lost = "".join(f"; shadow unknown: {check.detail}" for check in shown) + lost
        return f"version {self.challenger} replaced {self.champion}{lost}"


class Task(msgspec.Struct, frozen=True):
    """What a child needs to know besides the job; `lease`: the watcher's token, 0: none."""

    job: Job
    registry: str
    database_url: str
    retrain_epochs: int
    bounds: Bounds = Bounds()
    keys: Keys = Keys()
    lease: int = 0


_METADATA = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("job", sa.LargeBinary, nullable=False),
)
_BY_MODEL = sa.Index("jobs_by_model", JOBS.c.model, JOBS.c.created_at)


class UnknownJobError(HoldfastError):
    """No such job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}; see: holdfast jobs list")


class JobOverError(HoldfastError):
    """The job has ended, by whatever hand: nothing more is done for it."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} has ended already ({job.outcome}: {job.detail})")
        self.job = job


class NotWaitingError(HoldfastError):
    """The job does not wait for an answer."""

    def __init__(self, job: Job) -> None:
        at = f"done ({job.outcome}: {job.detail})" if job.state == "done" else job.stage
        super().__init__(f"job {job.id} does not wait for approval: it is {at}")
        self.job = job


class AnsweredError(HoldfastError):
    """Somebody was first: the first answer counts."""

    def __init__(self, job: Job, answer: PersonAnswer) -> None:
        super().__init__(f"job {job.id} was answered already: {answer.words}")
        self.job = job
        self.answer = answer


class JobStore:
    """Jobs in the database; `fence` raises in a transaction of who may not write."""

    def __init__(self, engine: sa.Engine, fence: TransactionFence = lambda _: None) -> None:
        self._engine, self._fence = engine, fence
        self._made = False
        with suppress(SQLAlchemyError, OSError):  # a store that is away now may come back
            self._make()

    def put(self, job: Job) -> Job:
        """Insert or replace; `updated_at` becomes now."""
        job = msgspec.structs.replace(job, updated_at=time.time())
        row = _row(job)
        with self._writing() as connection:
            changed = connection.execute(sa.update(JOBS).where(JOBS.c.id == job.id).values(**row))
            if changed.rowcount == 0:
                row |= {"id": job.id, "created_at": job.created_at}
                connection.execute(sa.insert(JOBS).values(**row))
        return job

    def change(self, job_id: str, **fields: Any) -> Job:
        """Replace fields of a stored job. Raises UnknownJobError."""
        return self._swap(job_id, lambda job: msgspec.structs.replace(job, **fields))

    def advance(self, job_id: str, **fields: Any) -> Job:
        """Replace fields of a job that has not ended. Raises JobOverError, UnknownJobError."""

        def go_on(job: Job) -> Job:
            if job.state == "done" or job.stage == ABANDONING:
                raise JobOverError(job)
            return msgspec.structs.replace(job, **fields)

        return self._swap(job_id, go_on)

    def lose(self, job_id: str, step: str, why: str) -> Job:
        """Note that a step could not compare the versions. Raises as `advance`."""
        return self.advance(job_id, uncompared=self.get(job_id).uncompared | {step: why})

    def ask(self, job_id: str, stage: str = APPROVAL) -> Job:
        """Let a job wait for the answer of a stage, unless it has it. Raises JobOverError."""

        def wait(job: Job) -> Job:
            if job.state == "done":
                raise JobOverError(job)
            if job.answer_to(stage) is not None:
                return job
            return msgspec.structs.replace(job, stage=stage, state="waiting")

        return self._swap(job_id, wait)

    def answer(self, job_id: str, answer: PersonAnswer) -> Job:
        """Answer a job that waits: the first answer counts.

        Raises:
            AnsweredError: there is an answer already.
            NotWaitingError: the job waits for none.
            UnknownJobError: there is no such job.
        """

        def note(job: Job) -> Job:
            if job.state != "waiting":
                if (before := job.answer or job.labels_answer) is not None:
                    raise AnsweredError(job, before)
                raise NotWaitingError(job)
            said = "labels_answer" if job.stage == LABELS_APPROVAL else "answer"
            stage = answer.word
            return msgspec.structs.replace(job, **{said: answer}, state="running", stage=stage)

        return self._swap(job_id, note)

    def end(self, job_id: str, outcome: str, detail: str) -> Job:
        """Close a job; one that is done already stays as it ended. Returns the stored job."""
        return self._swap(job_id, lambda job: _ended(job, outcome, detail))

    def expire(self, job_id: str, detail: str) -> Job:
        """Close a job as `expired` if it still waits; one that was answered stays as it is."""
        return self._swap(
            job_id, lambda job: _ended(job, "expired", detail) if job.state == "waiting" else job
        )

    def claim(self, seen: Job, detail: str) -> Job | None:
        """Begin to abandon a job if it is still as it was seen; None: it has moved on.

        It stays unfinished until its challenger is taken back, so that one whose process ends
        between the two is found again.
        """
        begun = {"state": "running", "stage": ABANDONING, "detail": detail}
        claimed = self._swap(
            seen.id, lambda job: msgspec.structs.replace(job, **begun) if job == seen else job
        )
        return claimed if claimed.stage == ABANDONING else None

    def abandon(self, seen: Job, detail: str) -> Job:
        """Close a job as `abandoned` if it is still as it was seen; returns the stored one."""
        return self._swap(
            seen.id, lambda job: _ended(job, "abandoned", detail) if job == seen else job
        )

    def get(self, job_id: str) -> Job:
        """One job. Raises UnknownJobError."""
        return msgspec.json.decode(self._stored(job_id), type=Job)

    def all(self, model: str | None = None, limit: int = 200) -> list[Job]:
        """The newest jobs first."""
        return self._select(model, sa.true(), limit)

    def unfinished(self, model: str | None = None) -> list[Job]:
        """All jobs that run or wait, the newest first."""
        return self._select(model, JOBS.c.state.in_(UNFINISHED), None)

    def begun(
        self, model: str, *, after: float = 0.0, until: float, limit: int | None = None
    ) -> list[Job]:
        """Jobs of a model by when they began (seconds since 1970), the newest first."""
        between = sa.and_(JOBS.c.created_at > after, JOBS.c.created_at <= until)
        return self._select(model, between, limit)

    def ended(self, until: float) -> list[Job]:
        """Jobs that are done and began by then (seconds since 1970), the newest first."""
        return self._select(None, sa.and_(JOBS.c.state == "done", JOBS.c.created_at <= until), None)

    def remove(self, ids: list[str]) -> None:
        """Remove the rows of jobs; of those that have not ended none."""
        with self._writing() as connection:
            connection.execute(sa.delete(JOBS).where(JOBS.c.id.in_(ids), JOBS.c.state == "done"))

    def _make(self) -> None:
        if not self._made:
            make_sqlite_file(self._engine.url)
            _METADATA.create_all(self._engine)
            self._made = True
            with suppress(SQLAlchemyError):  # for speed only
                _BY_MODEL.create(self._engine, checkfirst=True)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._make()
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        self._make()
        with self._engine.begin() as connection:
            self._fence(connection)
            yield connection

    def _select(self, model: str | None, which: Any, limit: int | None) -> list[Job]:
        query = sa.select(JOBS.c.job).where(which).order_by(JOBS.c.created_at.desc()).limit(limit)
        if model is not None:
            query = query.where(JOBS.c.model == model)
        with self._reading() as connection:
            rows = connection.execute(query).scalars().all()
        return [msgspec.json.decode(row, type=Job) for row in rows]

    def _stored(self, job_id: str) -> bytes:
        with self._reading() as connection:
            stored = connection.execute(sa.select(JOBS.c.job).where(JOBS.c.id == job_id)).scalar()
        if stored is None:
            raise UnknownJobError(job_id)
        return bytes(stored)

    def _swap(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Change the row that was read, and read again where it has changed meanwhile."""
        while True:
            stored = self._stored(job_id)
            before = msgspec.json.decode(stored, type=Job)
            after = change(before)
            if after == before:
                return before
            now, stages = time.time(), after.stages
            if after.stage != before.stage:
                stages = {**stages, after.stage: now}
            after = msgspec.structs.replace(after, updated_at=now, stages=stages)
            same = sa.and_(JOBS.c.id == job_id, JOBS.c.job == stored)
            with self._writing() as connection:
                done = connection.execute(sa.update(JOBS).where(same).values(**_row(after)))
            if done.rowcount == 1:
                return after


def _plain(stage: str) -> str:
    return stage.partition(" (")[0]


def _row(job: Job) -> dict[str, str | float | bytes]:
    return {"model": job.model, "state": job.state, "job": msgspec.json.encode(job)}


def _ended(job: Job, outcome: str, detail: str) -> Job:
    if job.state == "done":
        return job
    closed = {"state": "done", "stage": "done", "outcome": outcome, "detail": detail}
    return msgspec.structs.replace(job, **closed, ended_at=time.time())
