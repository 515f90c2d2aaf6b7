"""Waiting for events: one helper, with patience for a machine that others use.

A test waits for what must happen, never for the time that it takes on a fast machine, and where
nothing may happen it waits for something that comes after. Patience is the bound of a hang, not a
promise: on a quiet machine nothing here takes a tenth of it.
"""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 120.0
LOOK_EVERY_SECONDS = 0.02
Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found],
    seconds: float = PATIENCE_SECONDS,
    *,
    what: str = "",
    every: float = LOOK_EVERY_SECONDS,
) -> Found:
    """Wait until `condition` gives something true, and return that.

    Args:
        condition: is asked again and again; what it raises ends the wait.
        seconds: how long at most; longer than the default where something trains.
        what: is waited for, in words.
        every: seconds between two looks.

    Raises:
        AssertionError: it did not happen; the message says `what`.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen in {seconds:g} s: {what or condition}")
        time.sleep(every)
    return found
