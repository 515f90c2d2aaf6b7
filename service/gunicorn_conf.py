"""The service under gunicorn: options, hooks, and the composition root of a worker.

`serve(settings)` turns this process into the master (SIGTERM drains, SIGHUP starts new workers
before the old ones end). The master must not import onnxruntime: that starts threads, and a
process forked after it aborts or hangs when it ends. So `serve` executes a fresh interpreter, and
everything that touches a model is imported in the worker.
"""

import os
import sys
from typing import IO, TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication

from monitoring import logs, slots
from service.errors import StateError
from service.settings import Settings, environment, load, service_lock

if TYPE_CHECKING:
    from service.app import Application

TIMEOUT_SECONDS = 60
GRACEFUL_SECONDS = 30
KEEP_ALIVE_SECONDS = 75


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with the options below."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock: IO[bytes] | None = None
        self._slot: slots.Slot | None = None
        self._app: Application | None = None
        super().__init__()

    def load_config(self) -> None:
        """Hand the options to gunicorn."""
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", self._when_ready)
        self.cfg.set("post_fork", self._post_fork)
        self.cfg.set("worker_exit", self._worker_exit)

    def load(self) -> "Application":
        """Put the parts of a worker together, in the worker."""
        # Before NumPy is imported: its products are small, and threads that spin take the cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from monitoring.metrics import share_counters
        from service.app import create_app

        settings, directory = self._settings, self._settings.metrics_dir
        logs.configure(settings.log_level)
        self._slot = slots.acquire(directory)
        share_counters(directory, self._slot.number)
        self._app = create_app(settings, metrics_dir=directory)
        return self._app

    def _when_ready(self, arbiter: Any) -> None:
        """In the master, after the port is bound and before the first worker."""
        directory = self._settings.metrics_dir
        self._lock = slots.try_exclusive(service_lock(self._settings))
        if self._lock is None:
            raise StateError(f"another service runs on the state directory {self._settings.state}")
        slots.clear(directory)

    def _post_fork(self, arbiter: Any, worker: Any) -> None:
        if self._lock is not None:
            self._lock.close()  # else a worker that outlives its master would hold it

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        if self._app is not None:
            self._app.service.close()


def options(settings: Settings) -> dict[str, Any]:
    """What gunicorn is told."""
    return {
        "bind": f"{settings.host}:{settings.port}",
        "workers": settings.workers,
        "worker_class": "gthread",
        "threads": settings.threads,
        "timeout": TIMEOUT_SECONDS,
        "graceful_timeout": GRACEFUL_SECONDS,
        "keepalive": KEEP_ALIVE_SECONDS,
        "preload_app": False,
        "control_socket_disable": True,
        "loglevel": settings.log_level,
        "proc_name": "holdfast",
    }


def serve(settings: Settings) -> NoReturn:
    """Become the master process of the service with these settings; does not return."""
    command = [sys.executable, "-m", "service.gunicorn_conf"]
    os.execve(sys.executable, command, {**os.environ, **environment(settings)})


def main() -> None:
    """Run the master in this process."""
    settings = load(os.environ)
    logs.configure(settings.log_level)
    Server(settings).run()


if __name__ == "__main__":
    main()
