"""The service's composition root: makes all parts and the ASGI application."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import Counter

from models.base.logs import logger
from models.versions.registry import Registry
from monitoring.counting.metrics import METHODS, Metrics
from monitoring.counting.queries import QueryWatch
from monitoring.counting.repeats import RepeatWatch
from monitoring.counting.shared_counters import exposition, sum_workers
from monitoring.records.store import RecordStore, StoreError
from monitoring.records.writer import RecordWriter
from service.access.guard import admin_secret, guard_of, origins_of
from service.configuration.program import program_version
from service.configuration.settings import Settings, load
from service.console import openapi
from service.console.calls import Console
from service.console.inputs import Inputs
from service.console.relay import Relay
from service.console.state import States
from service.fleet.served_models import Champions
from service.pipeline import Pipeline
from service.protocols import certify, feedback, health, predict, v1
from service.protocols.v2 import endpoints as v2
from service.protocols.v2 import repository as v2_repository
from service.protocols.v2 import statistics as v2_statistics
from service.runbooks import pages as runbooks
from service.telemetry import metrics as telemetry
from service.telemetry import tracing
from service.web.access_log import AccessLog
from service.web.call import Endpoint
from service.web.front import Front, RequestBounds
from service.web.observer import UNMATCHED, Observer
from service.web.reply import Reply

if TYPE_CHECKING:
    from service.protocols.grpc.server import GrpcServer


class Service:
    """The parts with threads or files behind the addresses; `close` ends them."""

    def __init__(self, settings: Settings, metrics_dir: Path | None = None) -> None:
        self._closed = False
        self.closing: list[Callable[[], None]] = []  # of parts that are made later
        self.settings = settings
        self.version = program_version()
        self.metrics = Metrics()
        workers = 1 if metrics_dir is None else settings.workers
        self.metrics.threads.set(settings.threads * workers)
        self.guard = guard_of(settings, metrics_dir)
        self.store = _open_store(settings.database_url)
        self.writer = None
        if self.store is not None:
            self.writer = RecordWriter(
                self.store,
                capacity=settings.record_queue,
                kept=settings.kept,
                dropped=lambda reason, rows: self.metrics.dropped[reason].inc(rows),
            )
        self.watch = _watch_queries(settings, metrics_dir)
        self.repeats = RepeatWatch(metrics_dir)
        self.champions = Champions(
            Registry(settings.registry_dir, settings.keys),
            self.metrics,
            settings.model_specs,
            self.watch,
            self.repeats,
            max_rows=settings.max_rows,
            limits=settings.limits,
            threads=settings.model_threads,
        )
        collector = tracing.find_collector(settings.trace_endpoint, os.environ)
        self.tracing = tracing.start(collector, self.version)
        self.sender = telemetry.start(
            "holdfast", self.version, telemetry.name_instance(settings.port),
            lambda: sum_workers(self.metrics.registry, metrics_dir), metrics_dir,
        )  # fmt: skip
        timed = self.tracing.time_stages if self.tracing else None
        self.pipeline = Pipeline(self.writer, settings.policy, timed)
        self.champions.start(settings.reload_interval_seconds)

    def close(self) -> None:
        """Count and write what waits, and end the threads; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for close in self.closing:
            close()
        self.champions.close()
        self.metrics.tally.settle()
        if self.sender is not None:
            self.sender.close()
        if self.writer is not None:
            self.writer.close()
        if self.store is not None:
            self.store.close()
        if self.watch is not None:
            self.watch.close()
        self.repeats.close()
        self.guard.close()
        if self.tracing is not None:
            self.tracing.close()


