"""The service under gunicorn: options, hooks, and the composition root of a worker.

`serve(settings)` turns this process into the master (SIGTERM drains, SIGHUP starts new workers
before the old ones end). The master must not import onnxruntime: it starts threads, and a process
that is forked afterwards aborts or hangs at its end. So `serve` starts a fresh interpreter, and
only workers import what needs a model.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication

from models.base import locks, logs
from models.base.processes import child_environment, heartbeat_folder, prepare_process
from service.access.guard import exposure
from service.configuration.addresses import bind_text
from service.configuration.settings import Settings, environment, load
from service.configuration.state_locks import service_lock
from service.server.arbiter import Arbiter
from service.server.shared import WorkerTerms
from service.server.worker import Worker
from service.web.errors import StateError

if TYPE_CHECKING:
    from service.app import Application

TIMEOUT_SECONDS = 60
KEEP_ALIVE_SECONDS = 75
LOOK_SECONDS = 0.05
BACKLOG = 4096  # connections that the kernel accepts ahead of us; it may allow less


class ServiceMaster(BaseApplication):  # type: ignore[misc]
    """gunicorn with the options below."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.terms = terms(settings, settings.draining_file)
        self._lock: IO[bytes] | None = None
        self._slot: locks.Slot | None = None
        self._app: Application | None = None
        self._successor: Worker | None = None
        super().__init__()

    def load_config(self) -> None:
        """Hand the options to gunicorn."""
        for name, value in options(self.settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", self._when_ready)
        self.cfg.set("post_fork", self._post_fork)
        self.cfg.set("worker_exit", self._worker_exit)

    def run(self) -> None:
        """Run the master."""
        Arbiter(self, before_stop=self._tell_draining).run()

    def load(self) -> "Application":
        """Make the parts of a worker, in the worker."""
        # Before NumPy is imported: its products are small, and threads that spin take the cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from monitoring.counting.shared_counters import share_counters
        from service.app import create_app

        settings, directory = self.settings, self.settings.metrics_dir
        logs.configure(settings.log_level)
        with self._turn_to_load():
            self._slot = locks.acquire(directory)
            share_counters(directory, self._slot.number)
            self._app = create_app(settings, metrics_dir=directory)
        return self._app

    @contextmanager
    def _turn_to_load(self) -> Iterator[None]:
        """Let successors load one at a time, so that the serving workers keep most of the cores."""
        if self._successor is None:
            yield
            return
        path = self.settings.metrics_dir.parent / "loading.lock"
        while (lock := locks.try_exclusive(path)) is None:
            self._successor.notify()
            time.sleep(LOOK_SECONDS)
        with lock:
            yield

    def _when_ready(self, arbiter: Any) -> None:
        """Called in the master, after the port is bound and before the first worker."""
        directory = self.settings.metrics_dir
        self._lock = locks.try_exclusive(service_lock(self.settings))
        if self._lock is None:
            raise StateError(f"another service runs on the state directory {self.settings.state}")
        locks.clear(directory)
        self.settings.draining_file.unlink(missing_ok=True)
        if (danger := exposure(self.settings)) is not None:
            reason = f"{danger}; `holdfast tokens create` makes tokens"
            logs.logger("auth").warning("open_to_the_network", reason=reason)

    def _tell_draining(self) -> None:
        """Called in the master when a graceful stop begins: from now on no worker is ready."""
        try:
            self.settings.draining_file.touch()
        except OSError as error:
            logs.logger("service").warning("not_told_draining", reason=str(error))

    def _post_fork(self, arbiter: Any, worker: Any) -> None:
        if self._lock is not None:
            self._lock.close()  # else a worker that outlives its master would hold it
        if worker.age > arbiter.num_workers:
            self._successor = worker

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        if self._app is not None:
            self._app.service.close()  # where the worker did not come so far as to do it


def options(settings: Settings) -> dict[str, object]:
    """The settings of gunicorn, by its own names."""
    return {
        "bind": bind_text(settings.host, settings.port),
        "workers": settings.workers,
        "worker_class": Worker,
        "timeout": TIMEOUT_SECONDS,
        "graceful_timeout": settings.grace_seconds,
        "max_requests": settings.max_requests,
        "max_requests_jitter": settings.max_requests // 4,
        "backlog": BACKLOG,
        "keepalive": KEEP_ALIVE_SECONDS,
        "preload_app": False,
        "control_socket_disable": True,
        "worker_tmp_dir": heartbeat_folder(Path(settings.state)),
        "logger_class": "service.server.gunicorn_log.JsonLogger",
        "loglevel": settings.log_level,
        "proc_name": "holdfast",
    }


def terms(settings: Settings, draining: Path | None = None) -> WorkerTerms:
    """Return the time limits of clients and of a worker's end."""
    return WorkerTerms(
        header_seconds=settings.header_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        drain_seconds=settings.drain_seconds,
        grace_seconds=settings.grace_seconds,
        draining=draining,
    )


def serve(settings: Settings) -> NoReturn:
    """Become the master process of the service with these settings; does not return."""
    command = [sys.executable, "-m", "service.gunicorn_conf"]
    os.execve(sys.executable, command, {**child_environment(), **environment(settings)})


def main() -> None:
    """Run the master in this process."""
    settings = load(os.environ)
    prepare_process(Path(settings.state))
    logs.configure(settings.log_level)
    ServiceMaster(settings).run()


if __name__ == "__main__":
    main()
