"""Metrics as a collector receives them: protobuf over HTTP, from the real SDK's exporter."""

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.counting.metrics import Metrics
from monitoring.loop.metrics import WatchMetrics
from service.telemetry.metrics import LOCK, MetricSender, Wanted, read_wanted, start
from service.web.errors import SettingsError
from tests import bundles
from tests.e2e.stack import Stack
from tests.ops import ROOT
from tests.waiting import wait_until

NEVER = Wanted(3600.0)  # tests send by themselves
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


class Collector:
    """Keeps what it receives: the newest metric of each name, by the service's name."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Metric]] = {}
        self.resources: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.add(self.path)
                collector.headers.append(dict(self.headers))
                collector.take(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, request: ExportMetricsServiceRequest) -> None:
        for group in request.resource_metrics:
            resource = values(group.resource.attributes)
            self.resources.append(resource)
            kept = self.metrics.setdefault(resource["service.name"], {})
            kept |= {metric.name: metric for s in group.scope_metrics for metric in s.metrics}

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    made.stop()


def sender(registry: CollectorRegistry, shared: Path | None = None) -> MetricSender:
    return MetricSender("holdfast", "1.2.3", "host:8080", lambda: registry, shared, NEVER)


def test_each_kind_arrives_as_its_own_with_its_labels_and_the_names_of_the_proposal(
    collector: Collector,
) -> None:
    registry = CollectorRegistry()
    counter = Counter("asked", "Asked.", ["model", "version"], registry=registry)
    counter.labels("digits", "2").inc(5)
    gauge = Gauge("strength", "How strong.", ["model", "channel"], registry=registry)
    gauge.labels("digits", "energy").set(7.5)
    gauge.labels("digits", "mean").set(math.nan)
    histogram = Histogram("took", "Took.", ["stage"], buckets=(1, 2), registry=registry)
    for seconds in (0.5, 1.5, 1.5, 9.0):
        histogram.labels("run").observe(seconds)
    made = sender(registry)
    assert made.send()
    made.close()
    assert collector.paths == {"/v1/metrics"}
    assert collector.resources[0] == collector.resources[0] | {
        "service.name": "holdfast", "service.version": "1.2.3", "service.instance.id": "host:8080",
    }  # fmt: skip
    got = collector.metrics["holdfast"]
    asked = got["asked_total"].sum
    assert asked.is_monotonic
    assert asked.aggregation_temporality == CUMULATIVE
    (point,) = asked.data_points
    assert point.as_double == 5
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano
    assert values(point.attributes) == {
        "model": "digits", "version": "2", "ml.model.name": "digits", "ml.model.version": "2",
    }  # fmt: skip
    (point,) = got["strength"].gauge.data_points  # what is NaN is not known, and has no point
    assert point.as_double == 7.5
    assert values(point.attributes)["channel"] == "energy"
    (spread,) = got["took"].histogram.data_points
    assert list(spread.explicit_bounds) == [1, 2]
    assert list(spread.bucket_counts) == [1, 2, 1]
    assert (spread.count, spread.sum) == (4, 12.5)
    assert not spread.HasField("min")


@pytest.mark.parametrize("registry", [Metrics().registry, WatchMetrics().registry])
def test_every_exported_metric_of_ours_can_be_sent(
    registry: CollectorRegistry, collector: Collector
) -> None:
    made = sender(registry)
    assert made.send()
    made.close()
    shown = {f.name for f in registry.collect() if any(s.value == s.value for s in f.samples)}
    assert {n.removesuffix("_total") for n in collector.metrics.get("holdfast", {})} == shown


def test_one_of_several_workers_sends_and_the_next_goes_on_when_it_ends(
    collector: Collector, tmp_path: Path
) -> None:
    registry = CollectorRegistry()
    counter = Counter("asked", "Asked.", registry=registry)
    counter.inc()
    one, other = sender(registry, tmp_path), sender(registry, tmp_path)
    assert (one.send(), other.send()) == (True, False)
    (first,) = collector.metrics["holdfast"]["asked_total"].sum.data_points
    one.close()
    counter.inc()
    assert other.send()
    (second,) = collector.metrics["holdfast"]["asked_total"].sum.data_points
    other.close()
    assert second.as_double == 2
    # Nothing was counted anew: a receiver must not take the next worker for a reset.
    assert second.start_time_unix_nano == first.start_time_unix_nano
    assert first.start_time_unix_nano == (tmp_path / LOCK).stat().st_mtime_ns


def test_a_collector_that_is_gone_is_said_and_ending_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    registry = CollectorRegistry()
    Gauge("strength", "How strong.", registry=registry).set(1)
    made = sender(registry)
    assert not made.send()
    made.close()


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"OTEL_METRICS_EXPORTER": "console"}, "OTEL_METRICS_EXPORTER"),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "1s"}, "milliseconds"),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "0"}, "above 0"),
    ],
)
def test_what_is_asked_for_and_not_done_is_an_error(environ: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        read_wanted(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_METRICS_EXPORTER": "prometheus"},
        {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_sent_unasked(environ: dict[str, str]) -> None:
    assert read_wanted(environ) is None


def test_the_metrics_protocol_counts_before_the_common_one() -> None:
    environ = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    assert read_wanted(environ) == Wanted(0.5)


def test_unless_asked_nothing_is_imported() -> None:
    code = (
        "import sys, service.telemetry.metrics as t; assert t.start('a', '1', 'b', list) is None;"
        "print(*sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=120, cwd=ROOT
    )
    assert b"opentelemetry" not in said.stdout


def test_start_reads_the_environment(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1")
    registry = CollectorRegistry()
    Gauge("strength", "How strong.", registry=registry).set(1)
    made = start("holdfast", "1", "b", lambda: registry)
    assert made is not None
    wait_until(lambda: len(collector.resources) >= 3)
    made.close()
    assert collector.resources[0]["service.name"] == "other"
    assert collector.headers[0]["x-key"] == "1"


def test_service_and_watcher_send_what_their_metrics_pages_show(
    collector: Collector, tmp_path: Path
) -> None:
    """The real processes, with two workers that share their counters."""
    state = tmp_path / "state"
    bundles.publish(state / "registry")
    stack = Stack(state)
    stack.settings |= {
        "HOLDFAST_WORKERS": "2", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "300", "HOLDFAST_SERVICE_URL": stack.url,
    }  # fmt: skip
    body = {"instances": bundles.digits().test.x[:3].tolist()}
    with stack.start("serve") as service, stack.start("watch") as watcher:
        try:
            wait_until(lambda: _is_ready(f"{stack.url}/readyz"), every=0.2)
            for _ in range(20):
                assert requests.post(f"{stack.url}/predict", json=body, timeout=60).ok
            wait_until(lambda: _sum(collector, "holdfast", "holdfast_predictions_total") == 60)
            name = "holdfast_drift_evidence_log10"
            wait_until(lambda: name in collector.metrics.get("holdfast-watcher", {}))
            rows = _sum(collector, "holdfast", "holdfast_drift_p_value")
        finally:
            for process in (service, watcher):
                process.terminate()
                process.communicate(timeout=60)
    assert rows == 60, "the scores of every row, in one histogram"
    points = collector.metrics["holdfast-watcher"][name].gauge.data_points
    assert {values(p.attributes)["ml.model.name"] for p in points} == {"digits"}
    assert collector.paths == {"/v1/metrics"}, "no traces, as they were not asked for"


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:  # it may accept before it can answer
        return False


def _sum(collector: Collector, service: str, name: str) -> float:
    metric = collector.metrics.get(service, {}).get(name)
    if metric is None:
        return 0.0
    if metric.HasField("histogram"):
        return sum(point.count for point in metric.histogram.data_points)
    return sum(point.as_double for point in metric.sum.data_points)
