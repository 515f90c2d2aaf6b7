"""The shipped rules, routes and dashboard on a real Prometheus and Alertmanager.

A stand-in exports every documented metric; `tests/e2e/` asks the real processes.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from monitoring.grafana import dashboard
from tests import ops
from tests.waiting import wait_until

TOKEN = "a-token-for-tests"
HISTOGRAM_LABELS = {"route": "/predict", "stage": "run", "model": "digits", "version": "1"}


class StandIn:
    """Both processes' metrics on one registry, and the webhook's receiver.

    Every scrape counts 40 more requests, in the reference's proportions until `shifted` is set.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.webhooks: list[tuple[str | None, dict[str, Any]]] = []
        self.shifted = False
        self._rng = np.random.default_rng(0)
        self._metrics = {kind: self._register(kind) for kind in ("counter", "histogram", "gauge")}
        self._metrics["gauge"]["holdfast_state_free_bytes"].set(1e11)
        self._alarm = self._metrics["gauge"]["holdfast_drift_alarm"]

    def _register(self, wanted: str) -> dict[str, Any]:
        text = (ops.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
        classes = {"counter": Counter, "histogram": Histogram, "gauge": Gauge}
        metrics = {}
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not cells[0].startswith("`holdfast_") or cells[1] != wanted:
                continue
            name = cells[0].strip("`")
            labels = [label.strip() for label in cells[2].split(",") if label.strip()]
            metrics[name] = classes[wanted](name, name, labels, registry=self.registry)
        return metrics

    def scrape(self) -> bytes:
        """Count some requests, then return the metrics as text."""
        counters, histograms, gauges = self._metrics.values()
        for name, histogram in histograms.items():
            labels = {key: HISTOGRAM_LABELS[key] for key in histogram._labelnames}
            child = histogram.labels(**labels) if labels else histogram
            child.observe(0.01 if name.endswith("seconds") else 0.7)
        counters["holdfast_http_requests_total"].labels("/predict", "POST", "200").inc(40)
        counters["holdfast_predictions_total"].labels("digits", "1", "7").inc(40)
        for kind in ("drift", "perturbation", "query"):
            counters["holdfast_flagged_total"].labels("digits", kind).inc(0.4)
        shares = [0.97, *[0.01] * 3] if self.shifted else [0.25] * 4
        for cell, count in enumerate(self._rng.multinomial(40, shares)):
            key = ("digits", "1", "energy", f"{cell:02}")
            counters["holdfast_cell_observations_total"].labels(*key).inc(int(count))
            gauges["holdfast_reference_ratio"].labels(*key).set(0.25)
        for name in ("reload", "run"):
            counters[f"holdfast_model_{name}_failures_total"].labels("digits").inc(0)
        counters["holdfast_repeats_total"].labels("digits", "1").inc(0)
        gauges["holdfast_threads"].set(8)
        self._watcher_gauges(gauges)
        self._standing(gauges)
        return generate_latest(self.registry)

    def _watcher_gauges(self, gauges: dict[str, Any]) -> None:
        gauges["holdfast_watch_last_tick_timestamp_seconds"].set_to_current_time()
        for name in ("model_loaded", "last_inference"):
            gauges[f"holdfast_{name}_timestamp_seconds"].labels("digits", "1").set(time.time())
        gauges["holdfast_drift_evidence_log10"].labels("digits", "energy").set(7)
        gauges["holdfast_drift_dispersion_ratio"].labels("digits", "energy").set(1)
        gauges["holdfast_drift_alarm"].labels("digits").set(float(self.shifted))
        gauges["holdfast_drift_alarm_threshold_log10"].labels("digits").set(6)
        gauges["holdfast_observed_accuracy_ratio"].labels("digits").set(float("nan"))
        gauges["holdfast_observed_accuracy_labels"].labels("digits").set(0)
        gauges["holdfast_expected_accuracy_ratio"].labels("digits").set(0.98)
        for name in ("evidence_log10", "alarm_threshold_log10", "alarm"):
            gauges[f"holdfast_harm_{name}"].labels("digits").set(0)
        gauges["holdfast_canary_share"].labels("digits").set(0)
        gauges["holdfast_accuracy_floor_ratio"].labels("digits").set(0.97)
        for name in ("label_coverage_ratio", "labels_biased", "estimated_accuracy_trustworthy"):
            gauges[f"holdfast_{name}"].labels("digits").set(0)
        for name in ("observed_accuracy_bound_ratio", "estimated_accuracy_ratio",
                     "corrected_accuracy_ratio"):  # fmt: skip
            gauges[f"holdfast_{name}"].labels("digits", "low").set(0.9)
        gauges["holdfast_label_delay_seconds"].labels("digits", "0.5").set(float("nan"))
        name = "holdfast_evaluation_accuracy_ratio"
        gauges[name].labels("digits", "1", "clean", "none", "0").set(0.98)
        name = "holdfast_evaluation_last_success_timestamp_seconds"
        gauges[name].labels("digits").set(time.time())

    def _standing(self, gauges: dict[str, Any]) -> None:
        """A loop that waits for nothing."""
        for name in ("job_deadline_timestamp_seconds", "evaluation_due_timestamp_seconds",
                     "last_feedback_timestamp_seconds", "feedback_gap_usual_seconds"):  # fmt: skip
            gauges[f"holdfast_{name}"].labels("digits").set(0)
        gauges["holdfast_champion_version"].labels("digits").set(1)
        gauges["holdfast_lifecycle_budget_left_runs"].labels("digits").set(3)
        for name, label in (("job_stage_since", "approval"), ("lifecycle_held_since", "never")):
            gauges[f"holdfast_{name}_timestamp_seconds"].labels("digits", label).set(0)
        made = gauges["holdfast_version_made_timestamp_seconds"]
        made.labels("digits", "1").set_to_current_time()


@contextmanager
def serving(stand_in: StandIn) -> Iterator[int]:
    """Answer GET with the stand-in's metrics and keep what is POSTed; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, stand_in.scrape())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.webhooks.append((self.headers["Authorization"], body))
            self._answer(202, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output free of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_shipped_files_work_on_a_real_prometheus_and_alertmanager(tmp_path: Path) -> None:
    if missing := ops.missing_programs("prometheus", "prometheus-alertmanager"):
        pytest.skip(f"not installed: {', '.join(missing)} (Debian packages of these names)")
    stand_in, alerts_port = StandIn(), ops.free_port()
    with serving(stand_in) as port:
        alerts = ops.render_alertmanager(tmp_path / "alerts", watcher_port=port, token=TOKEN)
        config = ops.render_prometheus(
            tmp_path / "prometheus",
            service_port=port,
            watcher_port=port,
            alertmanager_port=alerts_port,
        )
        with (
            ops.start_alertmanager(alerts, port=alerts_port),
            ops.start_prometheus(config) as url,
        ):
            questions = dashboard.expressions(rate_interval="60s")
            wait_until(lambda: all(ops.ask(url, each) for each in questions), every=0.2)
            # Not one that stays: a scrape that was late makes one for a moment.
            wait_until(lambda: ops.firing(url) == {}, every=0.2)
            stand_in.shifted = True
            wait_until(lambda: ops.firing(url).get("HoldfastDrift") == "firing")
            wait_until(lambda: ops.firing(url).get("HoldfastChannelShift") == "firing")
            wait_until(lambda: bool(stand_in.webhooks))
            stand_in.shifted = False
            wait_until(lambda: stand_in.webhooks[-1][1]["status"] == "resolved")
    _check_webhooks(stand_in.webhooks)


def _check_webhooks(webhooks: list[tuple[str | None, dict[str, Any]]]) -> None:
    for authorization, body in webhooks:
        assert authorization == f"Bearer {TOKEN}"
        assert body["version"] == "4"
        for alert in body["alerts"]:
            assert alert["labels"]["alertname"] == "HoldfastDrift"
            assert alert["labels"]["action"] == "evaluate"
            assert alert["labels"]["model"] == "digits"
    description = webhooks[0][1]["alerts"][0]["annotations"]["description"]
    assert "Strongest channel: energy, with evidence of 10^7.0 to 1." in description
