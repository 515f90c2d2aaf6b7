"""gunicorn's master, with successors first: a worker goes when another is ready in its place."""

import mmap
import signal
from collections.abc import Callable
from typing import Any

from gunicorn.arbiter import Arbiter as GunicornArbiter

READY, LEAVING = 0, 1


class WorkerFlags:
    """What a worker tells its master: two bytes of memory that both see, made before the fork."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, flag: int) -> None:
        """Say it; for good."""
        self._bytes[flag] = 1

    def __getitem__(self, flag: int) -> bool:
        return bool(self._bytes[flag])


class Arbiter(GunicornArbiter):  # type: ignore[misc]
    """The master. `before_stop` is called when a graceful stop begins, before the workers know.

    gunicorn tells old workers to go as soon as the new ones are forked. New ones load a model
    first, and until then nobody would accept.
    """

    def __init__(self, app: Any, before_stop: Callable[[], None]) -> None:
        self._before_stop = before_stop
        self._stopping = False
        super().__init__(app)

    def stop(self, graceful: bool = True) -> None:
        """End the workers."""
        self._stopping = True
        if graceful:
            self._before_stop()
        super().stop(graceful)

    def manage_workers(self) -> None:
        """Fork successors and what is missing; relieve those who have a successor."""
        staying = [worker for worker in self.WORKERS.values() if not worker.flags[LEAVING]]
        for _ in range(self.num_workers - len(staying)):
            self.spawn_worker()
        self._relieve()

    def reap_workers(self) -> None:
        """Collect the dead; gunicorn's reload does only this while it waits."""
        super().reap_workers()
        if not self._stopping:
            self._relieve()

    def _relieve(self) -> None:
        """Tell surplus workers to go: those who want to first, then the oldest."""
        order = sorted(self.WORKERS.items(), key=lambda w: (not w[1].flags[LEAVING], w[1].age))
        surplus, newest = order[: -self.num_workers], order[-self.num_workers :]
        if not all(worker.flags[READY] for _, worker in newest):
            return
        for pid, worker in surplus:
            if not worker.told:
                worker.told = True
                self.kill_worker(pid, signal.SIGTERM)
