"""The wall clock is set an hour or a year ahead or back while a job runs: nothing ends by that.

libfaketime sets it for a real process and its children, in the middle; what has passed is measured
by the monotonic clock, which it leaves alone as a correction of the clock does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from models.base.processes import ends_with_parent
from monitoring.loop.jobs import PersonAnswer
from monitoring.loop.terms import Terms
from tests.monitoring.loop.lab import Lab, audit, job_of
from tests.monitoring.loop.parameters import first_of
from tests.monitoring.loop.test_kills import PROMOTED
from tests.waiting import PATIENCE_SECONDS, wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
JUMPS = ("+1y", "-1y", "+1h", "-1h")
YEAR = 365 * 86_400.0
HOUR = 3_600.0
SECONDS = {"+1y": YEAR, "-1y": -YEAR, "+1h": HOUR, "-1h": -HOUR}


@contextmanager
def life(lab: Lab) -> Iterator["subprocess.Popen[bytes]"]:
    """A life whose wall clock `set_clock` sets."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    (lab.folder / "clock").write_text("+0")
    fake = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(lab.folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    command = [sys.executable, "-m", "tests.monitoring.loop.lab", str(lab.folder)]
    with (lab.folder / "life.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, msgspec.json.encode(lab.terms).decode()],
            env={**os.environ, **fake}, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )  # fmt: skip
    try:
        yield process
    except BaseException:
        print((lab.folder / "life.log").read_text()[-6000:])
        raise
    finally:
        process.kill()
        process.wait()


def set_clock(lab: Lab, jump: str) -> None:
    """Set the wall clock of the life and its children, as an offset from the true one."""
    temporary = lab.folder / ".clock"
    temporary.write_text(jump)
    temporary.replace(lab.folder / "clock")


@pytest.mark.parametrize("jump", first_of(*JUMPS))
def test_a_job_goes_its_way_while_the_clock_jumps_at_every_stage(jump: str, tmp_path: Path) -> None:
    """There and back at each stage that waits; each wait is as long as by the other clock."""
    terms = Terms(
        mode="manual", shadow_seconds=0.2, probation_seconds=3.0, label_patience_seconds=600.0,
        min_labels=5, approval_timeout_seconds=600.0, step_timeout_seconds=600.0,
    )  # fmt: skip
    lab = Lab(tmp_path, terms=terms)
    lab.put(job_of("job", seconds={"train": 2.0}))
    with life(lab) as process:
        for stage in ("awaiting labels", "training", "approval", "probation"):
            lab.until("job", stage)
            before = lab.jobs()["job"]
            set_clock(lab, jump)
            time.sleep(1.5)  # in which a wait by the wall clock would end, or begin anew
            after = lab.jobs()["job"]
            if stage in ("awaiting labels", "approval"):
                assert (after.stage, after.state) == (before.stage, before.state)
            set_clock(lab, "+0")
            if stage == "awaiting labels":
                lab.label("digits", 1, 5)
            if stage == "approval":
                lab.store().answer("job", PersonAnswer(True, "ada", "", time.time()))
        assert process.wait(PATIENCE_SECONDS) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "promoted", job
    assert audit(lab) == PROMOTED


@pytest.mark.parametrize("jump", first_of("-1y", "+1y"))
def test_a_wait_ends_in_its_own_time_under_a_clock_that_was_set(jump: str, tmp_path: Path) -> None:
    """It neither lasts a year longer, nor ends a year too early."""
    terms = Terms(mode="manual", shadow_seconds=0.2, approval_timeout_seconds=6.0, min_labels=1)
    lab = Lab(tmp_path, terms=terms)
    lab.put(msgspec.structs.replace(job_of("job"), kind="retrain"))
    with life(lab) as process:
        lab.until("job", "approval")
        began = time.monotonic()
        set_clock(lab, jump)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began >= (1.0 if jump == "+1y" else 0.0)
    assert lab.jobs()["job"].outcome == "expired"


@pytest.mark.slow
@pytest.mark.parametrize("jump", JUMPS)
def test_a_job_goes_on_in_a_watcher_that_starts_under_another_clock(
    jump: str, tmp_path: Path
) -> None:
    terms = Terms(
        mode="manual", shadow_seconds=0.2, probation_seconds=2.0, approval_timeout_seconds=600.0,
        min_labels=1,
    )  # fmt: skip
    lab = Lab(tmp_path, terms=terms)
    lab.put(msgspec.structs.replace(job_of("job"), kind="retrain"))
    with life(lab) as process:
        lab.until("job", "approval")
        process.kill()
        process.wait()
    with life(lab) as process:
        set_clock(lab, jump)
        wait_until(lambda: "job_waits" in (lab.folder / "life.log").read_text(), what="it runs")
        lab.store().answer("job", PersonAnswer(True, "ada", "", time.time()))
        assert process.wait(PATIENCE_SECONDS) == 0
    job = lab.jobs()["job"]
    assert job.outcome == "promoted"
    assert job.ended_at is not None
    assert abs(job.ended_at - time.time() - SECONDS[jump]) < HOUR / 2, "the clock was set"
