"""A watcher over real versions and real HTTP services, for tests that break one thing of it.

Each model is a small instrumented version; a `CountingService` answers `/metrics` on a port of its
own with what it was told to count, or with whatever a test puts in the place of that.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from models.versions.bundle import Bundle
from models.versions.registry import Registry
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Policy
from monitoring.records.store import RecordStore
from monitoring.watching.status import describe_models
from monitoring.watching.watcher import Watcher, WatchPlan
from tests import bundles

MODELS = ("alpha", "beta", "gamma")
Answer = tuple[int, dict[str, str], bytes]


@cache
def _registry_of_three() -> Path:
    root = Path(mkdtemp()) / "registry"
    for model in MODELS:
        bundles.publish(root, model)
    return root


def registry_of_three(folder: Path) -> Registry:
    """A registry of its own with three models, each with a champion."""
    shutil.copytree(_registry_of_three(), folder / "registry")
    return Registry(folder / "registry")


class Watching:
    """A watcher over three models and the services at some URLs; `again` is a restart of it."""

    def __init__(self, folder: Path, *urls: str, **changes: Any) -> None:
        self.folder = folder
        there = (folder / "registry").exists()
        self.registry = Registry(folder / "registry") if there else registry_of_three(folder)
        self.bundles = {model: self.registry.open(model) for model in self.registry.models()}
        self.engine = sa.create_engine(f"sqlite:///{folder}/jobs.sqlite")
        self.records = RecordStore(f"sqlite:///{folder}/records.sqlite")
        self.jobs = JobStore(self.engine)
        self.started: list[Job] = []
        self.plan = msgspec.structs.replace(
            WatchPlan(urls, str(folder), 1.0, 1e6, Policy()), **changes
        )
        self.now = 1_700_000_000.0
        self.again()

    def again(self) -> None:
        """Start a new watcher on the same state."""
        self.metrics = WatchMetrics()
        self.watcher = Watcher(
            self.plan, self.registry, self.records, self.jobs, self.metrics, self.started.append
        )

    def tick(self, times: int = 1, seconds: float = 2.0) -> None:
        """Look so many times, so many seconds apart."""
        for _ in range(times):
            self.now += seconds
            self.watcher.tick(self.now)

    def problems(self, model: str) -> set[str]:
        """Names of what is wrong with the model, as `GET /models` has them."""
        return {each["problem"] for each in self.row(model)["problems"]}

    def row(self, model: str) -> dict[str, Any]:
        """What `GET /models` says of a model."""
        rows = msgspec.to_builtins(describe_models(self.watcher))
        (found,) = (row for row in rows if row["model"] == model)
        return dict(found)

    def services(self) -> dict[str, str]:
        """The status of each service, as `GET /models` has it."""
        return {
            s["service"]: s["status"]
            for s in msgspec.to_builtins(describe_models(self.watcher)[0].services)
        }

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of an exported series."""
        return self.metrics.registry.get_sample_value(name, labels)

    def requests(self, model: str) -> int:
        """Requests that were weighed."""
        return int(self.row(model)["requests"])

    def close(self) -> None:
        """Give back what the databases hold."""
        self.records.close()
        self.engine.dispose()


class CountingService:
    """Counts rows of models as a service does; `answer` may be replaced."""

    def __init__(self, registry: Registry, loaded_at: float = 1000.0) -> None:
        self.rng = np.random.default_rng(0)
        self.bundles = [registry.open(model) for model in registry.models()]
        self.loaded_at = loaded_at
        self.answer: Callable[[], Answer] = self.exposition
        self.begin_again()

    def begin_again(self) -> None:
        """A restart: everything is at 0, and was loaded later."""
        self.loaded_at += 10.0
        self.registry = CollectorRegistry()
        self.cells = Counter(
            "holdfast_cell_observations", "Rows.", ("model", "version", "channel", "cell"),
            registry=self.registry,
        )  # fmt: skip
        self.predictions = Counter(
            "holdfast_predictions", "Rows.", ("model", "class"), registry=self.registry
        )
        self.loaded = Gauge(
            "holdfast_model_loaded_timestamp_seconds", "When.", ("model", "version"),
            registry=self.registry,
        )  # fmt: skip
        for bundle in self.bundles:
            self.load(bundle)

    def load(self, bundle: Bundle) -> None:
        """Its series exist at 0."""
        model, version = bundle.manifest.model, str(bundle.manifest.version)
        for channel in bundle.manifest.channels:
            for cell in range(len(channel.labels)):
                self.cells.labels(model, version, channel.name, f"{cell:02d}")
        self.predictions.labels(model, "0")
        self.loaded.labels(model, version).set(self.loaded_at)

    def serve(
        self, bundle: Bundle, rows: int, *, counted: bool = True, first: bool = False
    ) -> None:
        """Answer rows of the reference; or all in the first cell, or without counting cells."""
        model, version = bundle.manifest.model, str(bundle.manifest.version)
        self.predictions.labels(model, "0").inc(rows)
        for channel in bundle.manifest.channels if counted else ():
            alpha = bundle.reference[f"{channel.name}/alpha"]
            shares = np.eye(len(alpha))[int(alpha.argmax())] if first else alpha / alpha.sum()
            for cell, count in enumerate(self.rng.multinomial(rows, shares)):
                self.cells.labels(model, version, channel.name, f"{cell:02d}").inc(int(count))

    def exposition(self) -> Answer:
        """What it has counted."""
        return 200, {"Content-Type": "text/plain"}, generate_latest(self.registry)

    def text(self) -> str:
        """The same as text."""
        return self.exposition()[2].decode()

    def says(self, text: str | bytes, status: int = 200, **headers: str) -> None:
        """From now on it answers this."""
        body = text.encode() if isinstance(text, str) else text
        self.answer = lambda: (status, headers, body)


@contextmanager
def listening(service: CountingService) -> Iterator[str]:
    """Answer GET for the service; the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = service.answer()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output free of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
