"""How many calls may be under way in a worker, and how long one may wait for its message.

An idle call keeps nobody out: where all places are taken, the one that has waited longest for a
message makes room.
"""

import asyncio
from typing import Any

from service.web.errors import RequestTimeoutError, UnavailableError

LEAST_WAIT_SECONDS = 1.0  # for a message, before a call makes room for another
FULL = "the service answers as many calls of gRPC as it can; try again"
LATE = "the message did not come in time"


class Places:
    """Counts calls; for the event loop only.

    Args:
        most: calls under way.
        reading: of them, those whose message is still coming: its bytes are not counted before.
    """

    def __init__(self, most: int, reading: int) -> None:
        self._most, self._reading = most, reading
        self._waiting: dict[asyncio.Timeout, float] = {}  # since when, the oldest first
        self.taken = 0

    def take(self) -> None:
        """Take a place. Raises UnavailableError where none is free."""
        if self.taken >= self._most:
            self._make_room()
        self.taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1

    async def read(self, context: Any, seconds: float) -> Any:
        """Return the next message of a call, or `grpc.aio.EOF`.

        Raises:
            RequestTimeoutError: it did not come in time, or another call needs the place.
            UnavailableError: too many wait for theirs.
        """
        if len(self._waiting) >= self._reading:
            self._make_room()
        try:
            async with asyncio.timeout(seconds) as limit:
                self._waiting[limit] = asyncio.get_running_loop().time()
                try:
                    return await context.read()
                finally:
                    self._waiting.pop(limit, None)
        except TimeoutError:
            raise RequestTimeoutError(LATE) from None

    def _make_room(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit, since in self._waiting.items():
            if now - since < LEAST_WAIT_SECONDS:
                break
            del self._waiting[limit]
            if not limit.expired():  # else it is about to leave by itself
                limit.reschedule(now)
            return
        raise UnavailableError(FULL)
