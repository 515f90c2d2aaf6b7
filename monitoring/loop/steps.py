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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from models.base.errors import HoldfastError
from models.base.processes import child_environment, ends_with_parent
from models.statistics.shadow import Shadowed
from monitoring.loop.durable.faults import PassingError
from monitoring.loop.durable.patience import Interrupted
from monitoring.loop.jobs import Task

CHILD = "monitoring.loop.child"
SHADOW = "monitoring.loop.shadow"
LOOK_SECONDS = 0.1
Latest = Callable[[], Shadowed | None]
PASSING_STATUS = os.EX_TEMPFAIL  # what failed in the child passes: try again


class StepFailedError(HoldfastError):
    """A step failed; the message is its own sentence or the end of its log."""


def run_child(
    folder: Path, step: str, *, seconds: float, beat: Callable[[], None], stop: threading.Event
) -> Any:
    """Run `monitoring.loop.child`; `beat` is called while it runs.

    Returns:
        The result as plain data: the step's record of `monitoring.loop.results`.

    Raises:
        StepFailedError: it failed, or took more than `seconds`.
        PassingError: it failed by what passes.
        Interrupted: `stop` was set; the child is gone.
    """
    for stale in (f"{step}.json", f"{step}.error"):
        (folder / stale).unlink(missing_ok=True)
    child = _start(CHILD, folder, step)
    try:
        _wait(child, step, seconds, beat, stop)
    finally:
        _end_group(child)
    status = child.returncode
    if status == 0:
        return msgspec.json.decode((folder / f"{step}.json").read_bytes())
    raise _failure(folder, step, status)


def write_task(folder: Path, step: str, task: Task) -> None:
    """Write what the child of a step reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}.task.json").write_bytes(msgspec.json.encode(task))


@contextmanager
def run_beside(folder: Path, step: str, keep: Callable[[Shadowed], object]) -> Iterator[Latest]:
    """Run `monitoring.loop.shadow` until the block ends; `keep` gets what it has written last.

    Yields:
        A function: what it has written last; None where it has not yet, or cannot run.
    """
    result = folder / f"{step}.json"
    result.unlink(missing_ok=True)
    child = _start(SHADOW, folder, step)

    def latest() -> Shadowed | None:
        if not result.exists():
            return None
        return msgspec.json.decode(result.read_bytes(), type=Shadowed)

    try:
        yield latest
        if (seen := latest()) is not None:
            keep(seen)
    finally:
        _end_group(child)


def _start(module: str, folder: Path, step: str) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, step, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment() | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )


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
