"""gunicorn's master, which ends an old worker only when its successor is ready."""

import mmap
import signal
from collections.abc import Callable
from typing import Any

from gunicorn.arbiter import Arbiter as GunicornArbiter

READY, LEAVING = 0, 1


class WorkerFlags:
    """Two bytes of shared memory, made before the fork, by which a worker signals its master."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self, flag: int) -> None:
        """Set the flag; it is never cleared."""
        self._bytes[flag] = 1

    def __getitem__(self, flag: int) -> bool:
        return bool(self._bytes[flag])


class Arbiter(GunicornArbiter):  # type: ignore[misc]
    """The master. `before_stop` is called when a graceful stop begins, before the workers know.

    gunicorn stops the old workers as soon as the new ones are forked. But new ones load a model
    first, and until then no worker would accept connections.
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
        """Fork successors and missing workers; end the workers that have a successor."""
        staying = [worker for worker in self.WORKERS.values() if not worker.flags[LEAVING]]
        for _ in range(self.num_workers - len(staying)):
            self.spawn_worker()
        self._relieve()

    def reap_workers(self) -> None:
        """Collect ended workers; gunicorn's reload does only this while it waits."""
        super().reap_workers()
        if not self._stopping:
            self._relieve()

    def _relieve(self) -> None:
        """End surplus workers: first those that asked for it, then the oldest."""
        order = sorted(self.WORKERS.items(), key=lambda w: (not w[1].flags[LEAVING], w[1].age))
        surplus, newest = order[: -self.num_workers], order[-self.num_workers :]
        if not all(worker.flags[READY] for _, worker in newest):
            return
        for pid, worker in surplus:
            if not worker.stop_sent:
                worker.stop_sent = True
                self.kill_worker(pid, signal.SIGTERM)