class Application(Front):
    """The ASGI application with its service; both end with the server."""

    def __init__(self, service: Service, endpoints: Sequence[Endpoint]) -> None:
        self.service = service
        settings = service.settings
        observe = _observer(service.metrics, endpoints, AccessLog(settings.access_log))
        origins = origins_of(settings, settings.host, service.guard)
        super().__init__(endpoints, service.guard, observe, bounds(settings), origins)
        if service.tracing is not None:
            self.answer = service.tracing.trace(self.answer)
        self._grpc: GrpcServer | None = None

    async def begin(self) -> None:
        """Listen for gRPC where the settings say so.

        Where that fails HTTP is served all the same: a worker that takes another's place must not
        end over a certificate, and the service with it.
        """
        if not self.service.settings.grpc_port:
            return
        try:
            await self._begin_grpc(self.service.settings)
        except Exception as error:
            self._grpc = None
            logger("grpc").error(
                "grpc_off", reason=str(error), port=self.service.settings.grpc_port
            )

    async def _begin_grpc(self, settings: Settings) -> None:
        from service.protocols.grpc.server import GrpcServer, GrpcTerms  # of an extra

        self._grpc = GrpcServer(
            self,
            GrpcTerms(
                settings.host, settings.grpc_port, settings.max_body_bytes,
                settings.max_waiting_bytes, settings.grpc_cert_file, settings.grpc_key_file,
                settings.grpc_client_ca_file, settings.body_timeout_seconds,
            ),
        )  # fmt: skip
        await self._grpc.start()

    async def end(self) -> None:
        """Finish the calls of gRPC."""
        if self._grpc is not None:
            await self._grpc.stop()

    def close(self) -> None:
        """Finish running requests, then close the service."""
        super().close()
        self.service.close()


def bounds(settings: Settings) -> RequestBounds:
    """Return the limits of requests from the settings."""
    return RequestBounds(
        settings.max_body_bytes,
        settings.body_timeout_seconds,
        settings.max_waiting_bytes,
        settings.threads,
    )


def create_app(settings: Settings, *, metrics_dir: Path | None = None) -> Application:
    """Make the application of one process and start its threads; `service.close` ends them.

    Args:
        settings: from `service.configuration.settings.load`.
        metrics_dir: counter files of all workers (the caller has called `share_counters`), or
            None where this process is the only one.
    """
    service = Service(settings, metrics_dir)
    console = make_console(service)
    champions, pipeline, pixels = service.champions, service.pipeline, settings.max_image_pixels
    registry, draining = service.metrics.registry, settings.draining_file
    ready = lambda: health.is_ready(champions, draining)  # noqa: E731
    endpoints = (
        *predict.endpoints(pipeline, champions.choose, pixels),
        *v1.endpoints(pipeline, champions, pixels),
        *v2.endpoints(pipeline, champions, ready, version=service.version),
        *v2_statistics.endpoints(champions, lambda: sum_workers(registry, metrics_dir)),
        *v2_repository.endpoints(champions),
        *certify.endpoints(champions.find, settings.certify_max_runs),
        *feedback.endpoints(
            service.store, champions, wait_seconds=settings.feedback_wait_seconds
        ),
        *health.endpoints(
            champions, exposition(registry, metrics_dir), service.version, draining,
            None if console is None else console.page,
        ),
        *(() if console is None else console.endpoints()),
        *openapi.endpoints(lambda: [each.manifest for each in champions.served.values()]),
        *runbooks.endpoints(),
    )  # fmt: skip
    return Application(service, endpoints)


def make_console(service: Service) -> Console | None:
    """Put the parts of the page together; None where the settings want no page."""
    settings, champions = service.settings, service.champions
    if settings.console == "off":
        return None
    registry = Registry(settings.registry_dir, settings.keys)
    relay = Relay(settings.watch_url, lambda: admin_secret(settings))
    ready = lambda: health.is_ready(champions, settings.draining_file)  # noqa: E731
    states = States(
        service.version, champions, registry, service.store, relay, ready, settings.progress_file
    )
    inputs = Inputs(champions.find, registry, service.store, relay, settings.max_image_pixels)
    service.closing.append(inputs.close)
    return Console(states, inputs, relay, registry, service.guard)


def from_environment() -> Application:
    """Make the application for another ASGI server than ours.

    As `holdfast serve` it reads `HOLDFAST_*` and `holdfast.toml`.
    """
    settings = load(os.environ, Path("holdfast.toml"))
    settings.draining_file.unlink(missing_ok=True)  # of a master that was here before
    return create_app(settings)


def _observer(metrics: Metrics, endpoints: Sequence[Endpoint], log: AccessLog) -> Observer:
    """Counts, times and logs every answer, whatever its status."""
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
        log.write(rule, method, reply, seconds)

    return observe


def _open_store(url: str) -> RecordStore | None:
    try:
        return RecordStore(url, patience_seconds=feedback.STORE_PATIENCE_SECONDS, later=True)
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
