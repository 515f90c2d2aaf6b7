"""Running a heavy step in a process of its own: bounded in time, gone with its parent.

The child stands in a session of its own: Ctrl-C at the terminal, which goes to every process of
the group in front, ends the watcher in order and is no failure of the step.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from models.base.errors import HoldfastError
from models.base.processes import child_environment, ends_with_parent
from monitoring.loop.durable.faults import PassingError
from monitoring.loop.durable.patience import Interrupted

CHILD = "monitoring.loop.child"
LIGHT = dict.fromkeys(("shadow", "probation"), "monitoring.loop.shadow")  # needs no torch
LOOK_SECONDS = 0.1
PASSING_STATUS = os.EX_TEMPFAIL  # what failed in the child passes: try again


class StepFailedError(HoldfastError):
    """A step failed; the message is its own sentence or the end of its log."""


def run_child(
    folder: Path, step: str, *, seconds: float, beat: Callable[[], None], stop: threading.Event
) -> Any:
    """Run the step's process; `beat` is called while it runs.

    Returns:
        The result as plain data: the step's record of `monitoring.loop.results`.

    Raises:
        StepFailedError: it failed, or took more than `seconds`.
        PassingError: it failed by what passes.
        Interrupted: `stop` was set; the child is gone.
    """
    for stale in (f"{step}.json", f"{step}.error"):
        (folder / stale).unlink(missing_ok=True)
    with (folder / "log").open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", LIGHT.get(step, CHILD), step, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment() | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )
        try:
            _wait(child, step, seconds, beat, stop)
        finally:
            _end_group(child)
    status = child.returncode
    if status == 0:
        return msgspec.json.decode((folder / f"{step}.json").read_bytes())
    raise _failure(folder, step, status)


def _wait(
    child: "subprocess.Popen[bytes]",
    step: str,
    seconds: float,
    beat: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Wait until the child has ended, and leave its number taken."""
    deadline, look = time.monotonic() + seconds, os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, child.pid, look) is None:
        if stop.wait(LOOK_SECONDS):
            raise Interrupted("the watcher stops")
        if time.monotonic() > deadline:
            raise StepFailedError(
                f"{step} took more than {seconds:g} s and was ended; where it needs longer, raise "
                "HOLDFAST_STEP_TIMEOUT_SECONDS, or make the data, the net or the epochs less"
            )
        beat()


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """End what the child has started, and itself; it is not waited for yet, so the number is its.

    A child that is killed before it has a group of its own is ended by its own number.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _failure(folder: Path, step: str, status: int) -> Exception:
    sentence, log = folder / f"{step}.error", folder / "log"
    words = sentence.read_text() if sentence.exists() else f"ended with status {status}; log: {log}"
    if status == PASSING_STATUS:
        return PassingError(f"{step}: {words}")
    if sentence.exists():
        return StepFailedError(f"{step}: {words}")
    if status == -signal.SIGKILL:
        return StepFailedError(
            f"{step} was killed, most likely for lack of memory: give the watcher's machine or "
            "container more, or make the data, the net or the batch smaller; "
            f"log: {log}"
        )
    return StepFailedError(f"{step} {words}")
