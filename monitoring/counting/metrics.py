"""Metrics of the request path: counters and histograms, which add up over workers and time.

Label sets are bounded and made when a model is loaded, so every series exists at 0. The labelled
children are looked up once; predictions are counted in bulk (`monitoring.counting.tally`).
"""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Gauge

from models.statistics.arrays import IntArray
from models.versions.runner import Answer
from models.versions.schema import Manifest
from monitoring.counting.cells import CellLayout
from monitoring.counting.class_names import name_classes
from monitoring.counting.likelihood_cells import CHANNEL, count_cells, likelihood_cells
from monitoring.counting.shared_counters import BulkCounters, BulkHistogram, Settled, count_places
from monitoring.counting.tally import Tally

TENTHS = tuple(round(0.1 * k, 1) for k in range(1, 11))
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STAGES = ("decode", "run", "count", "encode")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
DROP_REASONS = ("queue", "store")


class Timer(Protocol):
    """Takes the time of a stage of a request, in seconds."""

    def observe(self, amount: float) -> None:
        """Note one stage."""


class Metrics:
    """All metrics of the service, in a registry of their own."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.registry = Settled(self.tally)
        self.http_requests = self._counter(
            "http_requests", "Requests answered.", "route", "method", "code"
        )
        self.http_duration = self._histogram(
            "http_request_duration_seconds", "Time to answer a request.", SECONDS, "route"
        )
        self.threads = Gauge(
            "holdfast_threads",
            "Threads that answer requests, of all workers.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds",
            "Time of a stage of a prediction.",
            STAGE_SECONDS,
            "model",
            "version",
            "stage",
        )
        self.failures = self._histogram(
            "inference_failure_duration_seconds",
            "Time of a prediction request that was refused or failed.",
            SECONDS,
            "model",
            "version",
        )
        self.last_inference = Gauge(
            "holdfast_last_inference_timestamp_seconds",
            "When the version last answered a prediction.",
            ("model", "version"),
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.batch_rows = self._histogram("batch_rows", "Rows of a prediction request.", ROWS)
        self.predictions = self._counter(
            "predictions", "Rows predicted.", "model", "version", "class"
        )
        self.drift_p_value = self._histogram(
            "drift_p_value", "Conformal p-value of each row.", TENTHS, "model"
        )
        self.perturbation_likelihood = self._histogram(
            "perturbation_likelihood", "Perturbation likelihood of each row.", TENTHS, "model"
        )
        self.flagged = self._counter("flagged", "Rows flagged.", "model", "kind")
        self.certified = self._counter(
            "certified", "Rows answered, by whether the answer is proven.", "model", "certified"
        )
        self.cell_observations = self._counter(
            "cell_observations",
            "Rows per cell of a channel.",
            "model",
            "version",
            "channel",
            "cell",
        )
        self.repeats = self._counter(
            "repeats", "Rows that a client sent again, not counted in cells.", "model", "version"
        )
        self.records_dropped = self._counter(
            "records_dropped", "Records that could not be kept.", "reason"
        )
        self.feedback = self._counter(
            "feedback", "True labels received.", "model", "version", "correct"
        )
        self.contradictions = self._counter(
            "feedback_contradictions", "Labels that contradict another client's.", "model"
        )
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
        self.run_failures = self._counter(
            "model_run_failures", "Runs of a loaded model that failed.", "model"
        )
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


class Flags(NamedTuple):
    """Which rows are beyond a threshold, `(N,)` each."""

    drift: npt.NDArray[np.bool_]
    perturbation: npt.NDArray[np.bool_]
    query: npt.NDArray[np.bool_]
    suspicious: npt.NDArray[np.bool_]  # not clean
    attack: npt.NDArray[np.bool_]  # of the suspicious: rather attacked than corrupted

    @classmethod
    def of(
        cls, answer: Answer, manifest: Manifest, query: npt.NDArray[np.bool_] | None = None
    ) -> "Flags":
        """p-values at most alpha, scores above their thresholds, and queries that probe.

        At equal odds of attack and corruption the larger of both likelihoods tells them apart.
        """
        calibration = manifest.calibration
        perturbed = answer.perturbation_likelihood > calibration.perturbation_threshold
        if calibration.suspicion_threshold is None:  # of schema 2
            corrupted = answer.corruption_likelihood > calibration.corruption_threshold
            suspicious = perturbed | corrupted
        else:
            suspicious = answer.suspicion > calibration.suspicion_threshold
        return cls(
            answer.drift_p_value <= calibration.alpha,
            perturbed,
            np.zeros(len(answer.cells), np.bool_) if query is None else query,
            suspicious,
            suspicious & (answer.perturbation_likelihood > answer.corruption_likelihood),
        )


_Counted = tuple[Answer, IntArray, Flags, npt.NDArray[np.bool_] | None]


class ModelMetrics:
    """The series of one loaded version, looked up once."""

    def __init__(self, metrics: Metrics, manifest: Manifest) -> None:
        model, version = manifest.model, str(manifest.version)
        self._tally = metrics.tally
        self.stages = {s: metrics.stage_duration.labels(model, version, s) for s in STAGES}
        self.failures: BulkHistogram = metrics.failures.labels(model, version)
        self._last = metrics.last_inference.labels(model, version)
        self._rows = metrics.batch_rows
        names, self._name_of = name_classes(manifest)
        self._predictions = [metrics.predictions.labels(model, version, name) for name in names]
        self._p_value: BulkHistogram = metrics.drift_p_value.labels(model)
        self._likelihood: BulkHistogram = metrics.perturbation_likelihood.labels(model)
        self._flagged_drift = metrics.flagged.labels(model, "drift")
        self._flagged_perturbation = metrics.flagged.labels(model, "perturbation")
        self._flagged_suspicious = metrics.flagged.labels(model, "suspicious")
        self._flagged_query = metrics.flagged.labels(model, "query")
        words = () if manifest.certificate is None else ("false", "true")
        self._certified = [metrics.certified.labels(model, word) for word in words]
        self._layout = CellLayout(manifest.channels)
        self._cells = BulkCounters(
            [
                metrics.cell_observations.labels(model, version, channel.name, f"{cell:02d}")
                for channel in manifest.channels
                for cell in range(len(channel.labels))
            ]
        )
        self._edges = np.asarray(manifest.calibration.suspicion_edges, dtype=np.float32)
        self._likelihood_cells = [
            metrics.cell_observations.labels(model, version, CHANNEL, f"{cell:02d}")
            for cell in range(count_cells(manifest.calibration))
        ]
        self._repeats = metrics.repeats.labels(model, version)
        self._feedback, self._model = metrics.feedback, model
        for right in ("true", "false"):
            metrics.feedback.labels(model, version, right)
        self._contradictions = metrics.contradictions.labels(model)
        self._loaded = metrics.model_loaded.labels(model, version)
        metrics.reload_failures.labels(model)

    def note_load(self) -> None:
        """Note the time at which this version began to serve."""
        self._loaded.set(time.time())

    def feedback(self, version: int, correct: bool, contradicts: bool) -> None:
        """Count a true label of what `version` answered, and whether another client's differs."""
        self._feedback.labels(self._model, str(version), str(correct).lower()).inc()
        if contradicts:
            self._contradictions.inc()

    def count(
        self,
        answer: Answer,
        predicted: IntArray,
        flags: Flags,
        fresh: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Have the N rows of one request counted, in bulk with others.

        Args:
            answer: of the graph.
            predicted: `(N,)` classes.
            flags: of the rows.
            fresh: `(N,)` which rows count in the cells; None: all.
        """
        self._tally.put(self._count_all, (answer, predicted, flags, fresh))

    def observe_stages(self, seconds: Sequence[float]) -> None:
        """Have the seconds of each of STAGES of an answered request counted, in bulk."""
        self._tally.put(self._observe_all_stages, seconds)

    def _observe_all_stages(self, requests: list[Sequence[float]]) -> None:
        for stage, column in zip(STAGES, zip(*requests, strict=True), strict=True):
            self.stages[stage].observe_all(column)

    def _count_all(self, requests: list[_Counted]) -> None:
        answers, predicted, flags, fresh = zip(*requests, strict=True)
        self._last.set(time.time())
        self._rows.observe_all([len(each) for each in predicted])
        self._p_value.observe_all(np.concatenate([a.drift_p_value for a in answers]))
        self._likelihood.observe_all(np.concatenate([a.perturbation_likelihood for a in answers]))
        for label, number in count_places(self._name_of[np.concatenate(predicted)]):
            self._predictions[label].inc(number)
        counted = [
            a.cells if new is None else a.cells[new] for a, new in zip(answers, fresh, strict=True)
        ]
        self._repeats.inc(sum(map(len, predicted)) - sum(map(len, counted)))
        self._cells.add(self._layout.count(np.concatenate(counted)))
        if self._likelihood_cells:
            self._count_likelihoods(answers, fresh)
        if self._certified:
            proven = sum(int(np.count_nonzero(a.certified)) for a in answers)
            self._certified[1].inc(proven)
            self._certified[0].inc(sum(map(len, predicted)) - proven)
        self._flagged_drift.inc(sum(int(np.count_nonzero(f.drift)) for f in flags))
        self._flagged_perturbation.inc(sum(int(np.count_nonzero(f.perturbation)) for f in flags))
        self._flagged_suspicious.inc(sum(int(np.count_nonzero(f.suspicious)) for f in flags))
        self._flagged_query.inc(sum(int(np.count_nonzero(f.query)) for f in flags))

    def _count_likelihoods(
        self, answers: Sequence[Answer], fresh: Sequence[npt.NDArray[np.bool_] | None]
    ) -> None:
        """Count suspicion and likelihood of the rows that are no repeats."""
        suspicion, likelihood = (
            np.concatenate(
                [v if new is None else v[new] for v, new in zip(each, fresh, strict=True)]
            )
            for each in (
                [a.suspicion for a in answers],
                [a.perturbation_likelihood for a in answers],
            )
        )
        for cell, number in count_places(likelihood_cells(suspicion, likelihood, self._edges)):
            self._likelihood_cells[cell].inc(number)
