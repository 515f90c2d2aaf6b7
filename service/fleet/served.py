"""A loaded version with everything that a request needs."""

from dataclasses import dataclass

from models.versions.schema import Manifest
from monitoring.counting.metrics import ModelMetrics
from monitoring.counting.queries import Detector
from service.fleet.live_runner import LiveRunner


@dataclass(frozen=True)
class Served:
    """A loaded version with everything that a request needs; replaced as a whole."""

    runner: LiveRunner
    metrics: ModelMetrics
    queries: Detector | None = None  # None: nobody watches the clients of this version
    max_rows: int = 1024  # in one request

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self.runner.manifest
