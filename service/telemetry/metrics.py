"""OpenTelemetry metrics, where `OTEL_METRICS_EXPORTER=otlp` asks for them (the extra `tracing`).

What `/metrics` shows is sent over OTLP/HTTP by the SDK's exporter, at every
`OTEL_METRIC_EXPORT_INTERVAL`: the same counters, counted once. The exporter reads its address,
headers, certificates and time limit from its own `OTEL_EXPORTER_OTLP_*` variables.

Names and labels are those of docs/metrics.md; what is of a model or a version says so in the names
that OpenTelemetry's open proposal for models which are no language models uses, too (`SAID_AS`;
https://github.com/open-telemetry/semantic-conventions/issues/3420).
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

from models.base.locks import try_exclusive
from models.base.logs import logger
from service.telemetry.asked import check_protocol, is_disabled, need_exporter
from service.web.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import export as sdk
    from opentelemetry.sdk.resources import Resource

CLOSE_SECONDS = 3.0
DEFAULT_MILLISECONDS = "60000"
LOCK = "otlp.lock"  # `models.base.locks.clear` removes it, so it is as old as the counters
SAID_AS = {"model": "ml.model.name", "version": "ml.model.version"}
EXPORTER, INTERVAL = "OTEL_METRICS_EXPORTER", "OTEL_METRIC_EXPORT_INTERVAL"


class Wanted(NamedTuple):
    """What the environment asks for."""

    interval_seconds: float


def read_wanted(environ: Mapping[str, str]) -> Wanted | None:
    """Return what is asked for; None where nothing is, as OpenTelemetry's own default is not ours.

    >>> read_wanted({}), read_wanted({"OTEL_METRICS_EXPORTER": "otlp"})
    (None, Wanted(interval_seconds=60.0))

    Raises:
        SettingsError: it is something that is not done here.
    """
    exporters = {each.strip() for each in environ.get(EXPORTER, "").split(",")} - {""}
    # "prometheus" is what `/metrics` does anyhow.
    if unknown := exporters - {"otlp", "none", "prometheus"}:
        raise SettingsError(EXPORTER, "otlp, prometheus or none", ", ".join(sorted(unknown)))
    if is_disabled(environ) or "otlp" not in exporters:
        return None
    check_protocol(environ, "METRICS")
    text = environ.get(INTERVAL, "").strip() or DEFAULT_MILLISECONDS
    if not text.isdecimal() or int(text) == 0:
        raise SettingsError(INTERVAL, "milliseconds, a whole number above 0", repr(text))
    return Wanted(int(text) / 1000.0)


class MetricSender:
    """A thread that sends the metrics, in one worker of those that share counters.

    Args:
        name: of the service in OpenTelemetry, unless `OTEL_SERVICE_NAME` says another.
        version: of the program.
        instance: tells replicas apart, as `host:port`.
        sums: the metrics of all workers, as `/metrics` shows them.
        shared: the folder of the counters that workers share; None: this process counts alone.
        wanted: from `read_wanted`.

    Raises:
        SettingsError: the extra `tracing` is not installed.
    """

    def __init__(
        self, name: str, version: str, instance: str, sums: Callable[[], CollectorRegistry],
        shared: Path | None, wanted: Wanted,
    ) -> None:  # fmt: skip
        need_exporter(EXPORTER)
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource

        ours = {
            "service.name": name, "service.version": version, "service.instance.id": instance,
        }  # fmt: skip
        self._resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._version, self._sums, self._shared = version, sums, shared
        self._exporter = OTLPMetricExporter()
        self._began = time.time_ns()
        self._turn: IO[bytes] | None = None
        self._stop = threading.Event()
        self._interval = wanted.interval_seconds
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def send(self) -> bool:
        """Send what the metrics are now; whether that was this worker's turn and went well."""
        if not self._has_turn():
            return False
        from opentelemetry.sdk.metrics import export as sdk

        families = self._sums().collect()
        content = render_metrics(families, self._began, time.time_ns())
        sent = self._exporter.export(_wrap(content, self._resource, self._version))
        return bool(sent is sdk.MetricExportResult.SUCCESS)

    def close(self) -> None:
        """Send once more, for a bounded time: the collector may be gone."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)
        if self._turn is not None:
            self._turn.close()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._send_or_say()
        self._send_or_say()

    def _send_or_say(self) -> None:
        try:
            self.send()
        except Exception as error:  # it goes on: the next time may be better
            logger("telemetry").error("metrics_not_sent", reason=str(error))

    def _has_turn(self) -> bool:
        """Whether this worker sends for all; the lock of one that ended is free at once."""
        if self._shared is None or self._turn is not None:
            return True
        self._turn = try_exclusive(self._shared / LOCK)
        if self._turn is None:
            return False
        self._began = os.fstat(self._turn.fileno()).st_mtime_ns
        return True


def start(
    name: str, version: str, instance: str, sums: Callable[[], CollectorRegistry],
    shared: Path | None = None,
) -> MetricSender | None:  # fmt: skip
    """Start to send if the environment asks for it; None where not, and nothing is imported.

    Raises:
        SettingsError: what it asks for is not done here, or the extra is not installed.
    """
    wanted = read_wanted(os.environ)
    return None if wanted is None else MetricSender(name, version, instance, sums, shared, wanted)


def name_instance(port: int) -> str:
    """Return what tells this replica from others: the machine's name and the port."""
    return f"{socket.gethostname()}:{port}"


