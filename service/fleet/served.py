"""A loaded version with everything that a request needs."""

from dataclasses import dataclass

from models.versions.schema import InputArray, Manifest
from monitoring.counting.metrics import ModelMetrics
from monitoring.counting.prints import Uint64s, row_prints
from monitoring.counting.queries import Detector
from monitoring.counting.repeats import RepeatCheck
from service.fleet.live_runner import LiveRunner


@dataclass(frozen=True)
class Served:
    """A loaded version with everything that a request needs; replaced as a whole."""

    runner: LiveRunner
    metrics: ModelMetrics
    queries: Detector | None = None  # None: nobody watches the clients of this version
    repeats: RepeatCheck | None = None  # None: every row counts
    max_rows: int = 1024  # in one request
    instead: "Served | None" = None  # answers what this one cannot run

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self.runner.manifest

    def prints(self, x: InputArray) -> Uint64s | None:
        """Prints `(N,)` of raw rows for `queries` and `repeats`; None: neither is there."""
        for each in (self.queries, self.repeats):
            if each is not None:
                return row_prints(x, each.memory.secret)
        return None
