"""uvicorn's connection with the limits that a server on a network needs.

uvicorn and llhttp read and write HTTP; nothing is parsed here. What is added:

- the head of a request must come in time, be short and not be ambiguous (RFC 9112, 3.2 and 7);
- a refusal is sent after the answers to earlier requests, also while the client still sends;
- a client that has closed its sending side (a half-closed connection) still gets its answers;
- a client that does not read its answers is disconnected; until then they count as held memory;
- no further requests are read while answers are outstanding, so that nothing piles up.
"""

import asyncio
import heapq
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.server.shared import HEAD_BYTES, Shared
from service.web.errors import render_error

SEND_STEP = 1 << 16  # a client that takes less of an answer in the body time-out is given up
LINGER_SECONDS = 2.0  # in which a refused client may finish sending, so that it sees the answer
ROOM = 64  # one of so many waiting connections is dropped to make room
LATE = "the head of the request did not come in time"
BROKE_OFF = "the request broke off"
NO_REQUEST = "not a request that is read here"


class Refusal(NamedTuple):
    """The answer to bytes that are no valid request; the connection ends with it."""

    status: int
    detail: str


class _Parser(httptools.HttpRequestParser):
    """Treats a request with `Upgrade` as plain HTTP/1.1.

    A server may ignore `Upgrade` (RFC 9110, section 7.8), and HTTP/2 clients send it with any
    request. llhttp stops after such a head and would read the body as the next request, so the
    head is parsed once more without that header.
    """

    def __init__(self, protocol: "Protocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        rest, parser = memoryview(data), self
        while True:
            try:
                httptools.HttpRequestParser.feed_data(parser, rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
                parser = self._protocol.parser = _Parser(self._protocol)
                httptools.HttpRequestParser.feed_data(parser, self._protocol.head_to_read_again())
            else:
                return


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *args: Any, shared: Shared, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._shared = shared
        self._owed = 0  # requests that are not answered yet
        self._in_head = self._in_body = False
        self._head_bytes = 0  # of a head that is not whole
        self._read_bytes = 0  # that the next head may begin with
        self._charged = 0  # bytes of `shared.held`
        self._half_closed = False
        self._refusal: Refusal | None = None
        self._read_again = b""  # a head, without `Upgrade`
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    @property
    def waits_until(self) -> float | None:
        """When an idle connection times out; None for others."""
        if self._owed:
            return None
        timer = self._head_timer or self.timeout_keep_alive_task
        return timer.when() if timer else 0.0

    # --- coming and going

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer; drop another connection if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._shared.connections:
            make_room(self.connections - {self})
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the counted memory."""
        super().connection_lost(exc)
        self._shared.held.give(self._charged)
        self._charged = 0
        for timer in (self._head_timer, self._send_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more, but may still read: keep the connection until the answer."""
        self._half_closed = True
        if self._refusal is None and (self._in_body or self._head_bytes):
            self._refuse(Refusal(HTTPStatus.BAD_REQUEST, BROKE_OFF))
            return True
        return self._owed > 0

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, at once if the client does not read its last answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """End an idle connection at once, a busy one after its current request."""
        self._shared.keeping = False
        if not self._head_bytes:
            super().shutdown()

    # --- reading

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the parser; limit the size of an incomplete head."""
        if self._refusal is not None:
            return
        self._read_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.pipeline and not self._charge():
            self.transport.abort()
        if self._refusal is not None or self._in_body or self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES:
            self._refuse(_too_long(self.url))
        elif self._in_head or not self._owed:
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._head_bytes = True, self._read_bytes
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is complete: refuse it here if it is ambiguous or too long."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            lines = [b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade"]
            start = b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)
            self._read_again = b"\r\n".join((start, *lines, b"", b""))
            return
        self._in_head, self._head_bytes = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._refusal = check_head(self.url, self.headers, self.parser.get_http_version())
        if self._refusal is not None:
            raise ValueError(self._refusal.detail)  # ends the parser's run; see `send_400_response`
        super().on_headers_complete()
        self._owed, self._in_body = self._owed + 1, True
        if not self._shared.keeping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._read_again:
            return
        self._in_body = False
        self._read_bytes = 1  # how many are left is not known
        super().on_message_complete()

    def head_to_read_again(self) -> bytes:
        """The last head without `Upgrade`; once."""
        head, self._read_again = self._read_again, b""
        return head

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: send the refusal that the parser or `on_headers_complete` noted."""
        refusal, self._refusal = self._refusal, None
        self._refuse(refusal or Refusal(HTTPStatus.BAD_REQUEST, NO_REQUEST))

    def _await_head(self) -> None:
        if self._head_timer is None:
            seconds = self._shared.terms.header_seconds
            self._head_timer = self.loop.call_later(seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._owed:
            self._await_head()  # we are slow, not the client
        elif self._head_bytes:
            self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, LATE))
        else:
            self.transport.close()

    # --- refusing

    def _refuse(self, refusal: Refusal) -> None:
        """Stop reading; send the refusal after the outstanding answers."""
        self._refusal = refusal
        if self._in_body:  # of a request that will never be whole: nobody answers it
            self._in_body = False
            self._owed -= 1
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
        if self._owed:
            self.flow.pause_reading()
        else:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        self._shared.count_refusal(refusal.status)
        path = self.url.split(b"?")[0].decode("latin-1") if self.headers is not None else ""
        media, body = render_error(path, refusal.status, refusal.detail)
        head = (
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
            f"date: {formatdate(usegmt=True)}\r\nserver: holdfast\r\nconnection: close\r\n"
            f"content-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._end_keep_alive()
        self.transport.write(head.encode("latin-1") + body)
        if self._half_closed:
            self.transport.close()
            return
        # A client that still sends would lose the answer if its bytes met a closed socket.
        self.transport.write_eof()
        self.flow.resume_reading()
        self._send_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    # --- answering

    def on_response_complete(self) -> None:
        """An answer has been sent."""
        self._owed -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._watch_sending()
        elif self.pipeline:
            self.flow.pause_reading()  # the next one resumes it where it needs more
        if self._charged:
            self._charge()
        if self._owed or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._half_closed:
            self.transport.close()
        elif self._in_head:
            self._end_keep_alive()  # the head's own time runs

    def pause_writing(self) -> None:
        """The client reads too slowly: count what waits for it, and watch its progress."""
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._charge()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _watch_sending(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._charge():
            seconds = self._shared.terms.body_seconds
            self._send_timer = self.loop.call_later(seconds, self._look_at_sending, unsent)
        else:
            self.transport.abort()

    def _look_at_sending(self, before: int) -> None:
        if self.transport.get_write_buffer_size() > before - SEND_STEP:
            self.transport.abort()
        else:
            self._watch_sending()

    def _charge(self) -> bool:
        """Count the memory of waiting requests and of an answer that is not read yet."""
        held = self._shared.held
        held.give(self._charged)
        size = sum(len(cycle.body) for cycle, _ in self.pipeline)
        if self.flow.write_paused:
            size += self.transport.get_write_buffer_size()
        fits = held.take(size)
        self._charged = size if fits else 0
        return fits

    def _end_keep_alive(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None


def check_head(url: bytes, headers: list[tuple[bytes, bytes]], version: str) -> Refusal | None:
    """Return what is wrong with a parsed head; None: nothing.

    Args:
        url: the request target as it was sent.
        headers: names in lower case, and values.
        version: of HTTP.

    Returns:
        The refusal: the head is too long (431, 414); it has not exactly one `Host`, as HTTP/1.1
        requires; the target has another host than `Host`, or a fragment; the transfer coding is
        not `chunked` (501), or is used in HTTP/1.0.

    >>> check_head(b"/", [(b"host", b"h")], "1.1")
    >>> int(check_head(b"/", [], "1.1").status)
    400
    """
    if (
        len(url) > HEAD_BYTES
        or len(url) + sum(len(n) + len(v) + 4 for n, v in headers) > HEAD_BYTES
    ):
        return _too_long(url)
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        return Refusal(HTTPStatus.BAD_REQUEST, f"Host: expected one, got {len(hosts) or 'none'}")
    if not url.startswith(b"/"):
        target = url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
        if not target or (hosts and target.lower() != hosts[0].strip().lower()):
            return Refusal(HTTPStatus.BAD_REQUEST, "the target is no path, or not of this host")
    if b"#" in url:
        return Refusal(HTTPStatus.BAD_REQUEST, "the target has a fragment")
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding: expected chunked, once")
    return None


def make_room(connections: Iterable[Any]) -> None:
    """Drop the idle connections that would time out next."""
    waiting = [
        (c.waits_until, n, c) for n, c in enumerate(connections) if c.waits_until is not None
    ]
    for _, _, connection in heapq.nsmallest(max(1, len(waiting) // ROOM), waiting):
        connection.transport.abort()


def _too_long(url: bytes) -> Refusal:
    status, what = (414, "request line") if len(url) > HEAD_BYTES else (431, "head")
    return Refusal(status, f"{what}: at most {HEAD_BYTES} bytes")