def render_metrics(families: Iterable[Metric], began: int, now: int) -> list["sdk.Metric"]:
    """Return metrics of Prometheus as those of OpenTelemetry.

    Counters and histograms are cumulative sums since `began`; a gauge that is NaN (not known) has
    no point. Names keep their `_total`, so that both ways lead to the same series.

    Args:
        families: as a registry collects them.
        began: when counting began, nanoseconds since 1970.
        now: the time of the points, nanoseconds since 1970.
    """
    return [metric for family in families if (metric := _render(family, began, now)) is not None]


def _render(family: Metric, began: int, now: int) -> "sdk.Metric | None":
    from opentelemetry.sdk.metrics import export as sdk

    cumulative = sdk.AggregationTemporality.CUMULATIVE
    name = family.name
    data: sdk.Sum | sdk.Gauge | sdk.Histogram | None
    if family.type == "histogram":
        spread = [_histogram(labels, group, began, now) for labels, group in _histograms(family)]
        data = sdk.Histogram(spread, cumulative) if spread else None
    elif family.type == "counter":
        name = f"{family.name}_total"
        counted = [s for s in family.samples if s.name == name]
        points = [_number(s, began, now) for s in counted]
        data = sdk.Sum(points, cumulative, is_monotonic=True) if points else None
    else:
        known = [s for s in family.samples if s.value == s.value]
        points = [_number(s, now, now) for s in known]
        data = sdk.Gauge(points) if points else None
    return None if data is None else sdk.Metric(name, family.documentation, family.unit, data)


def _number(sample: Sample, began: int, now: int) -> "sdk.NumberDataPoint":
    from opentelemetry.sdk.metrics import export as sdk

    return sdk.NumberDataPoint(_attributes(sample.labels), began, now, sample.value)


def _histograms(family: Metric) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Each histogram of a family: its labels; its buckets by bound, its sum and count."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        group = found.setdefault(tuple(sorted(labels.items())), {"buckets": {}})
        part = sample.name.removeprefix(family.name)
        if part == "_bucket":
            group["buckets"][float(sample.labels["le"])] = sample.value
        elif part in ("_sum", "_count"):
            group[part] = sample.value
    for key, group in found.items():
        yield dict(key), group


def _histogram(
    labels: dict[str, str], group: dict[str, Any], began: int, now: int
) -> "sdk.HistogramDataPoint":
    from opentelemetry.sdk.metrics import export as sdk

    bounds = sorted(group["buckets"])
    upto = [int(group["buckets"][bound]) for bound in bounds]
    counts = [upto[0], *(more - less for less, more in pairwise(upto))]
    least: Any = None  # Prometheus keeps neither; in OTLP both may be absent
    return sdk.HistogramDataPoint(
        _attributes(labels), began, now, upto[-1], group["_sum"], counts, bounds[:-1], least, least
    )


def _attributes(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels, and what of them the proposal has a name for.

    >>> _attributes({"model": "digits", "channel": "energy"})
    {'model': 'digits', 'channel': 'energy', 'ml.model.name': 'digits'}
    """
    return {**labels, **{SAID_AS[k]: v for k, v in labels.items() if k in SAID_AS}}


def _wrap(content: list["sdk.Metric"], resource: "Resource", version: str) -> "sdk.MetricsData":
    from opentelemetry.sdk.metrics import export as sdk
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    scope = sdk.ScopeMetrics(InstrumentationScope("holdfast", version), content, "")
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [scope], "")])
