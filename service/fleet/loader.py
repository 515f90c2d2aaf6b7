"""Opens a version for serving: verified, warmed, with its counters, detector and limits."""

from collections.abc import Mapping

from models.versions.registry import Registry
from monitoring.counting.metrics import Metrics, ModelMetrics
from monitoring.counting.queries import QueryWatch
from monitoring.counting.repeats import RepeatWatch
from service.configuration.model_specs import ModelLimits, Slots
from service.fleet.live_runner import LiveRunner
from service.fleet.served import Served


class Loader:
    """Opens versions with the settings of this worker; see `served_models.Champions`."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        watch: QueryWatch | None,
        repeats: RepeatWatch,
        *,
        max_rows: int,
        limits: Mapping[str, ModelLimits],
        threads: int,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._watch = watch
        self._repeats = repeats
        self._max_rows = {n: rows for n, (rows, _) in limits.items() if rows is not None}
        self._otherwise = max_rows
        self._slots = {n: Slots(n, count) for n, (_, count) in limits.items() if count is not None}
        self._threads = threads
        self._failures = metrics.run_failures

    def open(self, model: str, version: int) -> Served:
        """Open a version, ready to answer.

        Raises:
            RegistryError: there is no such version.
            BundleError: it is damaged, not signed as required, or does not run.
        """
        bundle = self._registry.open(model, str(version))
        failed, slots = self._failures.labels(model).inc, self._slots.get(model)
        runner = LiveRunner(bundle, threads=self._threads, failed=failed, slots=slots)
        return Served(
            runner,
            ModelMetrics(self._metrics, runner.manifest),
            None if self._watch is None else self._watch.detector(bundle),
            self._repeats.check(bundle),
            self._max_rows.get(model, self._otherwise),
        )
