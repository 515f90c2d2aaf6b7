"""Counting in bulk: a request only queues what must be counted, and a thread adds it up.

An addition to a shared counter costs more than encoding the whole answer, and a request needs about
thirty. Queuing costs an append; the additions are made every 50 ms for all requests together, and
before this process reads the counters. A worker that is killed loses the counts of its last 50 ms,
and a scrape through another worker sees them late.
"""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from models.base.logs import logger

INTERVAL_SECONDS = 0.05

Add = Callable[[list[Any]], None]


class Tally:
    """Queues events for the functions that count them.

    >>> seen = []
    >>> tally = Tally()
    >>> tally.put(seen.extend, 1), tally.put(seen.extend, 2)
    (None, None)
    >>> tally.settle()
    >>> seen
    [1, 2]
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Add, Any]] = deque()
        self._settling = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._awake = False
        self._started = False
        self._starting = threading.Lock()
        weakref.finalize(self, self._wake.release)  # ends the thread
        atexit.register(_settle, weakref.ref(self))

    def put(self, add: Add, event: Any) -> None:
        """Queue an event for `add`, which gets it soon, together with others; never waits."""
        self._waiting.append((add, event))
        if not self._awake:
            self._awake = True
            self._start()
            self._wake.release()

    def settle(self) -> None:
        """Count all waiting events now."""
        with self._settling:
            # Before the events are taken: a `put` after this wakes the thread again.
            self._awake = False
            events: dict[Add, list[Any]] = {}
            # One by one from the same queue: if the whole list was exchanged, a thread that had
            # just read it could still append to the old one.
            for _ in range(len(self._waiting)):
                add, event = self._waiting.popleft()
                events.setdefault(add, []).append(event)
            for add, own in events.items():
                try:
                    add(own)
                except Exception as error:  # the other counts must not be lost
                    logger("metrics").exception("not_counted", reason=str(error))

    def _start(self) -> None:
        if self._started:
            return
        with self._starting:
            if not self._started:
                self._started = True
                run = (weakref.ref(self), self._wake)
                threading.Thread(target=_run, args=run, name="counts", daemon=True).start()


def _run(of: "weakref.ref[Tally]", wake: threading.Semaphore) -> None:
    """Count whenever events wait, until the tally is gone."""
    while True:
        wake.acquire()
        time.sleep(INTERVAL_SECONDS)
        try:
            if not _settle(of):
                return
        except Exception as error:  # the thread must not end
            logger("metrics").exception("not_counted", reason=str(error))


def _settle(of: "weakref.ref[Tally]") -> bool:
    """Count the waiting events; False where the tally is gone."""
    tally = of()
    if tally is None:
        return False
    tally.settle()
    return True
