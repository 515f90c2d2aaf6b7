"""The loop of a worker: it reads and writes without waiting, and answers what is whole.

What has come of a request waits (`service.waiting`) until all of it is there; then the application
answers it in a thread of the pool, or at once in the loop where it is known to be quick. What a
client does not take of an answer waits too. So no client can hold a thread.

The poller tells each arrival once (edge-triggered): a request costs one wait, one read, one write.
"""

import heapq
import logging
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

from service.connection import Connection
from service.exchange import CONTINUE, Application, base_environ, parsed, refusal, respond
from service.listeners import FULL, TRANSIENT
from service.pool import Pace, Pool
from service.waiting import Head, RefusedError, Stage, Waiting
from service.web import DISCARDED

EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
READS_IN_A_ROW = 16  # from one connection, before the others have their turn
SWEEP_SECONDS = 0.5
ENDED_IN_A_ROW = 64  # of those out of time, before the others have their turn
ACCEPTED_AT_LAST = 10_000  # that the kernel may have accepted when we stop
SEND_STEP = 1 << 16  # a client that takes less of an answer in the body time-out is given up
SLOW = {
    Stage.HEAD: "the head of the request did not come in time",
    Stage.BODY: "the body of the request did not come in time",
}
CROWDED = "the service holds as much of requests as it can; try again"

log = logging.getLogger("gunicorn.error")


class Limits(NamedTuple):
    """Times in seconds; `held_bytes` of all requests that wait or are being answered."""

    body_bytes: int
    held_bytes: int
    connections: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float


