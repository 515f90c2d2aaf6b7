"""What the reliability campaigns share: a real service, a steady client, tables in Markdown.

python -m benchmarks.reliability_store    a store that is full, locked, stopped, hangs
python -m benchmarks.reliability_http     bodies and clients that hurt
python -m benchmarks.reliability_soak     an hour's worth of everything in ten minutes
python -m benchmarks.reliability_fuzz     a coverage-guided fuzzer over every body
"""

import atexit
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families as parse

from tests import bundles
from tests.ops import free_port

WORKERS = 2
MODEL = "digits"


class Service:
    """A running service on a state directory."""

    def __init__(self, state: Path, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.state, self.process, self.port, self.log_file = state, process, port, log

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.process.pid).children()

    @property
    def log(self) -> str:
        """What the service has logged."""
        return self.log_file.read_text()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        """One request over a connection of its own."""
        return Client(self.port).ask(method, path, body, close=True, **headers)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels."""
        text = self.ask("GET", "/metrics").body.decode()
        samples = (s for family in parse(text) for s in family.samples)
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )

    def ready(self) -> bool:
        """Whether it answers and all workers are there."""
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/readyz").status == 200 and len(self.workers) == WORKERS
        return False


@cache
def _published() -> Path:
    """A registry with one champion, made once."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    bundles.publish(folder / "registry")
    return folder / "registry"


@contextmanager
def service(state: Path, **settings: Any) -> Iterator[Service]:
    """Start a service (on a champion that is published where there is none) and end it."""
    if not (state / "registry").exists():
        shutil.copytree(_published(), state / "registry")
    port = free_port()
    env = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    env = {"HOLDFAST_STATE": str(state), "HOLDFAST_PORT": str(port), "HOLDFAST_WORKERS": "2"} | env
    log = Path(settings.get("log", state)) / f"service-{port}.log"
    env.pop("HOLDFAST_LOG", None)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.gunicorn_conf"],
            env={**os.environ, **env}, stdout=stream, stderr=stream,
        )  # fmt: skip
    found = Service(state, process, port, log)
    try:
        wait_until(found.ready, 60)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_until(condition: Any, seconds: float = 30.0) -> float:
    """Seconds until something is true; ends the program where it does not become so."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise SystemExit("it did not happen in time")
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass(frozen=True)
class Answer:
    """What came back; `status` 0: the connection broke."""

    status: int
    body: bytes
    headers: dict[str, str]
    seconds: float


class Client:
    """One connection that is kept, and opened again where it is closed."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: Any = None, *, close: bool = False, **headers: str
    ) -> Answer:
        """Send one request; plain data is sent as JSON."""
        began = time.perf_counter()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kept = {"Content-Type": "application/json"} if data else {}
        kept |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, data, kept)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(0, repr(error).encode(), {}, time.perf_counter() - began)
        if close or answer.will_close:
            self._connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, content, found, time.perf_counter() - began)


def digit(index: int, rows: int = 1) -> dict[str, Any]:
    """A prediction's body."""
    x = bundles.digits().test.x
    start = index % (len(x) - rows)
    return {"instances": x[start : start + rows].tolist()}


@dataclass
class Seen:
    """Answers to a steady client, in a phase."""

    answers: list[Answer] = field(default_factory=list)

    def row(self) -> list[str]:
        """Number, failed ones, median, 99th percentile and slowest in ms."""
        failed = sum(answer.status != 200 for answer in self.answers)
        times = [answer.seconds * 1000 for answer in self.answers]
        cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
        return [
            str(len(times)),
            str(failed),
            f"{cuts[49]:.1f}",
            f"{cuts[98]:.1f}",
            f"{max(times):.0f}",
        ]


class Clients:
    """Threads that ask while the block lasts, each until `_stop` is set."""

    _stop: threading.Event
    _threads: list[threading.Thread]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Steady(Clients):
    """Clients that predict at a steady pace and keep what they saw, phase by phase."""

    def __init__(self, port: int, clients: int = 2, pause: float = 0.01) -> None:
        self.phases: dict[str, Seen] = {}
        self._phase, self._stop = "", threading.Event()
        self._pause = pause
        self._threads = [threading.Thread(target=self._run, args=(port, k)) for k in range(clients)]

    def phase(self, name: str) -> None:
        """What is answered from now on counts for this phase."""
        self.phases[name] = Seen()
        self._phase = name

    def _run(self, port: int, number: int) -> None:
        client, index = Client(port), 0
        while not self._stop.wait(self._pause):
            index += 1
            phase = self.phases.get(self._phase)
            answer = client.ask("POST", "/predict", digit(index), X_Request_Id=f"c{number}-{index}")
            if phase is not None:
                phase.answers.append(answer)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def conditions() -> str:
    """What a figure was measured under, in a line."""
    load = os.getloadavg()[0]
    cores = os.cpu_count()
    return f"{cores} cores, load {load:.1f} at the start (the machine does other work, too)"
