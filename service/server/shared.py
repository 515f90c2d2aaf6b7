"""The limits and counters that all connections of a worker share."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.web.held import Held

HEAD_BYTES = 1 << 15  # of a request line and its headers


class WorkerTerms(NamedTuple):
    """Time limits for clients and for the end of a worker, in seconds."""

    header_seconds: float
    body_seconds: float
    drain_seconds: float
    grace_seconds: float
    draining: Path | None = None  # exists while the whole service stops


class Shared:
    """One per worker.

    Args:
        terms: of the worker.
        held: the application's counter, so that requests and answers count together.
        connections: the most that may be open.
        count_refusal: called with the status of an answer that the server gave by itself.
    """

    def __init__(
        self, terms: WorkerTerms, held: Held, connections: int, count_refusal: Callable[[int], None]
    ) -> None:
        self.terms = terms
        self.held = held
        self.connections = connections
        self.count_refusal = count_refusal
        self.keeping = True  # whether connections are kept after an answer
