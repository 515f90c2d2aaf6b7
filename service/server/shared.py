"""What all connections of a worker share: their bounds, and what they hold together."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 1 << 15  # of a request line and its headers


class Terms(NamedTuple):
    """How long a client may take, and how a worker ends. Times in seconds."""

    header_seconds: float
    body_seconds: float
    drain_seconds: float
    grace_seconds: float
    draining: Path | None = None  # exists while the whole service stops


class Held:
    """Bytes of requests and answers that wait, against a bound; for the event loop's thread.

    >>> held = Held(100)
    >>> held.take(80), held.take(30), held.take(20)
    (True, False, True)
    >>> held.give(80)
    >>> held.bytes
    20
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    def take(self, size: int, spare: int = 0) -> bool:
        """Hold so many more; False, and nothing is held, where fewer than `spare` would be left."""
        if size and self.bytes + size > self.limit - spare:
            return False
        self.bytes += size
        return True

    def give(self, size: int) -> None:
        """Hold so many less."""
        self.bytes -= size


class Shared:
    """One per worker.

    Args:
        terms: of the worker.
        held: the application's, so that requests and answers count together.
        connections: the most that may be open.
        refused: called with the status of an answer that was given without the application.
    """

    def __init__(
        self, terms: Terms, held: Held, connections: int, refused: Callable[[int], None]
    ) -> None:
        self.terms = terms
        self.held = held
        self.connections = connections
        self.refused = refused
        self.keeping = True  # whether connections are kept after an answer
