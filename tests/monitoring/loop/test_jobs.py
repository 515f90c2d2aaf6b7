"""Laws of the job store: what was put comes back, newest first, from any process."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from models.evaluation.gates.checks import Check
from models.statistics.shares import Proportion
from monitoring.loop.jobs import (
    ABANDONING,
    AnsweredError,
    Job,
    JobOverError,
    JobStore,
    NotWaitingError,
    PersonAnswer,
    UnknownJobError,
)
from monitoring.loop.results import Look

SHARE = Proportion(0.9, 0.8, 0.95, 9)
READER = """
import sys, sqlalchemy as sa
from monitoring.loop.jobs import JobStore
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
        checks=(Check("parity", "pass", 0.0, 1e-4, "equal"),),
        evaluation=Look("failed", "fell", SHARE, SHARE, None, 1.5),
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


YES, NO = (
    PersonAnswer(approved, who, "why", 1.0) for approved, who in ((True, "ada"), (False, "bob"))
)


def test_a_job_ends_once_and_nothing_revives_it(store: JobStore) -> None:
    store.put(job())
    before = time.time()
    ended = store.end("a", "failed", "so it is")
    assert (ended.state, ended.stage, ended.outcome) == ("done", "done", "failed")
    assert ended.ended_at is not None
    assert before <= ended.ended_at <= time.time()
    assert store.end("a", "promoted", "later") == ended
    assert store.expire("a", "later") == ended
    assert store.abandon(job(), "later") == ended
    for change in (lambda: store.advance("a", stage="x"), lambda: store.ask("a")):
        with pytest.raises(JobOverError, match="failed: so it is"):
            change()
    with pytest.raises(NotWaitingError, match="failed: so it is"):
        store.answer("a", YES)
    assert store.get("a") == ended


def test_only_a_job_that_waits_is_answered_and_the_first_answer_counts(store: JobStore) -> None:
    store.put(job())
    with pytest.raises(NotWaitingError, match="it is queued"):
        store.answer("a", YES)
    assert store.ask("a").state == "waiting"
    answered = store.answer("a", YES)
    assert (answered.state, answered.stage, answered.answer) == ("running", "approved", YES)
    for other in (YES, NO):
        with pytest.raises(
            AnsweredError, match="approved by 'ada' at 1970-01-01 00:00:01 UTC: why"
        ):
            store.answer("a", other)
    assert store.ask("a") == answered, "it waits no second time"
    assert store.expire("a", "too late") == answered


def test_a_job_that_moved_meanwhile_is_not_abandoned(store: JobStore) -> None:
    seen = store.put(job())
    moved = store.advance("a", stage="training")
    assert store.abandon(seen, "still") == moved
    assert store.claim(seen, "still") is None
    claimed = store.claim(moved, "still")
    assert claimed is not None
    assert (claimed.state, claimed.stage) == ("running", ABANDONING), "it is found again"
    assert store.unfinished() == [claimed]
    assert store.abandon(claimed, "still").outcome == "abandoned"


def test_unfinished_jobs_are_all_found_however_many_have_ended_since(store: JobStore) -> None:
    store.put(job("old", created_at=0.0))
    store.put(job("waits", "other", created_at=0.5))
    store.ask("waits")
    for k in range(250):
        store.put(msgspec.structs.replace(job(f"j{k}", created_at=1.0 + k), state="done"))
    assert [j.id for j in store.unfinished()] == ["waits", "old"]
    assert [j.id for j in store.unfinished("digits")] == ["old"]


Act = Callable[[JobStore], object]
RIVALS: dict[str, Act] = {
    "approves": lambda store: store.answer("a", YES),
    "rejects": lambda store: store.answer("a", NO),
    "expires": lambda store: store.expire("a", "nobody came"),
    "fails": lambda store: store.end("a", "failed", "out of luck"),
    "notes": lambda store: store.advance("a", waited={"approval": 1.0}),
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(RIVALS, 2)))
def test_of_two_at_once_each_takes_effect_whole_or_is_told_why_not(
    one: str, other: str, url: str
) -> None:
    store = JobStore(sa.create_engine(url))
    for round_ in range(10):
        store.put(msgspec.structs.replace(job(), state="waiting", stage="approval"))
        together, refused = threading.Barrier(2), set[str]()

        def act(
            name: str, together: threading.Barrier = together, refused: set[str] = refused
        ) -> None:
            mine = JobStore(sa.create_engine(url))
            together.wait()
            try:
                RIVALS[name](mine)
            except (AnsweredError, NotWaitingError, JobOverError):
                refused.add(name)

        threads = [threading.Thread(target=act, args=(name,)) for name in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found, acted = store.get("a"), {one, other} - refused
        assert (found.answer is not None) == bool(acted & {"approves", "rejects"}), round_
        assert not {"approves", "rejects"} <= acted
        if found.outcome == "expired":
            assert found.answer is None
        if "fails" in acted and found.outcome != "expired":
            assert found.outcome == "failed"
        if "notes" in acted:
            assert found.waited == {"approval": 1.0}


def test_a_store_that_is_away_at_the_start_is_used_when_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    (tmp_path / "later").write_text("no folder")
    store = JobStore(sa.create_engine(f"sqlite:///{folder}/jobs.db"))
    with pytest.raises(OSError, match="later"):
        store.all()
    folder.unlink()
    store.put(job())
    assert store.get("a").id == "a"
