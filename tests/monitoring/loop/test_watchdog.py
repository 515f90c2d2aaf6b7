"""A job that does not move is seen, told, resumed where that helps, and ended where not."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from dbos._dbos import _get_or_create_dbos_registry
from dbos._sys_db import SystemDatabase

from monitoring.loop import supervisor
from monitoring.loop.durable.beats import Beats
from monitoring.loop.jobs import Job
from monitoring.loop.lifecycle import Lifecycle
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.supervisor import STALLED_SECONDS, Supervisor
from monitoring.loop.terms import Terms, Workplace, frozen
from monitoring.records.store import RecordStore
from tests.monitoring.loop import kills, versions
from tests.monitoring.loop.lab import Lab, job_of
from tests.waiting import wait_until


class Clock:
    """Passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def told(tmp_path: Path) -> list[Job]:
    """The jobs whose end was told."""
    return []


@pytest.fixture
def keeper(tmp_path: Path, told: list[Job]) -> Iterator[Supervisor]:
    """A supervisor whose threads do not run, with a clock of its own."""
    lab = Lab(tmp_path, ("digits", "letters"))
    place = Workplace(str(tmp_path), lab.database_url)
    loop = Lifecycle(
        place, lab.registry, lab.store(), RecordStore(lab.database_url), WatchMetrics(), told.append
    )
    loop.beats = Beats(Clock())
    yield Supervisor(loop, Terms(), lambda: None)
    _get_or_create_dbos_registry().instance_info_map.clear()  # there is one in a process


def running(keeper: Supervisor, name: str, model: str = "digits") -> Job:
    """A job that runs here."""
    job = msgspec.structs.replace(job_of(name, model), terms=frozen(Terms()), stage="gating")
    keeper.lifecycle.beats.beat(name)
    return keeper.lifecycle.jobs.put(job)


def gauge(keeper: Supervisor, name: str, model: str = "digits") -> float | None:
    """A metric of the loop."""
    read = keeper.lifecycle.metrics.registry.get_sample_value
    return read(f"holdfast_lifecycle_{name}", {"model": model})


def forward(keeper: Supervisor, seconds: float) -> None:
    """Let time pass, and look."""
    clock = keeper.lifecycle.beats.clock
    assert isinstance(clock, Clock)
    clock.now += seconds
    keeper.look()


def test_a_job_that_stands_still_is_shown_and_one_that_moves_again_is_not(
    keeper: Supervisor,
) -> None:
    running(keeper, "job")
    running(keeper, "other", "letters")
    forward(keeper, STALLED_SECONDS - 1)
    assert gauge(keeper, "stalled") == 0
    keeper.lifecycle.beats.beat("other")
    forward(keeper, 2)
    assert (gauge(keeper, "stalled"), gauge(keeper, "stalled", "letters")) == (1, 0)
    moved = gauge(keeper, "moved_timestamp_seconds")
    assert moved == pytest.approx(time.time() - STALLED_SECONDS - 1, abs=60)
    keeper.lifecycle.beats.beat("job")
    forward(keeper, 1)
    assert gauge(keeper, "stalled") == 0


def test_the_series_goes_with_the_job(keeper: Supervisor) -> None:
    running(keeper, "job")
    forward(keeper, STALLED_SECONDS + 1)
    keeper.lifecycle.jobs.end("job", "failed", "by hand")
    forward(keeper, 1)
    assert gauge(keeper, "stalled") is None


def test_a_job_that_stands_still_for_too_long_is_abandoned_and_its_challenger_withdrawn(
    keeper: Supervisor, told: list[Job]
) -> None:
    running(keeper, "job")
    version = versions.publish(keeper.lifecycle.registry.root, promote=False)
    keeper.lifecycle.jobs.change("job", challenger=version)
    forward(keeper, Terms().step_timeout_seconds + STALLED_SECONDS - 1)
    assert keeper.lifecycle.jobs.get("job").state == "running"
    forward(keeper, 2)
    job = keeper.lifecycle.jobs.get("job")
    assert (job.state, job.outcome) == ("done", "abandoned")
    assert "stood still for 3901 s at 'gating'" in job.detail
    assert keeper.lifecycle.registry.aliases("digits").challenger is None
    assert [job.id for job in told] == ["job"]


def test_a_step_that_returns_after_its_job_was_abandoned_does_nothing_more(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job", held=["train"]))
    process = lab.begin()
    lab.until("job", "training")
    lab.store().abandon(lab.jobs()["job"], "as a test")
    lab.let_go("job", "train")
    runs = tmp_path / "jobs" / "job" / "train.json"
    wait_until(runs.exists, what="the training has ended")
    lab.put(job_of("next", verdict="passed"))  # the life goes on until this one has ended
    lab.wait(process)
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert (job.outcome, job.detail) == ("abandoned", "as a test")
    aliases = lab.registry.aliases("digits")
    assert (aliases.champion, aliases.challenger) == (1, None)


def test_a_workflow_that_cannot_be_recorded_goes_on_when_it_can(tmp_path: Path) -> None:
    """DBOS' own disk is full for a moment: the step is done, and not known to be."""

    def impatient() -> None:
        supervisor.IDLE_SECONDS = 1.0

    lab = Lab(tmp_path, hooks=[impatient])
    lab.put(job_of("job"))
    for number in (6, 25, 26, 50):
        kills.ask_error(tmp_path, number, "database full")
    assert lab.run() == 0
    assert lab.jobs()["job"].outcome == "promoted"
    assert len(list(tmp_path.glob("raised-*"))) == 4


def test_a_workflow_that_never_can_is_abandoned_after_five_tries(tmp_path: Path) -> None:
    def broken() -> None:
        supervisor.IDLE_SECONDS = 0.05

        def fail(*_: object, **__: object) -> None:
            raise kills.ERRORS["database full"]()

        SystemDatabase.record_operation_result = fail  # type: ignore[method-assign]

    lab = Lab(tmp_path, hooks=[broken])
    lab.put(job_of("job"))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "abandoned"
    assert "stopped 5 times" in job.detail


def test_a_workflow_that_was_ended_from_outside_frees_its_model(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job", seconds={"train": 60.0}))
    process = lab.begin()
    lab.until("job", "training")
    lab.stop(process)

    with sqlite3.connect(tmp_path / "loop.sqlite") as base:
        base.execute("UPDATE workflow_status SET status = 'ERROR'")
    base.close()
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "abandoned"
    assert "its workflow ended (ERROR) and left it at 'training'" in job.detail


def test_a_step_that_takes_too_long_is_ended_by_that_name_with_all_it_has_started(
    tmp_path: Path,
) -> None:
    terms = msgspec.structs.replace(Lab.terms, step_timeout_seconds=8.0)
    lab = Lab(tmp_path, terms=terms)
    lab.put(job_of("job", seconds={"collect": 600.0}))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "failed"
    assert "collect took more than 8 s" in job.detail
    assert "HOLDFAST_STEP_TIMEOUT_SECONDS" in job.detail
    noted = tmp_path / "jobs" / "job" / "collect.runs"
    runs = noted.read_text().split() if noted.exists() else []  # it may have taken all to start
    assert len(runs) <= 1
    assert not any(Path(f"/proc/{process}").exists() for process in runs)
