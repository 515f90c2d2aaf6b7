"""Changed labels are followed when a person or a trusted labeller says so, before the training."""

from pathlib import Path

import msgspec
import pytest

from models.versions.registry_state import Anchor
from monitoring.loop.jobs import LABELS_APPROVAL, AnsweredError, PersonAnswer
from monitoring.loop.terms import Terms
from tests.monitoring.loop import kills
from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of, leftovers
from tests.monitoring.loop.test_kills import run_with_answer

MANUAL = msgspec.structs.replace(GENTLE, mode="manual")
YES, NO = (PersonAnswer(said, "ada", "I asked the team", 0.0) for said in (True, False))


def asking(folder: Path, terms: Terms = GENTLE, labels: str = "meant") -> tuple[Lab, int]:
    """A lab whose job waits for a word about changed labels, and the life that runs it."""
    lab = Lab(folder, terms=terms)
    lab.put(job_of("job", labels=labels))
    process = lab.begin()
    lab.until("job", LABELS_APPROVAL)
    return lab, process


def test_in_auto_too_a_job_asks_before_it_trains_on_changed_labels(tmp_path: Path) -> None:
    lab, process = asking(tmp_path)
    job = lab.jobs()["job"]
    assert (job.state, job.challenger, job.followed) == ("waiting", None, "")
    assert job.changes[0].new == "8"
    assert audit(lab) == ["publish", "promote"], "nothing is trained before a word was said"
    lab.store().answer("job", YES)
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "promoted", job.detail
    assert job.followed == YES.words
    (labels,) = [check for check in job.checks if check.name == "labels"]
    assert labels.verdict == "pass"
    assert YES.words in labels.detail
    assert lab.registry.state("digits").anchor == Anchor(2), "no older version knows the labels"


@pytest.mark.slow
def test_a_no_to_changed_labels_ends_the_job_by_name_and_nothing_is_trained(tmp_path: Path) -> None:
    lab, process = asking(tmp_path)
    lab.store().answer("job", NO)
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "rejected"
    assert job.detail == f"nothing was trained; {NO.words}"
    assert audit(lab) == ["publish", "promote"]


@pytest.mark.slow
def test_a_question_about_labels_expires_and_says_what_it_was_about(tmp_path: Path) -> None:
    lab, process = asking(tmp_path, msgspec.structs.replace(GENTLE, approval_timeout_seconds=0.5))
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "expired"
    assert "changed as asked; nobody approved it in time" in job.detail


@pytest.mark.slow
def test_a_trusted_labeller_needs_no_persons_word(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.put(job_of("job", labels="trusted"))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert (job.outcome, job.followed, job.labels_answer) == ("promoted", "trusted as asked", None)


@pytest.mark.slow
def test_a_yes_to_labels_is_none_to_the_challenger(tmp_path: Path) -> None:
    lab, process = asking(tmp_path, MANUAL)
    lab.store().answer("job", YES)
    lab.until("job", "approval")
    job = lab.jobs()["job"]
    assert (job.labels_answer, job.answer, job.challenger) == (YES, None, 2)
    lab.store().answer("job", NO)
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert (job.outcome, job.labels_answer, job.answer) == ("rejected", YES, NO)
    with pytest.raises(AnsweredError):
        lab.store().answer("job", YES)


@pytest.mark.slow
def test_while_labels_wait_another_failed_evaluation_trains_nothing(tmp_path: Path) -> None:
    lab, process = asking(tmp_path)
    lab.put(job_of("second"))
    lab.until("second", "done")
    second = lab.jobs()["second"]
    assert second.outcome == "reported"
    assert "changed labels waiting" in second.detail
    lab.store().answer("job", NO)
    assert lab.wait(process) == 0


def points_of(folder: Path) -> list[str]:
    """The points of a job that asks about labels and is killed nowhere."""
    lab = Lab(folder)
    lab.put(job_of("job", labels="meant"))
    run_with_answer(lab, approve=True)
    assert lab.jobs()["job"].outcome == "promoted"
    return kills.points(folder)


@pytest.mark.slow
@pytest.mark.parametrize("approve", [True, False])
def test_kill_at_every_point_around_the_answer_about_labels(approve: bool, tmp_path: Path) -> None:
    points = points_of(tmp_path / "whole")
    first = points.index("before JobStore.ask")
    for number in range(first - 2, min(first + 14, len(points))):
        if points[number].startswith("child"):
            continue
        lab = Lab(tmp_path / f"{number}")
        lab.put(job_of("job", labels="meant"))
        kills.ask_for(lab.folder, number)
        run_with_answer(lab, approve)
        job = lab.jobs()["job"]
        assert job.outcome == ("promoted" if approve else "rejected"), (points[number], job.detail)
        assert job.labels_answer is not None
        assert leftovers(lab) == {}


@pytest.mark.slow
def test_a_kill_after_the_answer_about_labels_loses_nothing(tmp_path: Path) -> None:
    points = points_of(tmp_path / "whole")
    asked = points.index("after JobStore.ask")
    number = next(k for k in range(asked + 1, len(points)) if "record_operation" in points[k])
    lab = Lab(tmp_path / "killed")
    lab.put(job_of("job", labels="meant"))
    kills.ask_for(lab.folder, number)
    run_with_answer(lab, approve=True)
    job = lab.jobs()["job"]
    assert job.outcome == "promoted", (points[number], job.detail)
    assert job.followed
    assert audit(lab).count("publish") == 2
