"""Trying again while a fault passes: bounded, with growing pauses, told each time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from monitoring.loop.durable.faults import passing_words

Result = TypeVar("Result")
PATIENCE_SECONDS = 240.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LEAST_TRIES = 3  # of what takes long itself


class Interrupted(BaseException):
    """The process ends, or the step could not be recorded: what runs is not over, and goes on.

    No `Exception`, so that nothing takes it for the end of the job.
    """


def rest(seconds: float, stop: threading.Event) -> None:
    """Sleep. Raises Interrupted as soon as the process is told to stop."""
    if stop.wait(seconds):
        raise Interrupted("the watcher stops")


def try_patiently(
    act: Callable[[], Result],
    tell: Callable[[str, int], None],
    stop: threading.Event,
    patience_seconds: float | None = None,
) -> Result:
    """The result of `act`, tried again while it fails by what passes, for four minutes or so.

    `tell(words, tries)` is called before each pause. The time counts from the first failure, on the
    monotonic clock, which no correction of the wall clock moves.

    Raises:
        Interrupted: the process is told to stop.
        Exception: what `act` raised, where it does not pass or has not passed in time.
    """
    patience = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
    failed_at, pause, tries = None, FIRST_PAUSE_SECONDS, 0
    while True:
        try:
            return act()
        except Exception as error:
            words, now = passing_words(error), time.monotonic()
            failed_at = now if failed_at is None else failed_at
            if words is None or (tries >= LEAST_TRIES and now - failed_at > patience):
                raise
            tries += 1
            tell(words, tries)
            rest(pause, stop)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
