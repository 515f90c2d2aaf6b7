"""Metrics of the request path: only counters and histograms, which add up over workers and time.

Label sets are bounded and touched when a model is loaded, so every series exists at 0. Children
are looked up once and kept: on the request path a count is one addition.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from models.runner import Answer
from models.schema import FloatArray, IntArray, Manifest

TENTHS = tuple(round(0.1 * k, 1) for k in range(1, 11))
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STAGES = ("decode", "run", "count", "encode")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
DROP_REASONS = ("queue", "store")


def share_counters(directory: Path, slot: int) -> None:
    """Keep the values of metrics made from now on in files of `directory` under this slot.

    Called by the composition root of a worker, once, before its `Metrics` are made.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def exposition(registry: CollectorRegistry, directory: Path | None) -> Callable[[], bytes]:
    """What `/metrics` answers: the sums over all workers of `directory`, or this registry alone."""
    if directory is None:
        return lambda: generate_latest(registry)

    def summed() -> bytes:
        fresh = CollectorRegistry()
        MultiProcessCollector(fresh, path=str(directory))  # type: ignore[no-untyped-call]
        return generate_latest(fresh)

    return summed


class BulkHistogram(Histogram):
    """A histogram that takes the values of a whole batch at once."""

    def observe_all(self, observed: FloatArray) -> None:
        """Count `(N,)` values."""
        if len(observed) == 1:
            self.observe(float(observed[0]))
            return
        self._sum.inc(float(observed.sum()))
        index = np.searchsorted(self._upper_bounds, observed)
        for bucket, number in _counted(index):
            self._buckets[bucket].inc(number)


class Metrics:
    """All metrics of the service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http_requests = self._counter(
            "http_requests", "Requests answered.", "route", "method", "code"
        )
        self.http_duration = self._histogram(
            "http_request_duration_seconds", "Time to answer a request.", SECONDS, "route"
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time of a stage of a prediction.", STAGE_SECONDS, "stage"
        )
        self.batch_rows = self._histogram("batch_rows", "Rows of a prediction request.", ROWS)
        self.predictions = self._counter("predictions", "Rows predicted.", "model", "class")
        self.drift_p_value = self._histogram(
            "drift_p_value", "Conformal p-value of each row.", TENTHS, "model"
        )
        self.perturbation_likelihood = self._histogram(
            "perturbation_likelihood", "Perturbation likelihood of each row.", TENTHS, "model"
        )
        self.flagged = self._counter("flagged", "Rows flagged.", "model", "kind")
        self.cell_observations = self._counter(
            "cell_observations",
            "Rows per cell of a channel.",
            "model",
            "version",
            "channel",
            "cell",
        )
        self.records_dropped = self._counter(
            "records_dropped", "Records that could not be kept.", "reason"
        )
        self.feedback = self._counter("feedback", "True labels received.", "model", "correct")
        self.model_loaded = Gauge(
            "holdfast_model_loaded_timestamp_seconds",
            "When the version was loaded, by the worker that did so last.",
            ("model", "version"),
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.reload_failures = self._counter(
            "model_reload_failures", "Attempts to load a champion that failed.", "model"
        )
        self.stages = {stage: self.stage_duration.labels(stage) for stage in STAGES}
        self.dropped = {reason: self.records_dropped.labels(reason) for reason in DROP_REASONS}

    def touch_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Let the series of each (route, method) exist at 0."""
        for route, method in routes:
            self.http_requests.labels(route, method, "200")
            self.http_duration.labels(route)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"holdfast_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: Iterable[float], *labels: str
    ) -> BulkHistogram:
        return BulkHistogram(
            f"holdfast_{name}", text, labels, buckets=tuple(buckets), registry=self.registry
        )


@dataclass(frozen=True)
class Flags:
    """Which rows are beyond a threshold, `(N,)` each."""

    drift: npt.NDArray[np.bool_]
    perturbation: npt.NDArray[np.bool_]
    query: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, answer: Answer, manifest: Manifest, query: npt.NDArray[np.bool_] | None = None
    ) -> "Flags":
        """p-values at most alpha, likelihoods above their threshold, and queries that probe."""
        calibration = manifest.calibration
        return cls(
            answer.drift_p_value <= calibration.alpha,
            answer.perturbation_likelihood > calibration.perturbation_threshold,
            np.zeros(len(answer.cells), np.bool_) if query is None else query,
        )


class ModelMetrics:
    """The series of one loaded version, looked up once."""

    def __init__(self, metrics: Metrics, manifest: Manifest) -> None:
        model, version = manifest.model, str(manifest.version)
        self._rows = metrics.batch_rows
        self._predictions = [metrics.predictions.labels(model, name) for name in manifest.classes]
        self._p_value: BulkHistogram = metrics.drift_p_value.labels(model)
        self._likelihood: BulkHistogram = metrics.perturbation_likelihood.labels(model)
        self._flagged_drift = metrics.flagged.labels(model, "drift")
        self._flagged_perturbation = metrics.flagged.labels(model, "perturbation")
        self._flagged_query = metrics.flagged.labels(model, "query")
        self._cells = [
            [
                metrics.cell_observations.labels(model, version, channel.name, f"{cell:02d}")
                for cell in range(len(channel.labels))
            ]
            for channel in manifest.channels
        ]
        self._correct = {
            right: metrics.feedback.labels(model, str(right).lower()) for right in (True, False)
        }
        self._loaded = metrics.model_loaded.labels(model, version)
        metrics.reload_failures.labels(model)

    def loaded(self) -> None:
        """Note the time at which this version began to serve."""
        self._loaded.set(time.time())

    def feedback(self, correct: bool) -> None:
        """Count a true label that came in."""
        self._correct[correct].inc()

    def count(self, answer: Answer, predicted: IntArray, flags: Flags) -> None:
        """Count the N rows of one request."""
        self._rows.observe(len(predicted))
        self._p_value.observe_all(answer.drift_p_value)
        self._likelihood.observe_all(answer.perturbation_likelihood)
        if len(predicted) == 1:
            self._predictions[predicted[0]].inc()
            for series, cell in zip(self._cells, answer.cells[0].tolist(), strict=True):
                series[cell].inc()
        else:
            for label, number in _counted(predicted):
                self._predictions[label].inc(number)
            for series, column in zip(self._cells, answer.cells.T, strict=True):
                for cell, number in _counted(column):
                    series[cell].inc(number)
        if drifted := int(np.count_nonzero(flags.drift)):
            self._flagged_drift.inc(drifted)
        if perturbed := int(np.count_nonzero(flags.perturbation)):
            self._flagged_perturbation.inc(perturbed)
        if probing := int(np.count_nonzero(flags.query)):
            self._flagged_query.inc(probing)


def _counted(index: IntArray) -> list[tuple[int, int]]:
    """Which indices of `(N,)` occur, and how often."""
    counts = np.bincount(index)
    present = counts.nonzero()[0]
    return list(zip(present.tolist(), counts[present].tolist(), strict=True))
