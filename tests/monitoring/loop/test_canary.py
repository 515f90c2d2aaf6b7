"""What becomes of a challenger in its canary, and of the canary where the watcher dies."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.monitoring.loop.lab import GENTLE, Lab, audit, job_of
from tests.waiting import wait_until

CANARY = msgspec.structs.replace(GENTLE, canary=0.25, canary_seconds=60.0)


def lab_with(folder: Path, lasts: float = 60.0, **options: Any) -> Lab:
    lab = Lab(folder, terms=msgspec.structs.replace(CANARY, canary_seconds=lasts))
    lab.put(job_of("job", **options))
    return lab


@pytest.mark.parametrize(
    ("verdict", "outcome", "then"),
    [
        ("worse", "refused", "withdraw"),
        ("not known", "inconclusive", None),
    ],
)
def test_a_worse_one_is_refused_and_without_a_verdict_a_person_decides(
    verdict: str, outcome: str, then: str | None, tmp_path: Path
) -> None:
    lasts = 3.0 if verdict == "not known" else 60.0
    lab = lab_with(tmp_path, lasts, canary=verdict)
    assert lab.run() == 0
    job = lab.jobs()["job"]
    assert job.outcome == outcome, job.detail
    begun = ["canary", "end_canary"]
    assert audit(lab)[3:] == (begun if then is None else [*begun, then])
    record = next(r for r in lab.registry.audit("digits") if r.action == "canary")
    assert record.canary is not None
    assert (record.canary.version, record.canary.share, record.canary.event) == (2, 0.25, "job")
    state = lab.registry.state("digits")
    assert (state.aliases.champion, state.canary) == (1, None)
    if then is None:
        assert "holdfast models promote digits 2" in job.detail
        assert state.aliases.challenger == 2


def test_a_watcher_that_is_killed_leaves_a_canary_with_an_end_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    lab = lab_with(tmp_path, 60.0, canary="no worse", held=["canary"])
    process = lab.begin()
    lab.until("job", "canary")
    wait_until(lambda: lab.registry.state("digits").canary, what="it has its share")
    os.kill(process, signal.SIGKILL)
    assert lab.wait(process) == -signal.SIGKILL
    left = lab.registry.state("digits").canary
    assert left is not None
    assert 0 < left.until - time.time() <= 65.0
    assert lab.registry.state("digits").find_canary(left.until) is None
    lab.let_go("job", "canary")
    lab.run_to_the_end()
    assert lab.jobs()["job"].outcome == "promoted"
    state = lab.registry.state("digits")
    assert (state.aliases.champion, state.canary) == (2, None)


def test_a_person_who_holds_the_model_ends_it_and_nothing_is_promoted(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, canary="not known")
    process = lab.begin()
    lab.until("job", "canary")
    wait_until(lambda: lab.registry.state("digits").canary, what="it has its share")
    lab.registry.hold("digits", actor="ada", reason="audit week")
    assert lab.registry.state("digits").canary is None
    assert lab.wait(process) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "reported", job.detail
    assert "held by ada" in job.detail
    assert lab.registry.aliases("digits").champion == 1
