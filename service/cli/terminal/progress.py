"""Progress of a command on standard error: a bar with the time left, or a line now and then.

A command is never silent for long: where a stage reports nothing, a thread says what it is at and
for how long.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import click

from models.base.files import write_atomic

LINE_SECONDS, BAR_SECONDS = 5.0, 0.1  # at least between two lines, and two pictures of a bar
TICK_SECONDS = 1.0
BAR_WIDTH = 24


class Bar:
    """Shows stages that come one after the other, each with the time it has left.

    Call it with (stage, done, total, words) as often as you like (total 0: nobody knows how far
    it is); `of(stage)` is for a function that knows one stage. On a terminal there is a bar,
    elsewhere a line every few seconds. The service's page reads the file. Use it as a context: the
    thread that breaks silences ends with it.

    Args:
        what: is made, such as the model's name.
        silent: show nothing, in all but the first of several processes.
        file: where the same is written for the service's page, once a second; None: nowhere.
        clock: seconds that only grow.
        terminal: whether standard error is one; None: look.

    Example:
        with Bar("churn") as bar:
            bar("adapting", 3, 12, "scale unit")
            wrap_version(..., progress=bar)
    """

    def __init__(
        self,
        what: str,
        *,
        silent: bool = False,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        self.what = what
        self._silent, self._clock = silent, clock
        self._file = None if silent else file
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._tick_on, name="progress", daemon=True)
        self._stage, self._open = "", False  # whether the cursor stands behind a bar
        self._began = self._reported = self._shown = clock()
        self._first, self._done, self._total, self._words = 0, 0, 1, ""
        self._seconds_left: float | None = None

    def __enter__(self) -> "Bar":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._close_line()
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def __call__(self, stage: str, done: int, total: int, words: str) -> None:
        """Take a report. The first of a stage says what an earlier run has done of it."""
        if self._silent:
            return
        with self._lock:
            now = self._clock()
            new = stage != self._stage
            if new:
                self._close_line()
                self._stage, self._began, self._first, self._shown = stage, now, done, now
            elif self._is_over():
                return  # its end is shown once
            self._reported, self._done, self._total, self._words = now, done, total, words
            self._seconds_left = self._estimate(now)
            ends = self._is_over() and not new
            goes_on = new and done > 0
            if ends or goes_on or now - self._shown >= self._pause:
                self._show(now)
            if ends:
                self._close_line()

    def of(self, stage: str) -> Callable[[int, int, str], None]:
        """What a function calls that has one stage: (done, total, words)."""
        return lambda done, total, words: self(stage, done, total, words)

    def note(self, text: str) -> None:
        """A line of its own among those of the progress."""
        with self._lock:
            self._close_line()
            click.echo(text, err=True)

    def tick(self) -> None:
        """Break a silence, and write the file; the thread calls it every second."""
        with self._lock:
            self._write()
            now = self._clock()
            busy = self._stage and not self._is_over()
            if busy and now - self._shown >= self._pause:
                self._show(now)

    def _write(self) -> None:
        """Write how it stands; a page without news is no reason to stop a training."""
        if self._file is None or not self._stage:
            return
        left = self._seconds_left
        document = {
            "model": self.what, "stage": self._stage, "done": self._done, "total": self._total,
            "words": self._words, "seconds_left": None if left is None else round(left, 1),
        }  # fmt: skip
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, json.dumps(document).encode())

    def _is_over(self) -> bool:
        return 0 < self._total <= self._done

    @property
    def _pause(self) -> float:
        return BAR_SECONDS if self._terminal else LINE_SECONDS

    def _tick_on(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            self.tick()

    def _estimate(self, now: float) -> float | None:
        """Seconds left, at the rate of this run; None before anything is done."""
        made = self._done - self._first
        return (now - self._began) * (self._total - self._done) / made if made > 0 else None

    def _show(self, now: float) -> None:
        share = self._done / max(self._total, 1)
        stage = f"{self._stage} {share:.0%}" if self._total else self._stage
        text = ", ".join(part for part in (stage, self._words, self._time(now)) if part)
        text = f"{self.what}: {text}"
        if not self._terminal:
            click.echo(text, err=True)
        else:
            full = int(BAR_WIDTH * share)
            line = f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {text}"
            columns = shutil.get_terminal_size().columns - 1
            click.echo(f"\r{line:<{columns}.{columns}}", err=True, nl=False)
            self._open = True
        self._shown = now

    def _time(self, now: float) -> str:
        """The time left, or how long it has been at what it is at."""
        if self._is_over():
            return f"took {now - self._began:.0f} s"
        silent = now - self._reported
        if self._seconds_left is None or silent > self._seconds_left:
            return f"{silent:.0f} s at this"
        return f"{self._seconds_left - silent:.0f} s left"

    def _close_line(self) -> None:
        if self._open:
            click.echo("", err=True)
        self._open = False
