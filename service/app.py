"""The WSGI application: the parts put together, and what holds for every address."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from prometheus_client import Counter

from models.registry import Registry
from monitoring.logs import logger
from monitoring.metrics import METHODS, Metrics, exposition
from monitoring.queries import QueryWatch
from monitoring.record_writer import RecordWriter
from monitoring.records import RecordStore, StoreError
from service import certify, feedback, health, predict, v2
from service.call import Endpoint, Reply
from service.clients import OpenGuard
from service.front import UNMATCHED, Front, Observer
from service.pipeline import Pipeline
from service.reload import Champions
from service.settings import Settings


class Service:
    """The living parts behind the addresses; `close` ends their threads."""

    def __init__(self, settings: Settings, metrics_dir: Path | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.store = _open_store(settings.database_url)
        self.writer = None
        if self.store is not None:
            self.writer = RecordWriter(
                self.store,
                capacity=settings.record_queue,
                rows_kept=settings.record_rows_kept,
                dropped=lambda reason, rows: self.metrics.dropped[reason].inc(rows),
            )
        self.watch = _watch_queries(settings, metrics_dir)
        self.champions = Champions(
            Registry(settings.registry_dir),
            self.metrics,
            settings.model_names,
            self.watch,
            max_rows=settings.max_rows,
        )
        self.pipeline = Pipeline(self.metrics, self.writer, settings.policy)
        self.champions.start(settings.reload_interval_seconds)

    def close(self) -> None:
        """Write the records that wait and end the threads."""
        self.champions.close()
        if self.writer is not None:
            self.writer.close()
        if self.store is not None:
            self.store.close()
        if self.watch is not None:
            self.watch.close()


class Application(Front):
    """The WSGI application, and the living parts behind it."""

    def __init__(self, service: Service, endpoints: Sequence[Endpoint]) -> None:
        self.service = service
        settings = service.settings
        observe = _observer(service.metrics, endpoints)
        super().__init__(endpoints, OpenGuard(settings), observe, settings.max_body_bytes)


def create_app(settings: Settings, *, metrics_dir: Path | None = None) -> Application:
    """The application of one process, its threads running; `service.close` ends them.

    Args:
        settings: from `service.settings.load`.
        metrics_dir: counter files of all workers (the caller has called `share_counters`), or
            None where this process is the only one.
    """
    service = Service(settings, metrics_dir)
    version = _program_version()
    champions, pipeline = service.champions, service.pipeline
    endpoints = (
        *predict.endpoints(pipeline, champions.find),
        *v2.endpoints(pipeline, champions.find, lambda: champions.ready, version=version),
        *certify.endpoints(champions.find, settings.certify_max_runs),
        *feedback.endpoints(
            service.store, champions, wait_seconds=settings.feedback_wait_seconds
        ),
        *health.endpoints(champions, exposition(service.metrics.registry, metrics_dir), version),
    )  # fmt: skip
    return Application(service, endpoints)


def _observer(metrics: Metrics, endpoints: Sequence[Endpoint]) -> Observer:
    """Counts and times every answer, whatever its status."""
    metrics.touch_routes((endpoint.rule, endpoint.method) for endpoint in endpoints)
    counters: dict[tuple[str, str, int], Counter] = {}
    timers = {endpoint.rule: metrics.http_duration.labels(endpoint.rule) for endpoint in endpoints}
    timers[UNMATCHED] = metrics.http_duration.labels(UNMATCHED)

    def observe(rule: str, method: str, reply: Reply, seconds: float) -> None:
        key = (rule, method if method in METHODS else "other", reply.status)
        counter = counters.get(key)
        if counter is None:
            counter = counters[key] = metrics.http_requests.labels(*map(str, key))
        counter.inc()
        timers[rule].observe(seconds)

    return observe


def _open_store(url: str) -> RecordStore | None:
    try:
        return RecordStore(url)
    except StoreError as error:
        logger("records").error("store_unavailable", reason=str(error))
        return None


def _watch_queries(settings: Settings, shared: Path | None) -> QueryWatch | None:
    if settings.query_detection == "off":
        return None
    try:
        return QueryWatch(settings.query_clients, shared)
    except OSError as error:
        logger("queries").error("query_detection_off", reason=f"no memory for it: {error}")
        return None


def _program_version() -> str:
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "0"
