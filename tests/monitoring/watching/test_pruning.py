"""Files of old jobs go, those of jobs that go on stay."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from monitoring.loop.jobs import Job, JobStore
from monitoring.records.database import StoreError
from monitoring.records.keeping.limits import Kept
from monitoring.watching.pruning import ROWS_KEPT, prune_jobs, prune_rows, prune_state

DAY = 86_400.0
NOW = 1e9


def test_files_of_old_jobs_go_unless_the_job_goes_on(tmp_path: Path) -> None:
    for name, age in (("old", 9), ("fresh", 1), ("touched", 9), ("running", 9)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "window.npz").write_bytes(b"rows")
        for path in (folder / "window.npz", folder):
            os.utime(path, (NOW - age * DAY,) * 2)
    os.utime(tmp_path / "touched" / "window.npz", (NOW,) * 2)
    jobs: Any = SimpleNamespace(unfinished=lambda: [SimpleNamespace(id="running")])
    assert prune_jobs(tmp_path, jobs, NOW - 5 * DAY) == ["old"]
    assert {path.name for path in tmp_path.iterdir()} == {"fresh", "touched", "running"}
    assert prune_jobs(tmp_path / "absent", jobs, NOW) == []


def make_old(folder: Path, names: str) -> Any:
    for name in names:
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (NOW - 9 * DAY,) * 2)
    return SimpleNamespace(unfinished=list, ended=lambda before: [])


def test_a_job_that_cannot_be_removed_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, remove = make_old(tmp_path, "abc"), shutil.rmtree

    def fail(path: Path) -> None:
        if path.name == "b":
            raise PermissionError("not yours")
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(OSError, match="b: not yours"):
        prune_jobs(tmp_path, jobs, NOW - 5 * DAY)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_file_that_vanishes_makes_its_job_busy_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_old(tmp_path, "ab")
    monkeypatch.setattr(Path, "rglob", lambda f, _: [f / "gone"] if f.name == "a" else [])
    assert prune_jobs(tmp_path, jobs, NOW - 5 * DAY) == ["b"]


def test_records_that_cannot_be_pruned_keep_no_job(tmp_path: Path) -> None:
    jobs = make_old(tmp_path / "jobs", "a")

    def fail(kept: Kept) -> int:
        raise StoreError("away")

    records: Any = SimpleNamespace(prune=fail)
    with pytest.raises(StoreError, match="away"):
        prune_state(tmp_path, Kept(job_days=5), records, jobs, NOW)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_rows_of_old_jobs_go_but_not_what_the_loop_looks_back_at(tmp_path: Path) -> None:
    jobs = JobStore(sa.create_engine(f"sqlite:///{tmp_path / 'records.sqlite'}"))
    for number in range(ROWS_KEPT + 8):
        at = NOW - 100 * DAY + number
        champion = 2 if number == 3 or number > 6 else 1  # version 2 is champion again
        done = {} if number == 4 else {"state": "done", "ended_at": at + 1}
        if number == 5:
            done["ended_at"] = NOW - DAY  # it took long
        jobs.put(
            Job(f"{number:03}", "evaluate", "m", champion, "drift", "", 0.0, at, **done)  # type: ignore[arg-type]
        )
    jobs.put(Job("other", "evaluate", "n", 1, "drift", "", 0.0, NOW - 100 * DAY, state="done"))
    forgotten: list[str] = []
    gone = prune_rows(jobs, NOW - 30 * DAY, forgotten.extend)
    # 003 is of the champion of now, 004 goes on, 005 has ended of late; those from 008 on are new.
    assert sorted(gone) == sorted(forgotten) == ["000", "001", "002", "006"]
    left = {job.id for job in jobs.all(limit=1000)}
    assert left == {"other", "003", "004", "005", *(f"{n:03}" for n in range(7, ROWS_KEPT + 8))}
    assert prune_rows(jobs, NOW - 30 * DAY, forgotten.extend) == []


def test_rows_stay_where_the_workflows_cannot_be_forgotten(tmp_path: Path) -> None:
    jobs = JobStore(sa.create_engine(f"sqlite:///{tmp_path / 'records.sqlite'}"))
    for number in range(ROWS_KEPT + 1):
        champion = 1 if number == 0 else 2
        at = NOW - 100 * DAY + number
        job = Job(
            f"{number:03}",
            "evaluate",
            "m",
            champion,
            "drift",
            "",
            0.0,
            at,
            state="done",
            ended_at=at,
        )
        jobs.put(job)

    def fail(ids: list[str]) -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        prune_rows(jobs, NOW - 30 * DAY, fail)
    assert len(jobs.all(limit=1000)) == ROWS_KEPT + 1
    assert prune_rows(jobs, NOW - 30 * DAY, lambda ids: None) == ["000"]
