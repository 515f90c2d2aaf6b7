"""The threads of a worker, and which requests are too quick to be handed to one."""

import queue
import threading
from collections.abc import Callable

QUICK_SECONDS = 0.002  # of CPU: longer ones would keep the other connections waiting
KEPT_PATHS = 1024
WEIGHT = 0.1  # of the latest request in the running mean


class Pool:
    """Threads that do what is put; started at once, ended by `close`."""

    def __init__(self, threads: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"request-{index}") for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Have it done by the next free thread."""
        self._jobs.put(job)

    @property
    def crowded(self) -> bool:
        """Whether more wait than are being done."""
        return self._jobs.qsize() > len(self._threads)

    def close(self) -> None:
        """Let the threads end after what they do now; does not wait for them."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class Pace:
    """The CPU time that requests take, per path: a running mean.

    >>> pace = Pace()
    >>> pace.is_quick("/predict")  # not known
    False
    >>> pace.took("/predict", 0.0003)
    >>> pace.is_quick("/predict")
    True
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def is_quick(self, path: str) -> bool:
        """Whether a request to the path is expected to take little."""
        return self._seconds.get(path, QUICK_SECONDS) < QUICK_SECONDS

    def took(self, path: str, seconds: float) -> None:
        """A request took so much CPU time."""
        known = self._seconds.get(path)
        if known is None and len(self._seconds) >= KEPT_PATHS:
            self._seconds.clear()  # somebody asks for paths that do not exist
        self._seconds[path] = seconds if known is None else known + WEIGHT * (seconds - known)
