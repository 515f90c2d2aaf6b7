"""Jobs of the loop as people see them: one row each, kept for ever."""

import time
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from models.errors import HoldfastError
from models.gates import Bounds
from models.signature import Keys
from monitoring.database import make_sqlite_file

State = Literal["running", "waiting", "done"]
UNFINISHED = ("running", "waiting")


class Job(msgspec.Struct, frozen=True):
    """One run of the loop. `outcome` and `checks` are set when it is done."""

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
    checks: list[dict[str, Any]] = []
    evaluation: dict[str, Any] = {}
    options: dict[str, Any] = {}


class Task(msgspec.Struct, frozen=True):
    """What a child needs to know besides the job."""

    job: Job
    registry: str
    database_url: str
    retrain_epochs: int
    bounds: Bounds = Bounds()
    keys: Keys = Keys()


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


class UnknownJobError(HoldfastError):
    """No such job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}; see: holdfast jobs list")


class JobStore:
    """Jobs in the database beside the records. One writer (the watcher), any number of readers."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_sqlite_file(engine.url)
        _METADATA.create_all(engine)

    def put(self, job: Job) -> Job:
        """Insert or replace; `updated_at` becomes now."""
        job = msgspec.structs.replace(job, updated_at=time.time())
        row: dict[str, Any] = {
            "model": job.model,
            "state": job.state,
            "job": msgspec.json.encode(job),
        }
        with self._engine.begin() as connection:
            changed = connection.execute(sa.update(JOBS).where(JOBS.c.id == job.id).values(**row))
            if changed.rowcount == 0:
                row |= {"id": job.id, "created_at": job.created_at}
                connection.execute(sa.insert(JOBS).values(**row))
        return job

    def change(self, job_id: str, **fields: Any) -> Job:
        """Replace fields of a stored job. Raises UnknownJobError."""
        return self.put(msgspec.structs.replace(self.get(job_id), **fields))

    def get(self, job_id: str) -> Job:
        """One job. Raises UnknownJobError."""
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(JOBS.c.job).where(JOBS.c.id == job_id)).scalar()
        if found is None:
            raise UnknownJobError(job_id)
        return msgspec.json.decode(found, type=Job)

    def all(self, model: str | None = None, limit: int = 200) -> list[Job]:
        """The newest jobs first."""
        query = sa.select(JOBS.c.job).order_by(JOBS.c.created_at.desc()).limit(limit)
        if model is not None:
            query = query.where(JOBS.c.model == model)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalars().all()
        return [msgspec.json.decode(row, type=Job) for row in found]
