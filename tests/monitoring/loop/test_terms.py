"""What a job depends on is frozen when it starts: a changed setting changes no running job."""

import itertools
from pathlib import Path

import msgspec
import pytest

from monitoring.loop.jobs import PersonAnswer
from monitoring.loop.terms import LOOP_VERSION, Terms, begun_elsewhere, frozen, terms_of
from tests.monitoring.loop import kills, versions
from tests.monitoring.loop.lab import Lab, audit, job_of
from tests.monitoring.loop.parameters import first_of

MODES = ("manual", "auto", "report")
PAIRS = list(itertools.permutations(MODES, 2))  # of the first one the job waits for a person
OUTCOMES = {"auto": "promoted", "manual": "promoted", "report": "reported"}


def terms(mode: str, **changes: float) -> Terms:
    """Terms of a mode, with waits that a restart fits into."""
    waits = {"shadow_seconds": 3.0, "probation_seconds": 3.0, "label_patience_seconds": 100.0}
    waits["min_labels"] = 5
    return msgspec.convert({"mode": mode} | waits | changes, Terms)


def pass_labels(lab: Lab) -> None:
    """What lets the job go on from where it waits for labels."""
    lab.label("digits", 1, 5)


def approve(lab: Lab) -> None:
    """What lets the job go on from where it waits for a person."""
    lab.store().answer("job", PersonAnswer(True, "ada", "looks right", 0.0))


STAGES = {
    "awaiting labels": pass_labels, "training": lambda lab: lab.let_go("job", "train"),
    "approval": approve, "shadowing": None, "probation": None,
}  # fmt: skip
OF_MODE = {
    "auto": ("awaiting labels", "training", "shadowing", "probation"),
    "manual": ("awaiting labels", "training", "approval", "shadowing", "probation"),
    "report": ("awaiting labels", "training"),
}


@pytest.mark.parametrize(("old", "new"), first_of(*PAIRS))
def test_a_mode_changed_at_every_stage_that_waits_changes_nothing(
    old: str, new: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path, terms=terms(old))
    lab.put(job_of("job", held=["train"]))
    for stage in OF_MODE[old]:
        process = lab.begin()
        lab.until("job", stage)
        lab.stop(process)
        lab.terms = terms(new, min_labels=100_000, probation_seconds=1e5, step_timeout_seconds=0.1)
        process = lab.begin()  # the job goes on under the old terms
        lab.until("job", stage)
        if (pass_on := STAGES[stage]) is not None:
            pass_on(lab)
        if stage != OF_MODE[old][-1]:
            lab.until("job", *OF_MODE[old][OF_MODE[old].index(stage) + 1 :], "gating", "done")
            lab.stop(process)
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == OUTCOMES[old], job
    assert terms_of(job) == terms(old)
    promoted = OUTCOMES[old] == "promoted"
    assert audit(lab) == ["publish", "promote", "publish", *(["promote"] if promoted else [])]
    assert lab.registry.aliases("digits").challenger == (None if promoted else 2)


def test_terms_come_back_from_a_job_as_they_were() -> None:
    terms = Terms(mode="manual", probation_seconds=1.5, retrain_epochs=3)
    job = msgspec.structs.replace(job_of("job"), terms=frozen(terms))
    assert terms_of(job) == terms
    assert not begun_elsewhere(job)
    assert not begun_elsewhere(job_of("not begun"))


def test_a_job_begun_under_another_version_of_the_loop_is_abandoned(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    other = frozen(Terms(loop=f"{LOOP_VERSION}.other"))
    lab.put(msgspec.structs.replace(job_of("job"), terms=other, challenger=2))
    versions.publish(lab.registry.root, promote=False)
    assert lab.registry.aliases("digits").challenger == 2
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert (job.state, job.outcome) == ("done", "abandoned")
    assert "another version of the loop" in job.detail
    assert lab.registry.aliases("digits").challenger is None


@pytest.mark.slow
def test_a_kill_while_a_job_is_abandoned_leaves_no_challenger_behind(tmp_path: Path) -> None:
    def begun_elsewhere(folder: Path) -> Lab:
        lab = Lab(folder)
        other = frozen(Terms(loop=f"{LOOP_VERSION}.other"))
        lab.put(msgspec.structs.replace(job_of("job"), terms=other, challenger=2))
        versions.publish(lab.registry.root, promote=False)
        return lab

    assert begun_elsewhere(tmp_path / "whole").run() == 0
    for number, point in enumerate(kills.points(tmp_path / "whole")):
        lab = begun_elsewhere(tmp_path / f"{number}")
        kills.ask_for(lab.folder, number)
        lab.run_to_the_end()
        assert lab.jobs()["job"].outcome == "abandoned", point
        assert lab.registry.aliases("digits").challenger is None, point
