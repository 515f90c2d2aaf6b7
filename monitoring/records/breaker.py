"""A circuit breaker for a store that may hang: its own threads make the calls, with a time limit.

    healthy    a few calls at once; one more waits a moment for its turn, then is refused
    failing    the last call raised StoreError, or has not answered in time: calls are refused at
               once, except one now and then that tests whether the store is back

So a store that is locked, stopped or full costs the threads of the service next to nothing, however
many calls come. A call that timed out may still take effect when the store recovers.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from monitoring.records.database import StoreError

TURN_SECONDS = 0.25
PAUSE_SECONDS = 1.0
T = TypeVar("T")


class _Task:
    """One call for a thread, and its result."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: Any = None
        self.error: Exception | None = None


class Gate:
    """Lets calls through, at most `at_once` of them.

    Args:
        at_once: calls that may run at the same time, each in a thread of the gate.
        patience_seconds: how long an answer is waited for.
        pause_seconds: after a failure, the time until the next call may try.
    """

    def __init__(
        self, at_once: int, patience_seconds: float, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._at_once = at_once
        self._patience = patience_seconds
        self._pause = pause_seconds
        self._changed = threading.Condition()
        self._inside = 0  # calls that have not ended, those given up too
        self._failure = ""  # why the last call failed; empty: it did not
        self._retry_at = 0.0
        self._threads = 0
        self._queue: queue.SimpleQueue[_Task] = queue.SimpleQueue()

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises.

        Raises:
            StoreError: from `work`; it has not answered in time; too many calls wait; or the store
                has failed just now, and `work` was not called.
        """
        self._enter()
        task = _Task(work)
        self._queue.put(task)
        if not task.done.wait(self._patience):
            reason = f"the store of records has not answered within {self._patience:g} s"
            with self._changed:
                self._note(reason)
            raise StoreError(reason)
        if task.error is not None:
            raise task.error
        result: T = task.result
        return result

    def _enter(self) -> None:
        with self._changed:
            if self._failure:
                if self._inside or time.monotonic() < self._retry_at:
                    raise StoreError(self._failure)
            elif not self._changed.wait_for(self._may_go, TURN_SECONDS):
                raise StoreError("too many calls wait for the store of records")
            elif self._failure:
                raise StoreError(self._failure)
            if self._threads < self._at_once:
                threading.Thread(target=self._run, name="store", daemon=True).start()
                self._threads += 1
            self._inside += 1

    def _may_go(self) -> bool:
        return self._inside < self._at_once or bool(self._failure)

    def _run(self) -> None:
        while True:
            task = self._queue.get()
            failure = ""
            try:
                task.result = task.work()
            except StoreError as error:
                task.error, failure = error, str(error)
            except Exception as error:  # the caller's to handle; the store has answered
                task.error = error
            with self._changed:
                self._inside -= 1
                self._note(failure)
            task.done.set()

    def _note(self, failure: str) -> None:
        """Note whether the latest call failed."""
        self._failure = failure
        self._retry_at = time.monotonic() + self._pause
        self._changed.notify_all()
