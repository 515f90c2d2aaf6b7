"""Signs of life of the jobs that run in this process, by the monotonic clock."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Beats:
    """Which jobs run here and when each last moved. For several threads."""

    clock: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)
    _turns: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self, job_id: str) -> Iterator[None]:
        """The job runs in this thread; a second thread with the same job waits for the first."""
        with self._guard:
            turn = self._turns.setdefault(job_id, threading.Lock())
        with turn:
            self.beat(job_id)
            try:
                yield
            finally:
                with self._guard:
                    self._last.pop(job_id, None)

    def beat(self, job_id: str) -> None:
        """It moves."""
        with self._guard:
            self._last[job_id] = self.clock()

    def age(self, job_id: str) -> float | None:
        """Seconds since it last moved; None where it does not run here."""
        with self._guard:
            last = self._last.get(job_id)
        return None if last is None else self.clock() - last

    def all(self) -> tuple[str, ...]:
        """The jobs that run here."""
        with self._guard:
            return tuple(self._last)
