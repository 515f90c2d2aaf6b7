"""Laws of the job store: what was put comes back, newest first, from any process."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from monitoring.jobs import Job, JobStore, UnknownJobError

READER = """
import sys, sqlalchemy as sa
from monitoring.jobs import JobStore
print(JobStore(sa.create_engine(sys.argv[1])).get("a").stage)
"""


def job(name: str = "a", model: str = "digits", created_at: float = 1.0) -> Job:
    """A job that was just asked for."""
    return Job(name, "evaluate", model, 1, "drift", "energy higher", 0.5, created_at)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database file."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def store(url: str) -> JobStore:
    """An empty store."""
    return JobStore(sa.create_engine(url))


def test_job_comes_back_as_it_was_put(store: JobStore) -> None:
    rich = msgspec.structs.replace(
        job(),
        checks=[{"name": "parity", "passed": True}],
        evaluation={"at": 1.5},
        options={"x": [1]},
    )
    before = time.time()
    put = store.put(rich)
    assert before <= put.updated_at <= time.time()
    assert store.get("a") == put == msgspec.structs.replace(rich, updated_at=put.updated_at)


def test_change_keeps_all_other_fields(store: JobStore) -> None:
    store.put(job())
    store.change("a", stage="training")
    changed = store.change("a", state="done", outcome="promoted", challenger=2)
    assert (changed.stage, changed.state, changed.outcome) == ("training", "done", "promoted")
    assert changed.reason == "energy higher"
    assert store.all() == [changed]


def test_unknown_job_is_an_error_with_its_name(store: JobStore) -> None:
    for ask in (lambda: store.get("b"), lambda: store.change("b", stage="x")):
        with pytest.raises(UnknownJobError, match="no job 'b'"):
            ask()
    assert store.all() == []


def test_newest_come_first_and_only_those_of_the_model(store: JobStore) -> None:
    for k, model in ((1, "digits"), (3, "other"), (2, "digits"), (4, "digits")):
        store.put(job(f"job-{k}", model, created_at=float(k)))
    store.change("job-1", stage="later")  # a change makes no job newer
    assert [j.id for j in store.all()] == ["job-4", "job-3", "job-2", "job-1"]
    assert [j.id for j in store.all("digits")] == ["job-4", "job-2", "job-1"]
    assert [j.id for j in store.all("digits", limit=2)] == ["job-4", "job-2"]
    assert store.all("nobody") == []


def test_field_that_a_job_does_not_have_is_refused(store: JobStore) -> None:
    store.put(job())
    with pytest.raises(TypeError, match="colour"):
        store.change("a", colour="red")
    assert store.get("a").stage == "queued"


def test_another_process_reads_what_was_put(store: JobStore, url: str) -> None:
    store.put(job())
    store.change("a", stage="gating")
    read = subprocess.run([sys.executable, "-c", READER, url], capture_output=True, check=True)
    assert read.stdout == b"gating\n"
    assert JobStore(sa.create_engine(url)).get("a") == store.get("a")
