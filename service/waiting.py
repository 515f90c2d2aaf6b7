"""Where the bytes of a connection wait until a request is whole. No sockets, no threads, no clock.

Only a whole request gets a thread, so a client that sends slowly holds a few bytes and no more.
The head is read once, by gunicorn's strict parser; what that understood says how long the body is,
so there is no second opinion on where a request ends.
"""

import re
from collections.abc import Callable
from enum import Enum
from io import BytesIO
from typing import Any, NamedTuple

from service.chunked import Chunked, ChunkedError, LongBodyError

HEAD_BYTES = 1 << 15
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,10})\r\n", re.IGNORECASE)


class Stage(Enum):
    """What a connection waits for."""

    IDLE = "a request"
    HEAD = "the rest of the head"
    BODY = "the rest of the body"
    WHOLE = "an answer"


class RefusedError(Exception):
    """Bytes that are answered without asking the application; the connection ends with it."""

    def __init__(self, status: int, detail: str, path: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.path = status, detail, path


class Head(NamedTuple):
    """A request line and headers, understood.

    `environ` is the WSGI environ without its body; it is shared by requests with the same head.
    `trailers` checks those of a chunked body; it raises RefusedError.
    """

    environ: dict[str, Any]
    length: int | None  # of the body; None: chunked
    keep_alive: bool
    expects_continue: bool
    trailers: Callable[[bytes], None]


class Waiting:
    """One connection's bytes.

    `parse` understands a head, given with its empty line, or raises RefusedError. A client that
    keeps its connection mostly sends the same head again, but for the digits of its one
    Content-Length; the last head is remembered. (Digits for digits change nothing else: where a
    second such header hides, the head was refused and is not remembered.)
    """

    __slots__ = (
        "_chunked", "_digits", "_known", "_last", "_limit", "_next", "_parse", "_start", "body",
        "head", "stage",
    )  # fmt: skip

    def __init__(self, parse: Callable[[bytes], Head], max_body_bytes: int) -> None:
        self._parse, self._limit = parse, max_body_bytes
        self._known = self._digits = b""
        self._last: Head | None = None
        self._start = bytearray()  # of a head that has not ended
        self._next = b""  # what came behind a whole request
        self._chunked: Chunked | None = None
        self.head: Head | None = None
        self.body = BytesIO()
        self.stage = Stage.IDLE

    @property
    def held(self) -> int:
        """Bytes kept, but for a line of chunked framing."""
        return len(self._start) + len(self._next) + self.body.tell()

    @property
    def path(self) -> str:
        """The path that the bytes so far ask for; empty where that is not known."""
        if self.head is not None:
            return str(self.head.environ["PATH_INFO"])
        return guessed_path(bytes(self._start[:1024]))

    def feed(self, data: bytes) -> Stage:
        """Take the next bytes of the connection; not while a whole request waits to be taken.

        Raises:
            RefusedError: they are no request, or one that is too large.
        """
        assert self.stage is not Stage.WHOLE
        if self.head is not None:
            return self._feed_body(data)
        searched = max(0, len(self._start) - len(_END) + 1)
        if self._start:
            self._start += data
            data = bytes(self._start) if _END in self._start[searched:] else b""
        end = data.find(_END, searched)
        if end < 0 or end > HEAD_BYTES:
            self._start = self._start or bytearray(data)
            self._check_start(searched)
            self.stage = Stage.HEAD if self._start else Stage.IDLE
            return self.stage
        self._start = bytearray()
        end += len(_END)
        self._begin_body(self._understood(data[:end]))
        return self._feed_body(data[end:])

    def take(self) -> tuple[Head, BytesIO]:
        """The whole request; what came behind it is the start of the next."""
        assert self.stage is Stage.WHOLE
        assert self.head is not None
        head, body = self.head, self.body
        self.head, self._chunked, self.body, self.stage = None, None, BytesIO(), Stage.IDLE
        body.seek(0)
        return head, body

    @property
    def more(self) -> bool:
        """Whether bytes of a next request are there already."""
        return bool(self._next)

    def feed_next(self) -> Stage:
        """Go on with what came behind the request that was taken. Raises RefusedError."""
        data, self._next = self._next, b""
        return self.feed(data)

    def clear(self) -> None:
        """Forget what has come."""
        self.head, self._chunked, self.body, self.stage = None, None, BytesIO(), Stage.IDLE
        self._start, self._next = bytearray(), b""

    def _check_start(self, searched: int) -> None:
        """A head without an end: refuse what can never become one."""
        start = self._start
        if len(start) > HEAD_BYTES:
            status, what = (431, "head") if b"\r\n" in start else (414, "request line")
            raise RefusedError(status, f"{what}: at most {HEAD_BYTES} bytes", self.path)
        new = bytes(start[max(0, searched - 1) :])
        if new.count(b"\n") != new.count(b"\r\n") + new.startswith(b"\n"):
            raise RefusedError(400, "head: a line that does not end with CRLF", self.path)

    def _understood(self, raw: bytes) -> Head:
        found = _LENGTH.search(raw)
        if found is None:
            known, digits = raw, b""
        else:
            known, digits = raw[: found.start(1)] + raw[found.end(1) :], found[1]
        if self._last is None or known != self._known:
            self._last, self._known, self._digits = self._parse(raw), known, digits
        elif digits != self._digits:
            text = digits.decode()
            environ = {**self._last.environ, "CONTENT_LENGTH": text}
            self._last = self._last._replace(environ=environ, length=int(text))
            self._digits = digits
        return self._last

    def _begin_body(self, head: Head) -> None:
        self.head, self.stage = head, Stage.BODY
        if head.length is None:
            self._chunked = Chunked(self._limit)
            self.body = self._chunked.body
        elif head.length > self._limit:
            raise self._too_large()

    def _feed_body(self, data: bytes) -> Stage:
        assert self.head is not None
        if self._chunked is not None:
            rest = self._unchunked(data)
            if rest is None:
                return self.stage
            self._next = rest
        else:
            need = (self.head.length or 0) - self.body.tell()
            if len(data) > need:
                data, self._next = data[:need], data[need:]
            self.body.write(data)
            if len(data) < need:
                return self.stage
        self.stage = Stage.WHOLE
        return self.stage

    def _unchunked(self, data: bytes) -> bytes | None:
        assert self._chunked is not None
        assert self.head is not None
        try:
            rest = self._chunked.feed(data)
        except LongBodyError:
            raise self._too_large() from None
        except ChunkedError as error:
            raise RefusedError(400, f"body: {error}", self.path) from None
        if rest is not None and self._chunked.trailers:
            self.head.trailers(self._chunked.trailers)
        return rest

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self._limit} bytes", self.path)


def guessed_path(raw: bytes) -> str:
    """The path of a request line that may be broken, for the dialect of the refusal.

    >>> guessed_path(b"POST /v2/models HTTP/9"), guessed_path(b"rubbish")
    ('/v2/models', '')
    """
    words = raw.split(b"\r\n", 1)[0].split(b" ")
    path = words[1] if len(words) > 1 else b""
    return path.decode("latin-1") if path.startswith(b"/") else ""
