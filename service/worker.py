"""Our gunicorn worker: `service.loop` with the life of a worker around it.

How it ends. When the whole service stops, its readiness is false already; for `drain_seconds` it
still accepts, and answers with `Connection: close`. When only this worker goes (replaced after a
HUP or after `max_requests`), others accept. Then it takes what the kernel has accepted, gives idle
connections a moment for a request that is on its way, finishes what it has, and exits, within
`grace_seconds` after the signal.
"""

import os
import time
from typing import Any

from gunicorn.workers.base import Worker as GunicornWorker

from service.arbiter import LEAVING, READY, Flags
from service.listeners import raise_file_limit, refuse_new
from service.loop import Limits, Loop

TURN_SECONDS = 1.0
HURRIED_TURN_SECONDS = 0.05
SPARE_FILES = 200  # open files that are no connections
MOST_CONNECTIONS = 50_000  # of about 2.6 KiB when they wait
ARRIVING_SECONDS = 0.1  # for handshakes that have begun when we stop accepting
CLOSING_SECONDS = 2.0  # of the grace, for writing the last records; then the master would kill us
IDLE_SECONDS = 2.0  # for a request that is on its way on an idle connection


class Worker(GunicornWorker):  # type: ignore[misc]
    """The worker; its application object is a `service.gunicorn_conf.Server`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flags, self.told = Flags(), False  # the master looks at them

    def run(self) -> None:
        """Serve, then leave."""
        loop = self._loop()
        loop.watch(self.PIPE[0])
        self.flags.set(READY)
        try:
            while self.alive and self.ppid == os.getppid():
                self._turn(loop, TURN_SECONDS)
                if loop.answered >= self.max_requests and not self.flags[LEAVING]:
                    self.log.info("Worker (pid:%s) asks to be replaced", self.pid)
                    self.flags.set(LEAVING)
            self._leave(loop)
        finally:
            loop.close()

    def _loop(self) -> Loop:
        settings = self.app.settings
        limits = Limits(
            body_bytes=settings.max_body_bytes,
            held_bytes=settings.max_waiting_bytes,
            connections=min(max(raise_file_limit() - SPARE_FILES, SPARE_FILES), MOST_CONNECTIONS),
            header_seconds=settings.header_timeout_seconds,
            body_seconds=settings.body_timeout_seconds,
            keep_alive_seconds=self.cfg.keepalive,
        )
        return Loop(self.wsgi, self.sockets, self.cfg, limits, self.cfg.threads)

    def _turn(self, loop: Loop, seconds: float) -> None:
        loop.turn(seconds)
        now = time.monotonic()
        if now - self._notified >= TURN_SECONDS / 2:
            self._notified = now
            self.notify()

    _notified = 0.0

    def _leave(self, loop: Loop) -> None:
        """Finish; the order of the steps is what keeps requests from being lost."""
        settings, began = self.app.settings, time.monotonic()
        last = began + max(settings.grace_seconds - CLOSING_SECONDS, 0.5)
        loop.keeping = False
        if settings.draining_file.exists():
            self._go_on(loop, min(began + settings.drain_seconds, last))
            for listener in self.sockets:
                refuse_new(listener)
            self._go_on(loop, time.monotonic() + ARRIVING_SECONDS)
        loop.stop_accepting()
        self._go_on(loop, min(time.monotonic() + IDLE_SECONDS, last), until_empty=True)
        loop.end_idle()
        self._go_on(loop, last, until_empty=True)

    def _go_on(self, loop: Loop, until: float, *, until_empty: bool = False) -> None:
        while (left := until - time.monotonic()) > 0 and not (until_empty and not loop):
            self._turn(loop, min(left, HURRIED_TURN_SECONDS))
