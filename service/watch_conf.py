"""The watcher under gunicorn: one worker, which is restarted if it dies.

As in `service.gunicorn_conf`, the master is a fresh interpreter that imports no model, and the
worker makes all parts itself: threads and locks do not survive a fork.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication

from models.base import logs
from models.base.processes import (
    child_environment,
    end_with_parent,
    heartbeat_folder,
    prepare_process,
)
from service.configuration.addresses import bind_text
from service.configuration.settings import Settings, environment, load
from service.gunicorn_conf import BACKLOG, KEEP_ALIVE_SECONDS, TIMEOUT_SECONDS, terms
from service.server.worker import Worker

if TYPE_CHECKING:
    from service.watch import WatchApplication

GRACE_SECONDS = 5


class WatchServer(BaseApplication):  # type: ignore[misc]
    """gunicorn with the watcher's options."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.terms = terms(settings)._replace(drain_seconds=0.0, grace_seconds=GRACE_SECONDS)
        super().__init__()

    def load_config(self) -> None:
        """One process, no control socket."""
        options = {
            "bind": bind_text(self._settings.watch_host, self._settings.watch_port),
            "workers": 1,
            "worker_class": Worker,
            "timeout": TIMEOUT_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "backlog": BACKLOG,
            "keepalive": KEEP_ALIVE_SECONDS,
            "control_socket_disable": True,
            "logger_class": "service.server.gunicorn_log.JsonLogger",
            "worker_tmp_dir": heartbeat_folder(Path(self._settings.state)),
            "loglevel": "warning",
            "proc_name": "holdfast-watch",
            "post_fork": _end_with_master,
        }
        for key, value in options.items():
            self.cfg.set(key, value)

    def load(self) -> "WatchApplication":
        """Make the watcher, in the worker."""
        from service.watch import start

        return start(self._settings)


def _end_with_master(master: Any, worker: Any) -> None:
    """End the worker with its master, or it would keep the port and the lock of the state.

    Its jobs go on in the next worker: they survive a kill at any point.
    """
    end_with_parent(master.pid)


def watch(settings: Settings) -> NoReturn:
    """Become the master process of the watcher with these settings; does not return."""
    command = [sys.executable, "-m", "service.watch_conf"]
    os.execve(sys.executable, command, {**child_environment(), **environment(settings)})


def main() -> None:
    """Run the master in this process."""
    settings = load(os.environ)
    prepare_process(Path(settings.state))
    logs.configure(settings.log_level)
    WatchServer(settings).run()


if __name__ == "__main__":
    main()
