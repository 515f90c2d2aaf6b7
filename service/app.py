"""The WSGI application: the parts put together, and what holds for every address."""

import time
from importlib import metadata
from pathlib import Path

from flask import Flask, Response, request
from prometheus_client import Counter
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from models.errors import HoldfastError
from models.registry import Registry
from monitoring.logs import logger
from monitoring.metrics import METHODS, Metrics, exposition
from monitoring.queries import QueryWatch
from monitoring.record_writer import RecordWriter
from monitoring.records import RecordStore, StoreError
from service import certify, feedback, health, predict, v2
from service.clients import client_of
from service.errors import described, shown
from service.pipeline import Pipeline
from service.reload import Champions
from service.settings import Settings
from service.web import error_response

UNMATCHED = "unmatched"
BEGAN = "holdfast.began"
KEPT_HEADERS = ("Allow", "Retry-After", "Location")


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
            Registry(settings.registry_dir), self.metrics, settings.model_names, self.watch
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


def create_app(settings: Settings, *, metrics_dir: Path | None = None) -> Flask:
    """The application of one process, its threads running; `app.extensions["holdfast"]` ends them.

    Args:
        settings: from `service.settings.load`.
        metrics_dir: counter files of all workers (the caller has called `share_counters`), or
            None where this process is the only one.
    """
    service = Service(settings, metrics_dir)
    version = _program_version()
    app = Flask("holdfast", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.url_map.merge_slashes = False
    app.extensions["holdfast"] = service
    champions, rows = service.champions, settings.max_rows
    ready = lambda: champions.ready  # noqa: E731
    client = client_of(settings)
    for routes in (
        predict.blueprint(service.pipeline, champions.find, client, rows),
        v2.blueprint(
            service.pipeline, champions.find, ready, client, max_rows=rows, version=version
        ),
        certify.blueprint(champions.find, rows, settings.certify_max_runs),
        feedback.blueprint(
            service.store, champions, wait_seconds=settings.feedback_wait_seconds
        ),
        health.blueprint(champions, exposition(service.metrics.registry, metrics_dir), version),
    ):  # fmt: skip
        app.register_blueprint(routes)
    app.register_error_handler(Exception, _answer_error)
    _observe_requests(app, service.metrics)
    return app


def _observe_requests(app: Flask, metrics: Metrics) -> None:
    """Count and time every answer, whatever its status."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.methods]
    metrics.touch_routes(
        (rule.rule, method)
        for rule in rules
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    )
    counters: dict[tuple[str, str, int], Counter] = {}
    timers = {rule.rule: metrics.http_duration.labels(rule.rule) for rule in rules}
    timers[UNMATCHED] = metrics.http_duration.labels(UNMATCHED)

    @app.before_request
    def began() -> None:
        request.environ[BEGAN] = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else UNMATCHED
        method = request.method if request.method in METHODS else "other"
        key = (route, method, response.status_code)
        counter = counters.get(key)
        if counter is None:
            counter = counters[key] = metrics.http_requests.labels(*map(str, key))
        counter.inc()
        timers[route].observe(time.perf_counter() - request.environ[BEGAN])
        return response


def _answer_error(error: Exception) -> Response:
    """Every status but 200 in the dialect of its address."""
    if isinstance(error, HTTPException):
        status = error.code or 500
        response = error_response(status, _detail(error))
        response.headers.extend([(k, v) for k, v in error.get_headers() if k in KEPT_HEADERS])
        return response
    if isinstance(error, HoldfastError):
        status, members, headers = described(error)
        if status < 500 or status == 503:
            response = error_response(status, str(error), **members)
            response.headers.extend(dict(headers))
            return response
    logger("http").error(
        "internal_error", route=request.url_rule.rule if request.url_rule else UNMATCHED,
        exc_info=error,
    )  # fmt: skip
    return error_response(500, "something went wrong inside; the log of the service says what")


def _detail(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return f"no such address: {shown(request.path)}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"method: expected one of {allowed}, got {shown(request.method)}"
    return error.description or error.name


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
