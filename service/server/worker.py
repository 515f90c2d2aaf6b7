"""The gunicorn worker: uvicorn-worker's with our server and connections."""

import asyncio
import logging
import os
from functools import partial
from typing import Any

import uvicorn
from uvicorn_worker import UvicornWorker

from service.server.arbiter import LEAVING, READY, WorkerFlags
from service.server.listeners import raise_file_limit
from service.server.protocol import Protocol
from service.server.server import WorkerServer
from service.server.shared import Shared

SPARE_FILES = 200  # open files that are no connections
MOST_CONNECTIONS = 50_000  # of about 4 KiB when they wait
SERVER_NAME = "holdfast"


class Worker(UvicornWorker):  # type: ignore[misc]
    """Runs the application; gunicorn's application object has the `terms` of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flags, self.stop_sent = WorkerFlags(), False  # read by the master

    def run(self) -> None:
        """Serve until the end, then exit."""
        # uvicorn warns of every broken request: anybody could fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        app = self.wsgi
        most = min(max(raise_file_limit() - SPARE_FILES, SPARE_FILES), MOST_CONNECTIONS)
        shared = Shared(self.app.terms, app.held, most, app.count_refusal)
        config = configure(app, shared, backlog=self.cfg.backlog, keep_alive=self.cfg.keepalive)
        server = WorkerServer(config, shared, tick=self._tick, ready=lambda: self.flags.set(READY))
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=self.sockets))

    def _tick(self, requests: int) -> bool:
        self.notify()
        if requests >= self.max_requests and not self.flags[LEAVING]:
            self.log.info("Worker (pid:%s) asks to be replaced", self.pid)
            self.flags.set(LEAVING)
        return bool(self.ppid != os.getppid())  # the master has died


def configure(app: Any, shared: Shared, *, backlog: int, keep_alive: float) -> uvicorn.Config:
    """Make uvicorn's configuration; `Proxies`, not uvicorn, trusts forwarded addresses."""
    return uvicorn.Config(
        app,
        http=partial(Protocol, shared=shared),  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("server", SERVER_NAME)],
        backlog=backlog,
        timeout_keep_alive=keep_alive,  # type: ignore[arg-type]
    )
