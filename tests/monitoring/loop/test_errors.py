"""An error at any point ends the job by name and frees the model, or passes and is waited for."""

import random
from pathlib import Path

import pytest

from tests.monitoring.loop import kills
from tests.monitoring.loop.lab import Lab, audit, job_of, leftovers
from tests.monitoring.loop.parameters import first_of
from tests.monitoring.loop.test_kills import PROMOTED, fresh, is_whole
from tests.waiting import wait_until

PARTS = 6
PASSING = ("full", "database full", "locked")
OTHERS = ("KeyError", "RuntimeError")


def whole_points(folder: Path) -> list[str]:
    """The points of a run in which all goes well."""
    lab = fresh(folder)
    assert lab.run() == 0
    return kills.points(folder)


def run_with_error(folder: Path, number: int, error: str) -> Lab:
    """A run in which an error is raised at a point, and then one without."""
    lab = fresh(folder)
    kills.ask_error(folder, number, error)
    assert lab.run() == 0
    assert not (folder / f"raise-{number}").exists(), f"point {number} was never come to"
    return lab


def ends_by_name(lab: Lab, error: str, point: str) -> None:
    """It failed by that name, or had ended before; what it leaves behind is in order."""
    (job,) = lab.jobs().values()
    assert job.state == "done"
    assert job.ended_at is not None
    assert job.outcome in ("failed", "abandoned", "promoted"), (point, job)
    if job.outcome == "failed":
        assert error in job.detail, (point, job.detail)
    aliases = lab.registry.aliases("digits")
    assert aliases.challenger is None, point
    promoted = "promote" in audit(lab)[2:]
    assert aliases.champion == (2 if promoted else 1), point
    if promoted and job.outcome == "failed":
        assert "version 2 was promoted before, and stays" in job.detail
    assert leftovers(lab) == {}


def model_is_free(lab: Lab) -> None:
    """The next job runs to its end."""
    lab.put(job_of("next", verdict="passed"))
    assert lab.run() == 0
    assert lab.jobs()["next"].outcome == "passed"


def test_errors_at_a_few_points(tmp_path: Path) -> None:
    points, rng = whole_points(tmp_path / "whole"), random.Random(4)
    number = rng.randrange(len(points))
    lab = run_with_error(tmp_path / "other", number, "KeyError")
    ends_by_name(lab, "KeyError", points[number])
    number = rng.randrange(len(points))
    is_whole(run_with_error(tmp_path / "passing", number, "database full"))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_an_error_at_every_point_ends_the_job_by_name(part: int, tmp_path: Path) -> None:
    points, rng = whole_points(tmp_path / "whole"), random.Random(part)
    for number in range(len(points))[part::PARTS]:
        error = rng.choice(OTHERS)
        lab = run_with_error(tmp_path / str(number), number, error)
        ends_by_name(lab, error, points[number])
        print(f"{error} at {number} {points[number]!r}: {lab.jobs()['job-digits'].outcome}")
    model_is_free(lab)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_fault_that_passes_at_every_point_changes_nothing(part: int, tmp_path: Path) -> None:
    points, rng = whole_points(tmp_path / "whole"), random.Random(part)
    for number in range(len(points))[part::PARTS]:
        error = rng.choice(PASSING)
        lab = run_with_error(tmp_path / str(number), number, error)
        is_whole(lab)
        print(f"{error} at {number} {points[number]!r}: whole")


@pytest.mark.parametrize("step", first_of("collect", "train"))
def test_a_child_that_fails_by_what_passes_is_tried_again(step: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job", fails={step: "full"}))
    folder = tmp_path / "jobs" / "job"
    process = lab.begin()

    def tried() -> bool:
        runs = folder / f"{step}.runs"
        return runs.exists() and len(runs.read_text().splitlines()) >= 2

    wait_until(tried, what="the step was tried again")
    assert "waiting: " in lab.jobs()["job"].detail
    (folder / f"{step}.mended").touch()
    assert lab.wait(process) == 0
    assert lab.jobs()["job"].outcome == "promoted"
    assert audit(lab) == PROMOTED
