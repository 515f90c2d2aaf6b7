"""Structured logs: one JSON object per line on standard error, values escaped.

A thread writes the lines in batches, so logging never waits for a slow pipe and never fails because
of a closed pipe or a full disk. Lines that do not fit in the queue or could not be written are
dropped; a later line says how many. Lines that wait when a process is killed are lost.
"""

import atexit
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import structlog

LINES_KEPT = 10_000
BATCH_LINES = 500
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 1.0
STANDARD_STREAMS = 3


class LineWriter:
    """Takes lines without waiting and writes them in a thread of the process that took them.

    Args:
        write: writes all of some bytes; may be slow, or raise OSError or ValueError.
        capacity: lines that may wait; what comes beyond is dropped.
    """

    def __init__(self, write: Callable[[bytes], None], capacity: int = LINES_KEPT) -> None:
        self._write, self._capacity = write, capacity
        self._reset_after_fork()
        os.register_at_fork(after_in_child=self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        """Start empty after a fork: the thread and the waiting lines belong to the parent."""
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def put(self, line: bytes) -> None:
        """Queue one line, with its end; never waits, never raises."""
        if self._queue.qsize() >= self._capacity:
            self._drop(1)
            return
        self._queue.put(line)
        if self._thread is None:
            self._start()

    def flush(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until all queued lines are written or lost; False after `seconds`."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def _drop(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log", daemon=True)
                with suppress(RuntimeError):  # the interpreter ends: nobody writes any more
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            lines: list[bytes] = []
            part = self._queue.get()
            while isinstance(part, bytes):
                lines.append(part)
                if len(lines) >= BATCH_LINES or self._queue.empty():
                    break
                part = self._queue.get()
            self._write_all(lines)
            if isinstance(part, threading.Event):
                part.set()
            else:
                time.sleep(PAUSE_SECONDS)  # lets the next batch gather: one write, not many

    def _write_all(self, lines: list[bytes]) -> None:
        dropped = self._dropped
        head = [_dropped_line(dropped)] if dropped and lines else []
        try:
            self._write(b"".join(head + lines))
        except (OSError, ValueError):  # there is no place left to say it
            self._drop(len(lines))
        else:
            self._drop(-dropped if head else 0)


class JsonHandler(logging.Handler):
    """Lines of the standard library's loggers (gunicorn's, a driver's) in the form of ours."""

    def __init__(self, component: str = "") -> None:
        super().__init__()
        self._component = component

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line: the message is the event."""
        if not self._component and _has_a_handler(record.name):
            return
        try:
            level = min(record.levelno // 10 * 10, logging.CRITICAL) or logging.DEBUG
            log = logger(self._component or record.name)
            log.log(level, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:
            self.handleError(record)


def _has_a_handler(name: str) -> bool:
    """Whether a logger, or one above it but for the root, says its lines in its own way."""
    place: logging.Logger | None = logging.getLogger(name)
    while place is not None and place is not logging.root:
        if place.handlers:
            return True
        place = place.parent
    return False


class _Lines:
    """What structlog writes to."""

    def msg(self, message: str) -> None:
        write(message.encode("ascii", "backslashreplace") + b"\n")

    log = debug = info = warn = warning = error = critical = fatal = exception = msg


_writer: LineWriter | None = None


def _print_to_stderr(*args: object) -> structlog.PrintLogger:
    del args  # structlog's own, of which there are none
    return structlog.PrintLogger(sys.stderr)


# Until `configure` is called, as in a command: standard output is for what the command answers.
# A traceback is plain: with every local in it, one of a training takes a second and many screens.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    logger_factory=_print_to_stderr,
)


def configure(level: str) -> None:
    """Set up the logs of this process; `level` is debug, info, warning or error."""
    global _writer
    _hold_standard_streams()
    _writer = LineWriter(_writer_to(sys.stderr))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=_Lines,
        cache_logger_on_first_use=False,
    )
    if not any(isinstance(handler, JsonHandler) for handler in logging.root.handlers):
        logging.root.addHandler(JsonHandler())


def logger(component: str) -> Any:
    """A logger whose lines carry the component's name."""
    return structlog.get_logger(component=component)


def write(line: bytes) -> None:
    """Write one line that ends with a newline, as soon as may be; never waits, never raises."""
    if _writer is not None:
        _writer.put(line)


@atexit.register
def flush() -> None:
    """Wait a moment for the lines that were handed over."""
    if _writer is not None:
        _writer.flush()


def _dropped_line(count: int) -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (
        f'{{"component": "log", "lines": {count}, "event": "log_lines_dropped", '
        f'"level": "warning", "timestamp": "{at}"}}\n'
    ).encode()


def _hold_standard_streams() -> None:
    """Keep the numbers 0 to 2 taken: a socket or a database there would be written over."""
    for number in range(STANDARD_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _writer_to(stream: TextIO | None) -> Callable[[bytes], None]:
    """Straight to the stream's file, past a buffer that would fail again at every later line."""
    if stream is None:
        return lambda data: None
    try:
        number = stream.fileno()
    except (OSError, ValueError):

        def write_text(data: bytes) -> None:
            stream.write(data.decode())
            stream.flush()

        return write_text
    return lambda data: _write_file(number, data)


def _write_file(number: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # somebody who shares the pipe has made it non-blocking
            select.select([], [number], [])
