"""OpenTelemetry traces of requests, if `HOLDFAST_TRACE_ENDPOINT` is set (the extra `tracing`).

    POST /v2/models/<model>/infer     one server span per request; it continues a W3C `traceparent`
    ├── decode ├── run ├── count └── encode     if the request led to a prediction

A thread of the SDK sends the spans over OTLP/HTTP and drops them if the collector is slow; a
request never waits. Attributes follow OpenTelemetry's conventions for HTTP servers
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/), `ml.model.*` the open proposal for
models (https://github.com/open-telemetry/semantic-conventions/issues/3420), `holdfast.*` are our
own; none contains inputs or query strings. The SDK reads its other options (sampling, headers,
batches) from its own `OTEL_*` variables.
"""

import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from monitoring.counting.metrics import Timer
from service.telemetry.asked import check_protocol, is_disabled, need_exporter
from service.web.call import Call, Endpoint
from service.web.errors import SettingsError
from service.web.reply import Reply
from service.web.router import Answerer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

CLOSE_SECONDS = 3.0
SHOWN_CHARACTERS = 200
SETTING, VARIABLE = "trace_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(NamedTuple):
    """Where traces go: the base address, without `/v1/traces`, and what names it."""

    address: str
    named_by: str


class Tracing:
    """Makes the spans of a process and sends them."""

    def __init__(self, collector: Collector, version: str) -> None:
        """Begin to send to `collector`.

        Raises:
            SettingsError: the extra `tracing` is not installed.
        """
        need_exporter(collector.named_by)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        ours = Resource.create({"service.name": "holdfast", "service.version": version})
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=collector.address.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("holdfast", version)
        self._propagator = TraceContextTextMapPropagator()
        self._stages = threading.local()

    def time_stages(self, timers: Mapping[str, Timer]) -> dict[str, Timer]:
        """Wrap the timers of the stages, so that they also add to the request's span."""
        return {name: _Stage(name, timer, self._stages) for name, timer in timers.items()}

    def trace(self, answer: Answerer) -> Answerer:
        """Wrap `answer`, so that every request has a span."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        def answer_traced(endpoint: Endpoint, call: Call, arguments: Mapping[str, str]) -> Reply:
            parent = self._propagator.extract(_headers(call))
            span = self._tracer.start_span(
                f"{endpoint.method} {endpoint.rule}",
                context=parent,
                kind=SpanKind.SERVER,
                attributes=_describe_request(endpoint, call),
            )
            seen: list[tuple[str, float, int]] = []
            self._stages.seen = seen
            try:
                reply = answer(endpoint, call, arguments)
                if span.is_recording():
                    span.set_attributes(_describe_reply(reply))
                    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        span.set_status(Status(StatusCode.ERROR))
                    self._add_stages(span, seen)
            finally:
                self._stages.seen = None
                span.end()
            return reply

        return answer_traced

    def close(self) -> None:
        """Send the waiting spans, for a bounded time: the collector may be gone."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _add_stages(self, parent: "Span", seen: list[tuple[str, float, int]]) -> None:
        """Add a child span for each stage; they follow each other up to the last one's end."""
        from opentelemetry.trace import set_span_in_context

        if not seen:
            return
        context = set_span_in_context(parent)
        at = seen[-1][2] - round(sum(seconds for _, seconds, _ in seen) * 1e9)
        for name, seconds, _ in seen:
            child = self._tracer.start_span(name, context=context, start_time=at)
            at += round(seconds * 1e9)
            child.end(at)


class _Stage:
    """A timer that also notes its times for the request of its thread."""

    def __init__(self, name: str, timer: Timer, stages: threading.local) -> None:
        self._name, self._timer, self._stages = name, timer, stages

    def observe(self, amount: float) -> None:
        self._timer.observe(amount)
        seen = getattr(self._stages, "seen", None)
        if seen is not None:
            seen.append((self._name, amount, time.time_ns()))


def find_collector(endpoint: str, environ: Mapping[str, str]) -> Collector | None:
    """Return where traces go; None: nowhere, as nothing is sent unasked.

    >>> find_collector("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    Collector(address='http://127.0.0.1:4318', named_by='OTEL_EXPORTER_OTLP_ENDPOINT')

    Args:
        endpoint: the setting `trace_endpoint`, which counts before OpenTelemetry's own variables.
        environ: these variables; `OTEL_TRACES_EXPORTER=none` takes theirs back.

    Raises:
        SettingsError: they ask for something that is not done here.
    """
    if endpoint:
        return Collector(endpoint, SETTING)
    address = environ.get(VARIABLE, "").strip()
    exporters = {each.strip() for each in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")}
    if not address or is_disabled(environ) or not exporters & {"otlp", ""}:
        return None
    check_protocol(environ, "TRACES")
    if urlsplit(address).scheme not in ("http", "https"):
        raise SettingsError(VARIABLE, "an address such as http://127.0.0.1:4318", address)
    return Collector(address, VARIABLE)


def start(collector: Collector | None, version: str) -> Tracing | None:
    """Start tracing to `collector`; None where there is none, and nothing is imported.

    Raises:
        SettingsError: the extra `tracing` is not installed.
    """
    return None if collector is None else Tracing(collector, version)


def _headers(call: Call) -> dict[str, str]:
    pairs = ((name, call.header(name)) for name in ("traceparent", "tracestate"))
    return {name: value for name, value in pairs if value is not None}


def _describe_request(endpoint: Endpoint, call: Call) -> dict[str, str]:
    return {
        "http.request.method": endpoint.method,
        "http.route": endpoint.rule,
        "url.scheme": call.scope.get("scheme", "http"),
        "url.path": ascii(call.path)[1:-1][:SHOWN_CHARACTERS],
        "network.protocol.version": call.scope.get("http_version", "1.1"),
    }


def _describe_reply(reply: Reply) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {"http.response.status_code": reply.status}
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        attributes["error.type"] = str(reply.status)
    if reply.id:
        attributes["holdfast.request_id"] = reply.id
    if reply.model:
        attributes["ml.model.name"] = reply.model
    if reply.version:
        attributes["ml.model.version"] = str(reply.version)
    return attributes if reply.describe is None else attributes | reply.describe()
