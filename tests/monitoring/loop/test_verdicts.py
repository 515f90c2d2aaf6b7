"""What gates say decides: fail refuses, unknown waits for a person, poison is never trained on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.evaluation.gates.catalogue import GATES
from models.evaluation.gates.checks import VERDICTS, Check
from models.versions.registry_state import Anchor
from monitoring.loop.jobs import Job, PersonAnswer
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.verdict_page import render_job
from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of


@pytest.mark.parametrize(
    ("mode", "options", "outcome", "trained"),
    [
        ("auto", {}, "promoted", True),
        ("auto", {"passes": None}, "inconclusive", True),
        ("auto", {"labels": "poisoned"}, "refused", False),
        ("auto", {"labels": "changed"}, "inconclusive", False),
        ("report", {"passes": None}, "reported", True),
    ],
)
def test_outcome_follows_the_verdicts_and_the_page_says_why(
    mode: str, options: dict[str, Any], outcome: str, trained: bool, tmp_path: Path
) -> None:
    lab = Lab(tmp_path, terms=msgspec.structs.replace(GENTLE, mode=mode))
    lab.put(job_of("job", **options))
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == outcome, job.detail
    assert [check.name for check in job.checks] == [gate.name for gate in GATES]
    assert (job.challenger is not None) == trained
    assert ("publish" in audit(lab)[2:]) == trained
    if outcome == "promoted":  # the shadow has shown nothing: that is told, and waits for nobody
        assert (job.checks[-1].name, job.checks[-1].verdict) == ("shadow", "unknown")
        assert "version 2 replaced 1; shadow unknown: " in job.detail
    page = (tmp_path / "jobs" / "job" / "verdict.html").read_text()
    for check in job.checks:
        assert check.name in page
    assert outcome in page
    assert "<script" not in page
    if options.get("passes", True) is None:
        assert "parity: as asked" in job.detail
        assert lab.registry.aliases("digits").challenger == job.challenger, "a person may want it"
        assert mode == "report" or "holdfast models promote digits 2" in job.detail
    if not trained:
        assert job.detail.startswith("nothing was trained; ")


def test_unknown_waits_for_a_person_and_what_a_person_approves_is_the_anchor(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, terms=msgspec.structs.replace(GENTLE, mode="manual"))
    lab.put(job_of("job", passes=None))
    process = lab.begin()
    lab.until("job", "approval")
    assert lab.registry.state("digits").anchor == Anchor(1)
    lab.store().answer("job", PersonAnswer(True, "ada", "I looked", 0.0))
    assert lab.wait(process) == 0
    assert lab.jobs()["job"].outcome == "promoted"
    assert lab.registry.state("digits").anchor == Anchor(2)


def test_every_verdict_of_the_last_challenger_is_a_series() -> None:
    metrics = WatchMetrics()
    checks = tuple(Check(f"gate_{said}", said, None, None, "as asked") for said in VERDICTS)
    job = Job("j", "retrain", "digits", 1, "person", "", 0.0, 0.0, checks=checks)
    metrics.show_job(job)
    for check in checks:
        for verdict in VERDICTS:
            labels = {"model": "digits", "check": check.name, "verdict": verdict}
            value = metrics.registry.get_sample_value("holdfast_gate_verdict", labels)
            assert value == (verdict == check.verdict)


def test_page_escapes_what_people_write() -> None:
    job = Job("j", "retrain", "digits", 1, "person", "<script>alert(1)</script>", 0.0, 0.0)
    assert "<script" not in render_job(msgspec.structs.replace(job, outcome="refused"))
