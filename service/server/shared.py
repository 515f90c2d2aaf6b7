"""What all connections of a worker share: their bounds, and what they hold together."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.web.held import Held

HEAD_BYTES = 1 << 15  # of a request line and its headers


class WorkerTerms(NamedTuple):
    """How long a client may take, and how a worker ends. Times in seconds."""

    header_seconds: float
    body_seconds: float
    drain_seconds: float
    grace_seconds: float
    draining: Path | None = None  # exists while the whole service stops


class Shared:
    """One per worker.

    Args:
        terms: of the worker.
        held: the application's, so that requests and answers count together.
        connections: the most that may be open.
        count_refusal: called with the status of an answer that was given without the application.
    """

    def __init__(
        self, terms: WorkerTerms, held: Held, connections: int, count_refusal: Callable[[int], None]
    ) -> None:
        self.terms = terms
        self.held = held
        self.connections = connections
        self.count_refusal = count_refusal
        self.keeping = True  # whether connections are kept after an answer
