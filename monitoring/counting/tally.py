"""Counting in bulk: a request only leaves what is to be counted, a thread adds it up soon after.

An addition to a shared counter costs a request more than the whole of its answer's encoding, and
each comes with thirty. Here it costs an append; the additions are made every 50 ms for all requests
together, and before anyone of this process reads the counters. What is not promised: a worker that
is killed takes the counts of its last 50 ms with it, and another worker's scrape sees them late.
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
    """Holds what waits to be counted, by who counts it.

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
        """Have `add` told of the event, with others, soon; never waits."""
        self._waiting.append((add, event))
        if not self._awake:
            self._awake = True
            self._start()
            self._wake.release()

    def settle(self) -> None:
        """Count now what waits."""
        with self._settling:
            # Before what waits is taken: who puts after this wakes the thread again.
            self._awake = False
            events: dict[Add, list[Any]] = {}
            # One by one from the same queue: a list that is put aside as a whole may get one event
            # more, from a thread that had just looked it up.
            for _ in range(len(self._waiting)):
                add, event = self._waiting.popleft()
                events.setdefault(add, []).append(event)
            for add, own in events.items():
                try:
                    add(own)
                except Exception as error:  # of one model, say: the others' counts are not lost
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
    """Settle whenever something waits, until the tally is gone."""
    while True:
        wake.acquire()
        time.sleep(INTERVAL_SECONDS)
        try:
            if not _settle(of):
                return
        except Exception as error:  # a thread that died would count nothing any more
            logger("metrics").exception("not_counted", reason=str(error))


def _settle(of: "weakref.ref[Tally]") -> bool:
    """Count what waits; False where the tally is gone."""
    tally = of()
    if tally is None:
        return False
    tally.settle()
    return True
