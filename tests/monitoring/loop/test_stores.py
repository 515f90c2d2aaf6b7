"""A database that is locked, away, slow or full: jobs wait, or end by name."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitoring.loop.durable import patience
from monitoring.loop.jobs import JobStore
from monitoring.records.database import engine_url
from tests.monitoring.loop.lab import Lab, audit, job_of
from tests.monitoring.loop.parameters import first_of
from tests.monitoring.loop.test_kills import PROMOTED
from tests.postgres import Postgres, postgres
from tests.waiting import wait_until

THREE = ("digits", "letters", "table")
STAGES = ("evaluating", "training", "probation")


HOLDER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
base.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nobody else writes to an SQLite file meanwhile; in a process of its own, as locks are."""
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            holder.kill()


def impatient() -> None:
    """Waits of a second instead of minutes, for what stays locked for longer."""
    patience.PATIENCE_SECONDS = 1.0
    patience.LONGEST_PAUSE_SECONDS = 0.5
    make = JobStore.__init__

    def quick(self: JobStore, engine: sa.Engine) -> None:
        sa.event.listen(engine, "connect", lambda base, _: base.execute("PRAGMA busy_timeout=200"))
        make(self, engine)

    JobStore.__init__ = quick  # type: ignore[method-assign]


@pytest.mark.parametrize("name", first_of("records", "loop"))
def test_a_database_that_is_locked_for_a_moment_is_waited_for(name: str, tmp_path: Path) -> None:
    models = THREE[:2]
    lab = Lab(tmp_path, models)
    lab.put(*(job_of(f"job-{model}", model) for model in models))
    process = lab.begin()
    lab.until("job-letters", "evaluating", "awaiting labels")
    with locked(tmp_path / f"{name}.sqlite"):
        time.sleep(3)  # what is waited for is the waiting itself
    assert lab.wait(process, 300) == 0
    for model in models:
        assert audit(lab, model) == PROMOTED
    assert {job.outcome for job in lab.jobs().values()} == {"promoted"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["records", "loop"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_database_that_is_locked_for_a_minute_is_waited_for(
    name: str, stage: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job", seconds={"train": 1.0}))
    process = lab.begin()
    lab.until("job", stage)
    with locked(tmp_path / f"{name}.sqlite"):
        time.sleep(60)
    assert lab.wait(process, 600) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "promoted", job
    assert audit(lab) == PROMOTED


def test_a_database_that_stays_locked_ends_the_job_by_name_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, hooks=[impatient])
    lab.put(job_of("job", held=["train"]))
    process = lab.begin()
    lab.until("job", "training")
    lab.put(job_of("next", verdict="passed"))
    log = tmp_path / "life.log"
    with locked(tmp_path / "records.sqlite"):
        lab.let_go("job", "train")
        wait_until(lambda: "job_failed" in log.read_text(), what="the job gives up", every=0.1)
        tried = log.read_text().count("step=end")
        wait_until(
            lambda: log.read_text().count("step=end") > tried + 1, what="its end is tried again"
        )
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "failed"
    assert "database is locked" in job.detail
    assert lab.registry.aliases("digits").challenger is None
    assert lab.jobs()["next"].outcome == "passed"


@pytest.mark.slow
def test_a_database_that_is_locked_when_the_loop_begins_is_waited_for(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job"))
    log = tmp_path / "life.log"
    process = 0
    with locked(tmp_path / "loop.sqlite"):
        process = lab.begin()
        wait_until(
            lambda: log.exists() and "database is locked" in log.read_text(),
            what="it is told why nothing starts",
        )
        assert lab.jobs()["job"].state == "running"
    assert lab.wait(process) == 0
    assert lab.jobs()["job"].outcome == "promoted"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with postgres() as running:
        yield running


def on_postgres(folder: Path, server: Postgres) -> Lab:
    """A lab with a database of its own in the server, and a job for each of three models."""
    name = f"lab_{time.time_ns()}"
    engine = sa.create_engine(engine_url(server.url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    url = server.url.replace("/postgres", f"/{name}")
    lab = Lab(folder, THREE, database_url=url, system_url=url)
    lab.put(*(job_of(f"job-{model}", model, seconds={"train": 1.0}) for model in THREE))
    return lab


FAULTS = {"slow": ("pause", "go_on"), "away": ("stop", "start")}


@pytest.mark.parametrize("fault", first_of("away", "slow"))
@pytest.mark.parametrize("stage", first_of("training", "evaluating", "gating"))
def test_a_server_that_is_away_or_stopped_is_waited_for(
    fault: str, stage: str, server: Postgres, tmp_path: Path
) -> None:
    lab = on_postgres(tmp_path, server)
    process = lab.begin()
    lab.until("job-digits", stage)
    begin, end = FAULTS[fault]
    getattr(server, begin)()
    time.sleep(5)
    getattr(server, end)()
    assert lab.wait(process, 400) == 0
    for model in THREE:
        assert audit(lab, model) == PROMOTED
    assert {job.outcome for job in lab.jobs().values()} == {"promoted"}


@pytest.mark.slow
def test_a_lock_on_the_jobs_of_a_server_is_waited_for(server: Postgres, tmp_path: Path) -> None:
    lab = on_postgres(tmp_path, server)
    process = lab.begin()
    lab.until("job-digits", "training")
    engine = sa.create_engine(engine_url(lab.database_url))
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        time.sleep(20)  # longer than one statement waits
    engine.dispose()
    assert lab.wait(process, 400) == 0
    assert {job.outcome for job in lab.jobs().values()} == {"promoted"}


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of so many kilobytes at a folder; skipped where that may not be made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here: that takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue
    return ballast


@pytest.mark.parametrize("stage", first_of("training", "evaluating", "gating", "probation"))
def test_a_full_disk_is_waited_for(stage: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20_000):
        lab = Lab(tmp_path / "disk")
        lab.terms = lab.terms.__class__(probation_seconds=2.0, min_labels=0)
        lab.put(job_of("job", seconds={"train": 1.0}))
        process = lab.begin()
        lab.until("job", stage)
        ballast = fill(lab.folder)
        time.sleep(4)
        ballast.unlink()
        assert lab.wait(process, 400) == 0
        job = lab.jobs()["job"]
        assert job.outcome == "promoted", job
        assert audit(lab) == PROMOTED
