"""Reads the whole body of a request before it is handled, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from service.web.errors import RequestError, RequestTimeoutError, TooLargeError, UnavailableError
from service.web.held import Held

DISCARDED = 4  # times the limit: how much of a too large body is read before the connection ends
SPARE = 8  # 1/8 of the memory is reserved for requests that come in one piece
PAUSE_SECONDS = 0.5  # without a byte, after which a client counts as done sending
CROWDED = "the service holds as much of requests as it can; try again"

Receive = Callable[[], Awaitable[Any]]


class ClientGoneError(Exception):
    """The client disconnected before its request was complete; no answer can be sent."""


class Intake:
    """Reads bodies.

    Args:
        body_bytes: the largest body.
        body_seconds: time for a body that did not come at once.
        held: counts the bytes of requests that are not answered yet.
    """

    def __init__(self, body_bytes: int, body_seconds: float, held: Held) -> None:
        self._limit, self._seconds = body_bytes, body_seconds
        self._held = held

    async def read(self, length: int | None, expects: bool, receive: Receive) -> bytes:
        """Return the whole body and count its bytes; call `give_back` once it is answered.

        Args:
            length: the Content-Length, or None.
            expects: whether the client sent `Expect` and waits before it sends the body.
            receive: ASGI's.

        Raises:
            TooLargeError: it is larger than the limit.
            RequestTimeoutError: it did not come in time.
            UnavailableError: all waiting requests together are too large.
            ClientGoneError: the client disconnected.
        """
        if length is not None and length > self._limit:
            await self._discard(receive, more=not expects)
            raise TooLargeError(self._limit)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) <= self._limit and self._held.take(len(body)):
                return body
        return await self._gather(message, receive)

    def give_back(self, body: bytes) -> None:
        """Stop counting a body: its request has been answered."""
        self._held.give(len(body))

    async def _gather(self, message: Any, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        spare = self._held.limit // SPARE  # slow senders do not take what small requests need
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    if message["type"] != "http.request":
                        raise ClientGoneError
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if size + len(part) > self._limit:
                        raise TooLargeError(self._limit)
                    if not self._held.take(len(part), spare):
                        raise UnavailableError(CROWDED)
                    size += len(part)
                    parts.append(part)
                    if not more:
                        return b"".join(parts)
                    message = await receive()
        except TimeoutError:
            self._held.give(size)
            raise RequestTimeoutError("the body of the request did not come in time") from None
        except RequestError:
            self._held.give(size)
            await self._discard(receive, more=more)
            raise
        except BaseException:
            self._held.give(size)
            raise

    async def _discard(self, receive: Receive, *, more: bool) -> None:
        """Read and drop the rest: most clients see the answer only once they have sent all."""
        left = DISCARDED * self._limit
        try:
            while more and left > 0:
                async with asyncio.timeout(PAUSE_SECONDS):
                    message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)
        except TimeoutError:
            return
