"""Which requests are recorded at all, when not all are.

    all            every request
    a share        each with that probability, on its own
    flagged        those of which some row is flagged: no fair picture of the traffic
    reservoir:N    those whose salted hash lies below a share that falls as more come: at most about
                   N instances of each model, drawn evenly from all that ever came (P. B. Gibbons,
                   "Distinct Sampling", VLDB 2001, section 3: a threshold on hashes that falls)

What is not recorded can get no label. Evidence of drift is counted, and misses nothing.
"""

import random
import time
from collections.abc import Callable
from typing import Protocol

from monitoring.records.keeping.limits import Sample
from monitoring.records.keeping.prune import Reservoir
from monitoring.records.requests import Request

LOOK_EVERY_SECONDS = 5.0


class Asked(Protocol):
    """A request of which it is known whether some row is flagged."""

    def flagged(self) -> bool:
        """Whether some row is."""


class Sampler:
    """Says of each request whether it is recorded.

    Args:
        sample: which are.
        reservoir_of: the reservoir of a model, in the store; asked every few seconds, for another
            process may have lowered a share.
        clock: seconds.
    """

    def __init__(
        self,
        sample: Sample,
        reservoir_of: Callable[[str], Reservoir],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sample, self._reservoir_of, self._clock = sample, reservoir_of, clock
        self._looked = clock()
        self._reservoirs: dict[str, Reservoir] = {}
        self._random = random.Random()

    def keeps(self, asked: Asked, request: Request) -> bool:
        """Whether a request is recorded. Raises StoreError where the store cannot tell."""
        kind, value = self._sample
        if kind == "share":
            return self._random.random() < value
        if kind == "flagged":
            return asked.flagged()
        if kind == "reservoir":
            if self._clock() >= self._looked + LOOK_EVERY_SECONDS:
                self.look_again()
            if request.model not in self._reservoirs:
                self._reservoirs[request.model] = self._reservoir_of(request.model)
            return self._reservoirs[request.model].keeps(request.id)
        return True

    def look_again(self) -> None:
        """Ask the store anew: pruning may have lowered a share."""
        self._reservoirs.clear()
        self._looked = self._clock()
