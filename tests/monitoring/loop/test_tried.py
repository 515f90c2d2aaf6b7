"""A training that would only repeat an earlier one is not made, and the job says why."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.evaluation.gates.checks import Check
from models.statistics.shares import Proportion
from monitoring.loop.deciding.tried import describe_choice, explain_repeat, find_tried
from monitoring.loop.jobs import Job, PersonAnswer
from monitoring.loop.results import Look, WindowFacts
from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of

GAIN = Check("window_accuracy", "pass", 0.02, 0.0, "better")
NO_GAIN = Check("window_accuracy", "fail", -0.01, 0.0, "no better")
UNSURE, SURE = WindowFacts("unknown", 480, 106), WindowFacts("pass", 480, 457)


def look(accuracy: float) -> Look:
    """A look at the champion that found this accuracy on the window."""
    share = Proportion(accuracy, accuracy - 0.02, accuracy + 0.02, 400)
    return Look("failed", "as asked", share, share, None, 100.0)


NOW = Job(
    "now", "evaluate", "digits", 1, "accuracy", "harm", 50.0, 200.0, evaluation=look(0.87)
)  # fmt: skip


def ended(window: WindowFacts = SURE, gain: bool = False, **fields: Any) -> Job:
    """An earlier job of the same shift that trained and promoted nothing."""
    job = msgspec.structs.replace(
        NOW, id="then", created_at=100.0, state="done", outcome="refused", challenger=2,
        window=window, checks=(GAIN if gain else NO_GAIN,),
    )  # fmt: skip
    return msgspec.structs.replace(job, **fields)


@pytest.mark.parametrize(
    ("window", "before", "repeats"),
    [
        (UNSURE, ended(UNSURE, outcome="inconclusive"), True),
        (WindowFacts("unknown", 5000, 1100), ended(UNSURE, outcome="inconclusive"), True),
        (UNSURE, ended(UNSURE, gain=True, outcome="reported"), True),
        (WindowFacts("unknown", 480, 200), ended(UNSURE), False),  # other rows than then
        (WindowFacts("pass", 480, 130), ended(UNSURE), False),  # it can judge them now
        (SURE, ended(), True),
        (SURE, ended(WindowFacts("pass", 140, 130)), True),
        (SURE, ended(WindowFacts("pass", 110, 105)), False),  # four times the rows
        (SURE, ended(gain=True), False),  # it did gain, and another gate refused it
        (SURE, ended(gain=True, outcome="rejected"), True),
        (SURE, ended(evaluation=look(0.85)), True),
        (SURE, ended(evaluation=look(0.67)), False),  # another shift came over the first
        (SURE, ended(outcome="failed"), False),
        (SURE, ended(challenger=None), False),
        (SURE, ended(champion=7), False),
        (SURE, ended(followed="a person said so"), False),
        (SURE, ended(source="person", options={"recipe": {"epochs": 1}}), False),
        (WindowFacts("unknown", 0, 0), ended(WindowFacts("unknown", 0, 0)), True),
        *[(SURE, ended(source=source), True) for source in ("schedule", "alert", "drift")],
        (WindowFacts("pass", 5000, 4900), ended(WindowFacts("pass", 1300, 1250)), True),
        (WindowFacts("pass", 5000, 5000), ended(WindowFacts("pass", 1300, 1250)), False),
    ],
)  # fmt: skip
def test_the_same_evidence_for_the_same_shift_is_a_repeat(
    window: WindowFacts, before: Job, repeats: bool
) -> None:
    assert (find_tried(NOW, window, [before]) is not None) == repeats
    words = explain_repeat(NOW, window, [before])
    assert bool(words) == repeats
    assert not words or "job then has trained version 2" in words
    person = msgspec.structs.replace(NOW, source="person")
    assert find_tried(person, window, [before]) is None, "a person is obeyed"


@pytest.mark.parametrize("source", ["schedule", "alert", "harm"])
def test_what_a_person_has_approved_is_trained(source: str) -> None:
    """Labels that have changed: a yes is obeyed, as a person's wish is; a trusted word is not."""
    said = PersonAnswer(True, "ada", "I asked the team", 150.0)
    now = msgspec.structs.replace(NOW, source=source, followed=said.words)
    before = ended(followed=said.words)
    assert find_tried(now, SURE, [before]) == before, "followed for a trusted labeller"
    assert find_tried(msgspec.structs.replace(now, labels_answer=said), SURE, [before]) is None


def test_a_number_of_rows_that_no_window_has_is_not_promised() -> None:
    """Four times 1251 are more than a window's 5000."""
    few, many = (ended(WindowFacts("pass", 1400, kept)) for kept in (1250, 1251))
    full = WindowFacts("pass", 5000, 4600)
    words = explain_repeat(NOW, full, [few])
    assert "; 5000 kept rows, or a person (`holdfast jobs start digits --kind retrain`)" in words
    words = explain_repeat(NOW, full, [many])
    assert "; of this shift only a person (`holdfast jobs start digits --kind retrain`)" in words
    assert "5004 kept rows would, but a window has 5000 at most" in words


def test_a_choice_is_offered_where_there_is_something_to_choose() -> None:
    assert "so a person may promote it" in describe_choice("digits", 2, [GAIN])
    words = describe_choice("digits", 2, [NO_GAIN])
    assert "no gain" in words
    assert "may promote" not in words


@pytest.mark.parametrize("options", [{"labels": "unsure"}, {"gain": False}])
def test_a_second_run_for_the_same_shift_trains_nothing(
    options: dict[str, Any], tmp_path: Path
) -> None:
    lab = Lab(tmp_path, terms=GENTLE)
    for name in ("first", "second", "third"):
        lab.put(job_of(name, window=[480, 106], **options))
        assert lab.run() == 0
    jobs = lab.jobs()
    assert jobs["first"].challenger == 2
    assert not jobs["first"].tried
    assert audit(lab).count("publish") == 2, "the champion and one challenger"
    for name in ("second", "third"):
        assert (jobs[name].outcome, jobs[name].challenger) == ("inconclusive", None)
        assert jobs[name].detail == f"nothing was trained; {jobs[name].tried}"
        assert "job first has trained version 2" in jobs[name].tried
    for name, source in (("at-noon", "schedule"), ("called", "alert")):  # whenever they begin
        late = {"source": source, "since": time.time(), "reign": jobs["first"].created_at - 1}
        lab.put(msgspec.structs.replace(job_of(name, window=[480, 106], **options), **late))
        assert lab.run() == 0
        assert "job first has trained version 2" in lab.jobs()[name].tried
    lab.put(job_of("more", window=[1920, 424], **options))
    assert lab.run() == 0
    assert (lab.jobs()["more"].challenger is not None) == ("gain" in options)
