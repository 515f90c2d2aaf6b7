"""kill -9 at every point of a job: it is finished once, by name, and nothing is left half done.

The points are discovered by a run that is killed nowhere (`tests.monitoring.loop.kills`): before
each step, after its work, after its record, around every change of job and registry, and in the
children.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from monitoring.loop.jobs import PersonAnswer
from monitoring.loop.terms import Terms
from tests.monitoring.loop import kills
from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of, leftovers
from tests.waiting import wait_until

PARTS = 6  # the whole sweep is cut into so many tests
THREE = ("digits", "letters", "table")
PROMOTED = ["publish", "promote", "publish", "promote"]


def fresh(folder: Path, models: tuple[str, ...] = ("digits",), terms: Terms = GENTLE) -> Lab:
    """A lab with a job for each model."""
    lab = Lab(folder, models, terms)
    lab.put(*(job_of(f"job-{model}", model) for model in models))
    return lab


def all_points(folder: Path, models: tuple[str, ...] = ("digits",)) -> list[str]:
    """The points of a run that is killed nowhere."""
    lab = fresh(folder, models)
    assert lab.run() == 0
    return kills.points(folder)


def is_whole(lab: Lab) -> None:
    """Each job is finished once with the outcome that it has without a kill."""
    jobs = lab.jobs()
    assert {job.outcome for job in jobs.values()} == {"promoted"}, jobs
    for model in lab.models:
        assert audit(lab, model) == PROMOTED
        assert lab.registry.versions(model) == (1, 2)
        lab.registry.open(model, "champion")
        assert lab.registry.aliases(model).champion == 2
    assert leftovers(lab) == {}


def kill_at(folder: Path, number: int, victims: str, models: tuple[str, ...] = ("digits",)) -> int:
    """Run a job that is killed at a point; how many lives it took."""
    lab = fresh(folder, models)
    kills.ask_for(folder, number, victims)
    lives = lab.run_to_the_end()
    assert not (folder / f"kill-{number}").exists(), f"point {number} was never come to"
    is_whole(lab)
    return lives


def victims_of(point: str) -> tuple[str, ...]:
    """Who can die here: the loop; of a child, it, its parent, and both in either order."""
    child = ("self", "parent", "self parent", "parent self")
    return child if point.startswith("child") else ("self",)


def expected(point: str, victims: str) -> str | None:
    """The outcome where it is not `promoted`: a child that is killed alone fails its step."""
    return "failed" if point.startswith("child") and victims == "self" else None


def kill_and_judge(folder: Path, points: list[str], number: int, victims: str) -> None:
    """One kill, and what must stand afterwards."""
    if expected(points[number], victims) is None:
        kill_at(folder, number, victims)
        return
    lab = fresh(folder)
    kills.ask_for(folder, number, victims)
    assert lab.run_to_the_end() == 1
    (job,) = lab.jobs().values()
    assert (job.outcome, job.state) == ("failed", "done")
    assert "killed" in job.detail
    assert lab.registry.aliases("digits").challenger is None
    assert lab.registry.aliases("digits").champion == 1


def cases(points: list[str]) -> list[tuple[int, str]]:
    """Every point with everybody who can die there."""
    return [(k, who) for k, name in enumerate(points) for who in victims_of(name)]


def test_a_few_points_of_a_run(tmp_path: Path) -> None:
    points = all_points(tmp_path / "whole")
    chosen = random.Random(13).sample(cases(points), 2)
    for number, victims in chosen:
        kill_and_judge(tmp_path / f"{number}-{victims}", points, number, victims)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_point_of_a_run(part: int, tmp_path: Path) -> None:
    points = all_points(tmp_path / "whole")
    for number, victims in cases(points)[part::PARTS]:
        kill_and_judge(tmp_path / f"{number}-{victims}", points, number, victims)
        print(f"kill {number} {points[number]!r} {victims}: whole")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_three_models_at_once_killed_again_and_again(seed: int, tmp_path: Path) -> None:
    lab, rng = fresh(tmp_path, THREE), random.Random(seed)
    number = 0
    for _ in range(12):  # points go on counting over the lives
        number += rng.randint(3, 30)
        kills.ask_for(tmp_path, number)
    lab.run_to_the_end(most=30)
    killed = len(list(tmp_path.glob("killed-*")))
    assert killed >= 5
    jobs = lab.jobs()
    for model in THREE:
        job = jobs[f"job-{model}"]
        if job.outcome == "failed":  # a child of its was killed alone
            assert "killed" in job.detail
            assert lab.registry.aliases(model).champion == 1
            continue
        assert job.outcome == "promoted"
        assert audit(lab, model) == PROMOTED
    assert leftovers(lab) == {}


def run_with_answer(lab: Lab, approve: bool) -> None:
    """Lives until the end; a person answers as soon as a job waits."""
    answered = False
    for _ in range(20):
        process = lab.begin()

        def waits(process: int = process) -> bool:
            return any(job.state == "waiting" for job in lab.jobs().values()) or ended(process)

        wait_until(waits, 120, what="a job waits or its process has ended", every=0.1)
        if not answered and any(job.state == "waiting" for job in lab.jobs().values()):
            for job in lab.jobs().values():
                lab.store().answer(job.id, PersonAnswer(approve, "ada", "as asked", 0.0))
            answered = True
        if lab.wait(process) == 0:
            return
    raise AssertionError("not ended")


def ended(process: int) -> bool:
    """Whether a life has ended; it is waited for elsewhere."""
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


MANUAL = Terms(
    mode="manual",
    shadow_seconds=0.2,
    probation_seconds=0.2,
    label_patience_seconds=0.2,
    min_labels=0,
)


@pytest.mark.slow
@pytest.mark.parametrize("approve", [True, False])
def test_every_point_after_the_gates_of_a_job_that_waits(approve: bool, tmp_path: Path) -> None:
    whole = fresh(tmp_path / "whole", terms=MANUAL)
    run_with_answer(whole, approve)
    points = kills.points(whole.folder)
    first = points.index("before JobStore.ask")
    for number in range(first, len(points)):
        lab = fresh(tmp_path / str(number), terms=MANUAL)
        kills.ask_for(lab.folder, number)
        run_with_answer(lab, approve)
        (job,) = lab.jobs().values()
        assert job.answer is not None
        assert job.outcome == ("promoted" if approve else "rejected"), job
        assert audit(lab) == (PROMOTED if approve else [*PROMOTED[:3], "withdraw"])
        print(f"kill {number} {points[number]!r}: whole")


Outcome = tuple[dict[str, Any], str]
ENDS: dict[str, Outcome] = {
    "refused": ({"passes": False}, "withdraw"),
    "passed": ({"verdict": "passed"}, "promote"),
    "failed": ({"fails": {"gate": "something"}}, "withdraw"),
}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ENDS)
def test_every_point_of_the_end_of_a_job(outcome: str, tmp_path: Path) -> None:
    options, last = ENDS[outcome]

    def lab_of(name: str) -> Lab:
        lab = Lab(tmp_path / name)
        lab.put(job_of("job", **options))
        return lab

    whole = lab_of("whole")
    assert whole.run() == 0
    points = kills.points(whole.folder)
    after_children = max(k for k, name in enumerate(points) if name.startswith("child")) + 1
    for number in range(max(after_children, len(points) - 12), len(points)):
        lab = lab_of(str(number))
        kills.ask_for(lab.folder, number)
        lab.run_to_the_end()
        (job,) = lab.jobs().values()
        assert job.outcome == outcome, (points[number], job)
        assert audit(lab)[-1] == last, points[number]
        assert lab.registry.aliases("digits").challenger is None
