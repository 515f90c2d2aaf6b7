"""A chunked body, taken apart as it comes (RFC 9112, section 7.1).

Strict, and stricter than gunicorn's reader: what this takes, that takes too, with the same bytes
and the same end (a property test says so). It holds the body and never the framing.
"""

import re
from io import BytesIO

from gunicorn.http.body import CHUNK_EXT_RE

from service.errors import shown

LINE_BYTES = 256
TRAILER_BYTES = 8192
SPARE_BYTES = 1 << 18  # framing beyond that must be less than the body: tiny chunks cost much time
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + CHUNK_EXT_RE.pattern + rb")")
_CRLF = b"\r\n"


class ChunkedError(ValueError):
    """The framing is wrong; where the next request begins is unknown."""


class LongBodyError(ValueError):
    """The body is longer than the limit; known before it has come."""


class Chunked:
    """Takes bytes, and gives the body once its end is there.

    >>> chunked = Chunked(limit=100)
    >>> chunked.feed(b"4\\r\\nab"), chunked.feed(b"cd\\r\\n0\\r\\n\\r\\nGET")
    (None, b'GET')
    >>> chunked.body.getvalue()
    b'abcd'
    """

    __slots__ = ("_framing", "_left", "_limit", "_rest", "_step", "_total", "body", "trailers")

    def __init__(self, limit: int) -> None:
        self.body = BytesIO()
        self.trailers = b""
        self._limit, self._total, self._left, self._framing = limit, 0, 0, 0
        self._rest = b""
        self._step = self._size_line

    def feed(self, data: bytes) -> bytes | None:
        """Take the next bytes; what follows the body once it is whole, else None.

        Raises:
            ChunkedError: the framing is wrong, or most of the bytes are framing.
            LongBodyError: more than `limit` bytes are announced.
        """
        data, at = self._rest + data, 0
        while (after := self._step(data, at)) is not None:
            if self._step == self._done:
                self._rest = b""
                return data[after:]
            at = after
        self._rest = data[at:]
        return None

    def _size_line(self, data: bytes, at: int) -> int | None:
        end = data.find(_CRLF, at, at + LINE_BYTES)
        if end < 0:
            if len(data) - at >= LINE_BYTES or b"\n" in data[at:]:
                raise ChunkedError(f"no chunk size line: {shown(data[at:])}")
            return None
        match = _SIZE_LINE.fullmatch(data, at, end)
        if match is None:
            raise ChunkedError(f"no chunk size line: {shown(data[at:end])}")
        self._left = int(match[1], 16)
        self._total += self._left
        self._framing += end - at + 4
        if self._total > self._limit:
            raise LongBodyError
        if self._framing > self._total + SPARE_BYTES:
            raise ChunkedError("the chunks are too small: more framing than body")
        self._step = self._data if self._left else self._trailers
        return end + 2

    def _data(self, data: bytes, at: int) -> int | None:
        part = data[at : at + self._left]
        self.body.write(part)
        self._left -= len(part)
        if not self._left:
            self._step = self._data_end
        return at + len(part) if part else None

    def _data_end(self, data: bytes, at: int) -> int | None:
        end = data[at : at + 2]
        if not _CRLF.startswith(end):
            raise ChunkedError(f"a chunk of another length than it says: {shown(end)} after it")
        if end != _CRLF:
            return None
        self._step = self._size_line
        return at + 2

    def _trailers(self, data: bytes, at: int) -> int | None:
        if data.startswith(_CRLF, at):
            self._step = self._done
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + TRAILER_BYTES)
        if end < 0:
            if len(data) - at >= TRAILER_BYTES:
                raise ChunkedError(f"more than {TRAILER_BYTES} bytes of trailers")
            return None
        self.trailers = data[at:end]
        self._step = self._done
        return end + 4

    def _done(self, data: bytes, at: int) -> int | None:
        raise AssertionError("the body has ended")
