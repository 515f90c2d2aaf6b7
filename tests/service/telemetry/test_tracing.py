"""Traces as a collector receives them: protobuf over HTTP, from the real SDK."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client import CollectorRegistry, Histogram

from service.telemetry.tracing import Timer, Tracing, find_collector, start
from service.web.call import Call, Endpoint
from service.web.errors import SettingsError
from service.web.reply import Reply
from tests.asgi import client_of
from tests.service.conftest import MakeApp

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENDPOINT = Endpoint("POST", "/v2/models/<model>/infer", lambda: Reply(b""), "predict", True)
SCOPE = {
    "path": "/v2/models/digits/infer",
    "query_string": b"secret=1",
    "method": "POST",
    "http_version": "1.1",
    "scheme": "http",
}
REPLY = Reply(b"{}", 200, id="a-1", model="digits", version=3)


class Collector:
    """Keeps the spans that it receives."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        assert path == "/v1/traces"
        for group in request.resource_spans:
            self.resource = values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += scope.spans

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()


@contextmanager
def tracing(url: str) -> Iterator[Tracing]:
    made = start(find_collector(url, {}), "1.2.3")
    assert made is not None
    yield made
    made.close()


def asked(made: Tracing, reply: Reply, timers: dict[str, Timer] | None = None, **more: str) -> None:
    def answer(*_: object) -> Reply:
        for timer, seconds in zip((timers or {}).values(), (0.001, 0.002, 0.003), strict=False):
            timer.observe(seconds)
        return reply

    headers = [(name.encode(), value.encode()) for name, value in more.items()]
    call = Call({**SCOPE, "headers": headers}, b"", 1000)
    assert made.trace(answer)(ENDPOINT, call, {"model": "digits"}) is reply


def test_a_request_is_a_server_span_with_the_conventions_attributes(collector: Collector) -> None:
    with tracing(collector.url) as made:
        asked(made, REPLY)
    (span,) = collector.spans
    assert span.name == "POST /v2/models/<model>/infer"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert values(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v2/models/<model>/infer",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v2/models/digits/infer",
        "network.protocol.version": "1.1",
        "holdfast.request_id": "a-1",
        "ml.model.name": "digits",
        "ml.model.version": "3",
    }
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert collector.resource["service.name"] == "holdfast"
    assert collector.resource["service.version"] == "1.2.3"


def test_the_callers_trace_is_taken_over(collector: Collector) -> None:
    with tracing(collector.url) as made:
        asked(made, REPLY, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="a=b")
        asked(made, REPLY, traceparent="00-nonsense")
    first, second = collector.spans
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert first.trace_state == "a=b"
    assert second.trace_id.hex() != TRACE
    assert not second.parent_span_id


def test_what_the_caller_does_not_sample_is_not_sent(collector: Collector) -> None:
    with tracing(collector.url) as made:
        asked(made, REPLY, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert not collector.spans


@pytest.mark.parametrize(("status", "failed"), [(400, False), (503, True), (500, True)])
def test_only_a_failure_of_the_server_is_an_error(
    status: int, failed: bool, collector: Collector
) -> None:
    with tracing(collector.url) as made:
        asked(made, Reply(b"", status))
    (span,) = collector.spans
    assert (span.status.code == Status.STATUS_CODE_ERROR) == failed
    assert ("error.type" in values(span.attributes)) == failed


def test_the_stages_are_children_one_after_the_other_and_are_timed_all_the_same(
    collector: Collector,
) -> None:
    registry = CollectorRegistry()
    histogram = Histogram("stages", "Stages.", ["stage"], registry=registry)
    with tracing(collector.url) as made:
        names = ("decode", "run", "count")
        timers = made.time_stages({name: histogram.labels(name) for name in names})
        asked(made, REPLY, timers)
        timers["run"].observe(1.0)  # outside a request: nobody's span
    children = [span for span in collector.spans if span.parent_span_id]
    (parent,) = [span for span in collector.spans if not span.parent_span_id]
    assert [span.name for span in children] == ["decode", "run", "count"]
    assert {span.parent_span_id for span in children} == {parent.span_id}
    lengths = [span.end_time_unix_nano - span.start_time_unix_nano for span in children]
    assert lengths == [1_000_000, 2_000_000, 3_000_000]
    for one, other in pairwise(children):
        assert one.end_time_unix_nano == other.start_time_unix_nano
    assert registry.get_sample_value("stages_count", {"stage": "run"}) == 2


@pytest.mark.slow
def test_a_collector_that_is_gone_delays_no_request_and_ending_is_bounded() -> None:
    made = start(find_collector("http://127.0.0.1:9", {}), "1")
    assert made is not None
    began = time.monotonic()
    for _ in range(3000):  # more than the SDK keeps; each would wait seconds for the collector
        asked(made, REPLY)
    assert time.monotonic() - began < 120
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 60


ADDRESS = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        (ADDRESS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (
            ADDRESS | {
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_not_spoken_is_an_error(environ: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_collector("", environ)
    assert caught.value.name == name
    ours = find_collector("http://127.0.0.1:4318", environ)
    assert ours is not None, "the own setting asks for nothing else"
    assert ours.named_by == "trace_endpoint"


@pytest.mark.parametrize(
    "more",
    [
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_where_nothing_is_sent_no_protocol_is_wrong(more: dict[str, str]) -> None:
    assert find_collector("", ADDRESS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} | more) is None


def test_without_an_address_nothing_is_imported() -> None:
    code = (
        "import sys, service.telemetry.tracing as t;"
        "assert t.start(t.find_collector('', {}), '1') is None;"
        "print(*sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=120
    )
    assert b"opentelemetry" not in said.stdout


def test_a_real_prediction_is_a_span_with_its_stages(
    collector: Collector, make_app: MakeApp, published_state: Path, rows: Any
) -> None:
    app = make_app(published_state, trace_endpoint=collector.url)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "order-7"}
    body = {"instances": rows[:1].tolist()}
    client = client_of(app)
    answer = client.post("/predict?model=digits", json=body, headers=headers)
    assert answer.status_code == 200
    assert client.get("/healthz", headers=headers).status_code == 200
    app.service.close()
    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST /predict", "GET /healthz", "decode", "run", "count", "encode"}
    parent = by_name["POST /predict"]
    assert parent.trace_id.hex() == TRACE
    assert values(parent.attributes)["holdfast.request_id"] == "order-7"
    attributes = values(parent.attributes)
    assert attributes["ml.model.version"] == "1"
    (row,) = answer.json["predictions"]
    assert attributes["holdfast.rows"] == 1
    assert attributes["holdfast.drift.p_value"] == pytest.approx(row["drift"]["p_value"], abs=1e-6)
    assert attributes["holdfast.drift.flagged_rows"] == row["drift"]["flagged"]
    likelihood = row["perturbation"]["likelihood"]
    assert attributes["holdfast.perturbation.likelihood"] == pytest.approx(likelihood, abs=1e-6)
    assert attributes["holdfast.perturbation.flagged_rows"] == row["perturbation"]["flagged"]
    for name in ("decode", "run", "count", "encode"):
        child = by_name[name]
        assert child.parent_span_id == parent.span_id
        assert child.end_time_unix_nano <= parent.end_time_unix_nano
