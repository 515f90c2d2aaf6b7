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
from models.base.logs import logger
from models.base.processes import child_environment, ends_with_parent
from models.statistics.shadow import Shadowed
from monitoring.loop.durable.faults import PassingError
from monitoring.loop.durable.patience import Interrupted
from monitoring.loop.jobs import Task

CHILD = "monitoring.loop.child"
SHADOW = "monitoring.loop.shadow"
LOOK_SECONDS = 0.1
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
RESTARTS = 3  # of a comparison that failed
RESTART_SECONDS = 1.0  # before the first; twice and three times that before the others
SILENT_SECONDS = 20.0  # a comparison writes about once a second
Latest = Callable[[], Shadowed | None]
PASSING_STATUS = os.EX_TEMPFAIL  # what failed in the child passes: try again
log = logger("lifecycle")


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
def run_beside(
    folder: Path, step: str, keep: Callable[[Shadowed], object], lose: Callable[[str], object]
) -> Iterator[Latest]:
    """Run `monitoring.loop.shadow` until the block ends; it is started again where it fails.

    Args:
        folder: of the job.
        step: which of the two comparisons.
        keep: gets what it has written last.
        lose: gets a sentence where it does not compare any more when the block ends.

    Yields:
        A function, to be called about once a second: what it has written last; None where it has
        not yet.
    """
    beside = _Beside(folder, step)
    try:
        yield beside.look
        if (seen := beside.look()) is not None:
            keep(seen)
        if fault := beside.fault:
            lose(fault)
    finally:
        beside.end()


class _Beside:
    """A comparison in a process of its own, which is started again a few times where it fails."""

    def __init__(self, folder: Path, step: str) -> None:
        self._folder, self._step = folder, step
        self._result = folder / f"{step}.json"
        self._result.unlink(missing_ok=True)
        self._child: subprocess.Popen[bytes] | None = None
        self._starts, self._next_start = 0, 0.0
        self._seen: Shadowed | None = None
        self._written, self._heard = 0, time.monotonic()  # the latest result: its file's, its own
        self._failure, self._done = "", False
        self._start()

    @property
    def fault(self) -> str:
        """Why it does not compare now; empty where it does, or has come to its end."""
        silent = time.monotonic() - self._heard
        if self._failure:
            return f"{self._failure} (started {self._starts} times)"
        if self._done or silent < SILENT_SECONDS:
            return ""
        return f"{self._step} has said nothing for {silent:.0f} s; log: {self._folder / 'log'}"

    def look(self) -> Shadowed | None:
        """See what it has written last, and start it again where it has failed."""
        failed = self._failed()
        self._read()
        if failed:
            self._note_failure()
        if self._child is None and self._starts <= RESTARTS and self._next_start < time.monotonic():
            self._start()
        return self._seen

    def end(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            _end_group(self._child)
            self._child = None

    def _start(self) -> None:
        (self._folder / f"{self._step}.error").unlink(missing_ok=True)
        self._child = _start(SHADOW, self._folder, self._step)
        self._starts += 1

    def _failed(self) -> bool:
        if self._child is None or self._done:
            return False
        ended = os.waitid(os.P_PID, self._child.pid, ENDED)
        self._done = ended is not None and ended.si_status == 0
        return ended is not None and not self._done

    def _read(self) -> None:
        with suppress(FileNotFoundError):
            written = self._result.stat().st_mtime_ns
            if written != self._written:
                self._seen = msgspec.json.decode(self._result.read_bytes(), type=Shadowed)
                self._written, self._failure, self._heard = written, "", time.monotonic()

    def _note_failure(self) -> None:
        child = self._child
        assert child is not None
        self.end()
        self._failure = str(_failure(self._folder, self._step, child.returncode))
        self._next_start = time.monotonic() + RESTART_SECONDS * self._starts
        log.warning("comparison_ended", step=self._step, why=self._failure, starts=self._starts)


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
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, child.pid, ENDED) is None:
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
