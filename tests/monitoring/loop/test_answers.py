"""A person decides once, in time, and is obeyed; what a person did to the registry stays."""

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.loop import promotion, steps
from monitoring.loop.jobs import AnsweredError, Job, NotWaitingError, PersonAnswer
from monitoring.loop.terms import Terms
from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of

MANUAL = msgspec.structs.replace(GENTLE, mode="manual")


def waiting(folder: Path, terms: Terms = MANUAL, **options: Any) -> tuple[Lab, int]:
    """A lab whose job waits for an answer, and the life that runs it."""
    lab = Lab(folder, terms=terms)
    lab.put(job_of("job", **options))
    process = lab.begin()
    lab.until("job", "approval")
    return lab, process


def test_the_first_of_many_answers_counts_and_the_others_are_told_whose_it_was(
    tmp_path: Path,
) -> None:
    lab, process = waiting(tmp_path)
    told: list[Job | AnsweredError] = []
    together = threading.Barrier(8)

    def answer(k: int) -> None:
        store = lab.store()
        together.wait()
        try:
            told.append(
                store.answer("job", PersonAnswer(k % 2 == 0, f"person-{k}", f"why-{k}", 0.0))
            )
        except AnsweredError as error:
            told.append(error)

    threads = [threading.Thread(target=answer, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    (first,) = [one for one in told if isinstance(one, Job)]
    assert first.answer == job.answer is not None
    for other in (one for one in told if isinstance(one, AnsweredError)):
        assert other.answer == job.answer
        assert job.answer.actor in str(other)
        assert job.answer.reason in str(other)
    assert job.outcome == ("promoted" if job.answer.approved else "rejected")
    assert audit(lab)[3:] == ["promote" if job.answer.approved else "withdraw"]
    with pytest.raises(AnsweredError):
        lab.store().answer("job", PersonAnswer(True, "late", "", 0.0))


def test_an_approval_expires_and_frees_the_model(tmp_path: Path) -> None:
    lab = Lab(tmp_path, terms=msgspec.structs.replace(MANUAL, approval_timeout_seconds=1.0))
    lab.put(job_of("job"))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert (job.outcome, job.detail) == ("expired", "nobody approved it in time")
    assert lab.registry.aliases("digits").challenger is None
    with pytest.raises(NotWaitingError, match="expired: nobody approved it in time"):
        lab.store().answer("job", PersonAnswer(True, "late", "", 0.0))


@pytest.mark.slow
def test_an_answer_and_the_expiry_race_and_one_of_them_happens(tmp_path: Path) -> None:
    terms = msgspec.structs.replace(MANUAL, approval_timeout_seconds=1.0)
    lab, process = waiting(tmp_path, terms)
    store, taken = lab.store(), False
    while not taken:
        try:
            store.expire("job", "the test was first")
            store.answer("job", PersonAnswer(True, "ada", "", 0.0))
            taken = True
        except NotWaitingError:
            break
    lab.wait(process)
    job = lab.jobs()["job"]
    assert (job.outcome == "expired") == (job.answer is None)
    assert not taken


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.90, 0.95, 1.0, 1.05, 1.1])
def test_an_answer_at_the_last_moment_counts_or_is_refused(delay: float, tmp_path: Path) -> None:
    terms = msgspec.structs.replace(MANUAL, approval_timeout_seconds=1.0)
    lab, process = waiting(tmp_path, terms)
    time.sleep(delay)
    try:
        lab.store().answer("job", PersonAnswer(True, "ada", "", 0.0))
        answered = True
    except NotWaitingError:
        answered = False
    assert lab.wait(process) == 0
    assert lab.jobs()["job"].outcome == ("promoted" if answered else "expired")


def test_while_a_challenger_waits_a_failed_evaluation_is_reported_and_trains_nothing(
    tmp_path: Path,
) -> None:
    lab, process = waiting(tmp_path)
    lab.put(job_of("second"))
    lab.until("second", "done")
    second = lab.jobs()["second"]
    assert second.outcome == "reported"
    assert "job job has challenger 2 waiting" in second.detail
    lab.store().answer("job", PersonAnswer(False, "ada", "not now", 0.0))
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "rejected"
    assert "by 'ada'" in job.detail
    assert "not now" in job.detail
    assert lab.registry.versions("digits") == (1, 2)