class Loop:
    """All connections of a worker.

    Args:
        app: the WSGI application. Where it has `quick(environ)`, that says which requests may be
            answered in the loop; where it has `refused(status)`, that is told what was answered
            without it.
        listeners: bound sockets; accepted from until `stop_accepting`.
        cfg: gunicorn's configuration, for its parser.
        threads: that answer.
    """

    def __init__(
        self,
        app: Application,
        listeners: Sequence[socket.socket],
        cfg: Any,
        limits: Limits,
        threads: int,
    ) -> None:
        self._app, self._cfg, self._limits = app, cfg, limits
        self._quick = getattr(app, "quick", lambda environ: False)
        self._tell = getattr(app, "refused", lambda status: None)
        self._pace = Pace()
        self._pool = Pool(threads)
        self._poller = select.epoll()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._bases = {
            number: base_environ(listener.getsockname(), several=cfg.workers > 1)
            for number, listener in self._listeners.items()
        }
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._deferred: deque[Callable[[], None]] = deque()
        self._overdue: deque[Connection] = deque()
        self._turns: deque[Connection] = deque()  # hold bytes that the poller tells of no more
        self._connections: dict[int, Connection] = {}
        self._held = 0
        self._swept = 0.0
        self.keeping = True  # whether connections are kept after an answer
        self.answered = 0
        for listener in listeners:
            listener.setblocking(False)
            self._poller.register(listener, select.EPOLLIN)
        self._poller.register(self._wake, select.EPOLLIN)

    def __len__(self) -> int:
        return len(self._connections)

    def watch(self, number: int) -> None:
        """End a turn early when the file descriptor has bytes; they are read and forgotten."""
        self._poller.register(number, select.EPOLLIN)

    def turn(self, seconds: float) -> None:
        """Wait for events, at most so long, and handle them."""
        due = self._turns or self._deferred or self._overdue
        for number, event in self._poller.poll(0 if due else seconds):
            connection = self._connections.get(number)
            if connection is not None:
                self._on_event(connection, event)
            elif number in self._listeners:
                self._accept(number)
            else:
                os.read(number, 4096)
        while self._deferred:
            self._deferred.popleft()()
        for _ in range(len(self._turns)):
            self._read(self._turns.popleft())
        now = time.monotonic()
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._overdue.extend(c for c in self._connections.values() if c.deadline <= now)
        for _ in range(min(len(self._overdue), ENDED_IN_A_ROW)):
            self._end_overdue(self._overdue.popleft(), now)

    def stop_accepting(self) -> None:
        """Accept what the kernel has, and no more; other workers may go on."""
        for number, listener in self._listeners.items():
            self._poller.unregister(listener)
            for _ in range(ACCEPTED_AT_LAST):
                if not self._accept(number):
                    break
            listener.close()
        self._listeners.clear()

    def end_idle(self) -> None:
        """Close the connections that wait for nothing in particular."""
        for connection in list(self._connections.values()):
            if connection.idle:
                self._linger(connection)

    def close(self) -> None:
        """Drop what is left, and let the threads end."""
        self._pool.close()
        for connection in list(self._connections.values()):
            self._close(connection)
        self._poller.close()
        os.close(self._wake)

    # --- arriving

    def _accept(self, number: int) -> bool:
        """Take one connection; whether there may be another."""
        try:
            sock, peer = self._listeners[number].accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in FULL:
                self._make_room()
            elif error.errno not in TRANSIENT:
                raise
            return True
        if len(self._connections) >= self._limits.connections:
            self._make_room()
        sock.setblocking(False)
        base = self._bases[number]
        parse = partial(parsed, cfg=self._cfg, base=base, peer=peer)
        connection = Connection(sock, Waiting(parse, self._limits.body_bytes))
        connection.deadline = time.monotonic() + self._limits.header_seconds
        self._connections[sock.fileno()] = connection
        self._poller.register(sock, EDGES)
        return True

    def _make_room(self) -> None:
        """Drop those next to run out of time, of the connections that nothing is done for."""
        waiting = [c for c in self._connections.values() if not c.busy and c.out is None]
        count = max(1, len(waiting) // 64)  # several: looking for them takes a while
        for connection in heapq.nsmallest(count, waiting, key=lambda c: c.deadline):
            self._close(connection)

    def _on_event(self, connection: Connection, event: int) -> None:
        if event & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
            connection.half_closed = True
        connection.readable = True
        if connection.busy:
            return
        if connection.out is not None:
            self._send_on(connection)
        else:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        """Read what has come, until a request is whole or nothing is left."""
        if connection.busy or connection.closed or connection.out is not None:
            return
        try:
            if connection.waiting.more and not connection.ending:
                self._gather(connection, b"")
            for _ in range(READS_IN_A_ROW):
                if connection.busy or not connection.readable or connection.out is not None:
                    return
                data = connection.receive()
                if data is None:
                    return
                if not data:
                    self._at_end(connection)
                    return
                self._gather(connection, data)
        except OSError:
            self._close(connection)
        else:
            self._turns.append(connection)

    def _at_end(self, connection: Connection) -> None:
        """The client sends no more. It may still read: tell it what is missing."""
        if connection.ending or connection.waiting.stage is Stage.IDLE:
            self._close(connection)
        else:
            self._refuse(connection, RefusedError(400, "the request broke off"))

    def _gather(self, connection: Connection, data: bytes) -> None:
        """Add bytes to what waits, or what came behind the last request; answer what is whole."""
        waiting = connection.waiting
        if connection.ending:
            connection.discard -= len(data)
            if connection.discard < 0:
                self._close(connection)
            return
        try:
            stage = waiting.feed(data) if data else waiting.feed_next()
        except RefusedError as refused:
            self._refuse(connection, refused)
            return
        if stage is Stage.WHOLE:
            self._dispatch(connection)
        else:
            self._wait(connection, stage)

    def _wait(self, connection: Connection, stage: Stage) -> None:
        """Not whole: bound the time and the bytes."""
        limits, waiting = self._limits, connection.waiting
        if stage is not connection.stage:
            connection.stage = stage
            if stage is not Stage.IDLE:
                seconds = limits.header_seconds if stage is Stage.HEAD else limits.body_seconds
                connection.deadline = time.monotonic() + seconds
            if stage is Stage.BODY and waiting.head is not None and waiting.head.expects_continue:
                connection.send(CONTINUE)
        self._charge(connection, waiting.held)
        if self._held > limits.held_bytes:
            self._refuse(connection, RefusedError(503, CROWDED))

    def _charge(self, connection: Connection, held: int) -> None:
        self._held += held - connection.charged
        connection.charged = held

    # --- answering

    def _dispatch(self, connection: Connection) -> None:
        connection.stage = Stage.IDLE
        connection.busy = True
        head, body = connection.waiting.take()
        environ = head.environ
        if self._quick(environ) and self._pace.is_quick(environ["PATH_INFO"]):
            self._answer(connection, head, body)
            self._finish(connection)
            return
        if self._pool.crowded and not connection.charged:
            self._charge(connection, body.getbuffer().nbytes)
        if self._held > self._limits.held_bytes:
            self._refuse(connection, RefusedError(503, CROWDED, environ["PATH_INFO"]))
        else:
            self._pool.put(partial(self._answer_in_thread, connection, head, body))

    def _answer_in_thread(self, connection: Connection, head: Head, body: BytesIO) -> None:
        self._answer(connection, head, body)
        if connection.keep and connection.out is None and not connection.charged:
            connection.busy = False  # from here on the loop may have it
            if connection.readable or connection.waiting.more:
                self._defer(partial(self._turns.append, connection))
        else:
            self._defer(partial(self._finish, connection))

    def _defer(self, call: Callable[[], None]) -> None:
        """Have the loop thread do it."""
        self._deferred.append(call)
        os.eventfd_write(self._wake, 1)

    def _answer(self, connection: Connection, head: Head, body: BytesIO) -> None:
        began = time.thread_time()
        path = head.environ["PATH_INFO"]
        try:
            answer, keep = respond(self._app, head, body, lambda: self.keeping)
        except Exception:
            log.exception("the application failed at %r", path)
            answer, keep = refusal(path, 500, "something went wrong inside"), False
        self.answered += 1
        connection.keep = keep
        connection.deadline = time.monotonic() + self._limits.keep_alive_seconds
        try:
            connection.send(answer)
        except OSError:
            connection.keep = False
        self._pace.took(path, time.thread_time() - began)

    def _finish(self, connection: Connection) -> None:
        """Back in the loop, after an answer."""
        connection.busy = False
        if connection.closed:
            return
        self._charge(connection, len(connection.out or b""))
        if connection.out is not None:
            self._wait_to_send(connection)
        elif not connection.keep:
            self._linger(connection)
        elif connection.readable or connection.waiting.more:
            self._turns.append(connection)

    def _refuse(self, connection: Connection, refused: RefusedError) -> None:
        """Answer without asking the application, and end the connection."""
        path = refused.path or connection.waiting.path
        connection.keep = False
        if refused.status in (413, 503):
            connection.discard = DISCARDED * self._limits.body_bytes
            connection.linger = self._limits.body_seconds
        self._tell(refused.status)
        self._charge(connection, 0)
        connection.waiting.clear()
        try:
            connection.send(refusal(path, refused.status, refused.detail))
        except OSError:
            self._close(connection)
            return
        self._finish(connection)

    # --- leaving

    def _wait_to_send(self, connection: Connection) -> None:
        if self._held > self._limits.held_bytes:
            self._close(connection)  # many who do not read
            return
        connection.deadline = time.monotonic() + self._limits.body_seconds
        connection.step = SEND_STEP
        self._poller.modify(connection.sock, EDGES | select.EPOLLOUT)
        self._send_on(connection)  # room may have come before we asked

    def _send_on(self, connection: Connection) -> None:
        try:
            connection.step -= connection.send_on()
        except OSError:
            self._close(connection)
            return
        if connection.out is None:
            self._poller.modify(connection.sock, EDGES)
            connection.deadline = time.monotonic() + self._limits.keep_alive_seconds
            self._finish(connection)
        elif connection.step <= 0:
            connection.deadline = time.monotonic() + self._limits.body_seconds
            connection.step = SEND_STEP

    def _linger(self, connection: Connection) -> None:
        """Send no more; close when the client has."""
        connection.ending = True
        connection.deadline = time.monotonic() + connection.linger
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        if connection.readable:
            self._turns.append(connection)

    def _end_overdue(self, connection: Connection, now: float) -> None:
        if connection.closed or connection.busy or connection.deadline > now:
            return
        if connection.ending or connection.out is not None:
            self._close(connection)
        elif connection.waiting.stage is Stage.IDLE:
            self._linger(connection)
        else:
            self._refuse(connection, RefusedError(408, SLOW[connection.waiting.stage]))

    def _close(self, connection: Connection) -> None:
        if not connection.closed:
            self._charge(connection, 0)
            del self._connections[connection.sock.fileno()]
            connection.close()
