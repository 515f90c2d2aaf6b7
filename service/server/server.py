"""uvicorn's server with the life cycle of a gunicorn worker.

How it ends: when the whole service stops, it is already not ready; for `drain_seconds` it still
accepts and answers with `Connection: close`. When only this worker ends (replaced after a HUP or
after `max_requests`), others accept. Then it takes the connections that the kernel has accepted,
gives idle connections a moment for a request that is under way, finishes its requests, and ends
within `grace_seconds` after the signal.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from service.server.listeners import refuse_new
from service.server.shared import Shared

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
ARRIVING_SECONDS = 0.1  # for handshakes that have begun when we stop accepting
CLOSING_SECONDS = 2.0  # of the grace, for writing the last records; then the master would kill us
IDLE_SECONDS = 2.0  # for a request that is on its way on an idle connection
LOOK_SECONDS = 0.05


class WorkerServer(uvicorn.Server):
    """Serves until told to stop.

    Args:
        config: uvicorn's.
        shared: the limits and counters of all connections.
        tick: called ten times a second with the number of requests so far; True ends the server.
        ready: called when it accepts connections.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        shared: Shared,
        *,
        tick: Callable[[int], bool] = lambda requests: False,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._shared, self._tick, self._ready = shared, tick, ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal and end normally; uvicorn would raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; from now on answers close their connection."""
        self._shared.keeping = False
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop."""
        stop = await super().on_tick(counter)
        return self._tick(self.server_state.total_requests) or stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish; the order of these steps makes sure that no request is lost."""
        terms, began = self._shared.terms, time.monotonic()
        last = began + max(terms.grace_seconds - CLOSING_SECONDS, 0.5)
        self._shared.keeping = False
        if terms.draining is not None and terms.draining.exists():
            await self._go_on(min(began + terms.drain_seconds, last))
            for sock in sockets or ():
                refuse_new(sock)
            await self._go_on(time.monotonic() + ARRIVING_SECONDS)
        for server in self.servers:
            server.close()
        await self._go_on(min(time.monotonic() + IDLE_SECONDS, last), until_empty=True)
        self.config.timeout_graceful_shutdown = max(1, round(last - time.monotonic()))
        await super().shutdown(sockets)

    async def _go_on(self, until: float, *, until_empty: bool = False) -> None:
        counter = 0
        while (left := until - time.monotonic()) > 0:
            if until_empty and not self.server_state.connections:
                return
            await asyncio.sleep(min(left, LOOK_SECONDS))
            counter += 1
            await self.on_tick(counter)