def test_under_a_hold_the_loop_reports_and_trains_nothing_but_for_a_person(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.registry.hold("digits", actor="ada", reason="audit week")
    lab.put(job_of("loop"))
    assert lab.run() == 0
    job = lab.jobs()["loop"]
    assert job.outcome == "reported"
    assert "held by ada until it is released (audit week)" in job.detail
    assert "nothing is trained until `holdfast models release digits`" in job.detail
    assert lab.registry.versions("digits") == (1,)
    lab.put(msgspec.structs.replace(job_of("person"), source="person", kind="retrain"))
    assert lab.run() == 0
    job = lab.jobs()["person"]
    assert job.outcome == "reported"
    assert "promote it by hand or release it" in job.detail
    aliases = lab.registry.aliases("digits")
    assert (aliases.champion, aliases.challenger) == (1, 2)


PROBATION = msgspec.structs.replace(GENTLE, probation_seconds=60.0)


def in_probation(folder: Path, **options: object) -> tuple[Lab, int]:
    """A lab whose job watches its new champion."""
    lab = Lab(folder, terms=PROBATION)
    lab.put(job_of("job", **options))
    process = lab.begin()
    lab.until("job", "probation")
    return lab, process


def test_a_person_who_rolls_back_in_probation_ends_it_and_is_named(tmp_path: Path) -> None:
    lab, process = in_probation(tmp_path)
    lab.registry.rollback("digits", actor="ada", reason="smells", by_person=True)
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "rolled_back"
    assert "rollback of version 1 by 'ada'" in job.detail
    assert "smells" in job.detail
    assert lab.registry.aliases("digits").champion == 1
    assert audit(lab)[-1] == "rollback"
    # Had it been killed between its promotion and the record of that, it would ask again.
    lab.registry.release("digits", actor="ada", reason="go on")
    assert promotion.promote(lab.registry, job, 2) is None
    assert lab.registry.aliases("digits").champion == 1, "a job promotes once"


def test_a_champion_that_is_worse_is_rolled_back_once_also_under_a_hold(tmp_path: Path) -> None:
    lab, process = in_probation(tmp_path, worse="probation", held=["probation"])
    lab.registry.hold("digits", actor="ada", reason="audit week")
    lab.let_go("job", "probation")
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "rolled_back"
    assert "worse than the champion on the same requests" in job.detail
    assert "100 labelled: only the champion right 9" in job.detail
    assert job.shadow is not None
    assert job.shadow.comparison.labels == 100
    assert job.shadow.step == "probation", "it says which comparison"
    assert lab.registry.aliases("digits").champion == 1
    assert audit(lab)[3:] == ["promote", "hold", "rollback"]


def test_a_challenger_that_is_worse_in_the_shadow_is_refused_and_withdrawn(tmp_path: Path) -> None:
    lab = Lab(tmp_path, terms=msgspec.structs.replace(GENTLE, shadow_seconds=60.0))
    lab.put(job_of("job", worse="shadow"))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "refused"
    assert "the challenger is worse than the champion on the same requests" in job.detail
    aliases = lab.registry.aliases("digits")
    assert (aliases.champion, aliases.challenger) == (1, None)


def patient_with_nobody() -> None:
    steps.SILENT_SECONDS = 0.0


def test_a_comparison_that_is_lost_in_the_shadow_stops_the_promotion(tmp_path: Path) -> None:
    lab = Lab(tmp_path, hooks=[patient_with_nobody])
    lab.put(job_of("job", fails={"shadow": "killed"}))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "inconclusive"
    assert f"not compared in the shadow: {job.uncompared['shadow']}" in job.detail
    assert "holdfast models promote digits 2" in job.detail
    aliases = lab.registry.aliases("digits")
    assert (aliases.champion, aliases.challenger) == (1, 2), "a person may want it"


@pytest.mark.slow
def test_a_comparison_that_is_lost_in_probation_is_told_where_the_job_ends(tmp_path: Path) -> None:
    lab = Lab(tmp_path, hooks=[patient_with_nobody])
    lab.put(job_of("job", fails={"probation": "killed"}))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == "promoted"
    assert set(job.uncompared) == {"probation"}
    assert f"not compared in probation: {job.uncompared['probation']}" in job.detail
