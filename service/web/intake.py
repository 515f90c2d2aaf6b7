"""The body of a request, read whole before anybody looks at it: bounded in bytes and in time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from service.web.errors import RequestError, RequestTimeoutError, TooLargeError, UnavailableError
from service.web.held import Held

DISCARDED = 4  # times the limit: so much of a body that is too large is read, then we hang up
SPARE = 8  # one of so many parts of what may be held is kept for requests that come whole
PAUSE_SECONDS = 0.5  # of a client that is not sending any more
CROWDED = "the service holds as much of requests as it can; try again"

Receive = Callable[[], Awaitable[Any]]


class ClientGoneError(Exception):
    """The client left before its request was whole; nobody is there to be answered."""


class Intake:
    """Reads bodies.

    Args:
        body_bytes: the largest body.
        body_seconds: in which the rest of a body must come that did not come at once.
        held: counts what is read and not answered yet.
    """

    def __init__(self, body_bytes: int, body_seconds: float, held: Held) -> None:
        self._limit, self._seconds = body_bytes, body_seconds
        self._held = held

    async def read(self, length: int | None, expects: bool, receive: Receive) -> bytes:
        """The whole body, its bytes held; `give_back` them once it is answered.

        Args:
            length: what Content-Length says, None where there is none.
            expects: whether the client waits for a word before it sends the body.
            receive: ASGI's.

        Raises:
            TooLargeError: it is larger than the limit.
            RequestTimeoutError: it did not come in time.
            UnavailableError: all requests together hold too much.
            ClientGoneError: the client left.
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
        """The request of the body has been answered."""
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
        """Read on and keep nothing: a client that is still sending does not see an answer."""
        left = DISCARDED * self._limit
        try:
            while more and left > 0:
                async with asyncio.timeout(PAUSE_SECONDS):
                    message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)
        except TimeoutError:
            return
