"""Clients that keep exact books while a real service is reloaded, recycled, stopped or killed.

Every answer is checked against the version that it names. A client follows `Connection: close`, as
HTTP says; `retry` lets it send a request once more on a new connection where the first broke.
"""

import http.client
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from models.versions.registry import Registry
from models.versions.runner import Runner
from tests import bundles
from tests.service.processes import Running, wait_until

ROWS = 20
BENDS = (1.0, 0.5)  # of the two versions: their answers differ
PAUSE_SECONDS = 0.01


@dataclass
class Books:
    """What a group of clients saw. Times in seconds."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)  # no answer, or another status than 200
    wrong: int = 0  # scores that are not those of the named version
    resets: int = 0  # a connection that broke before the answer, also where a retry helped
    refused: int = 0  # nobody listens: no request was lost
    times: list[tuple[float, float]] = field(default_factory=list)  # began (monotonic), took
    versions: set[int] = field(default_factory=set)

    def median_ms(self, since: float, until: float) -> float:
        """Median latency of the requests that began in the interval."""
        return 1000 * statistics.median(t for at, t in self.times if since <= at <= until)


class Truth:
    """What each version answers to each row."""

    def __init__(self, state: Path) -> None:
        x, registry = bundles.digits().test.x[:ROWS], Registry(state / "registry")
        self.bodies = [json.dumps({"instances": x[i : i + 1].tolist()}) for i in range(ROWS)]
        answers = {v: Runner(registry.open("digits", str(v))).run(x) for v in (1, 2)}
        self._scores = {
            version: np.column_stack(
                [a.probabilities, a.perturbation_likelihood, a.corruption_likelihood]
            )
            for version, a in answers.items()
        }

    def agrees(self, row: int, answer: dict[str, Any]) -> bool:
        """Whether the answer is that of the version that it names."""
        found, expected = answer["predictions"][0], self._scores[answer["version"]][row]
        risk = found["perturbation"]
        got = [*found["probabilities"], risk["likelihood"], risk["corruption"]]
        return bool(np.abs(np.array(got) - expected).max() < 1e-5)


def publish(state: Path) -> Truth:
    """Two versions whose answers differ; the first is champion."""
    for bend in BENDS:
        bundles.publish(state / "registry", bend=bend, promote=bend == BENDS[0])
    return Truth(state)


class Clients:
    """Threads that send one request after another until told to stop."""

    def __init__(
        self, port: int, truth: Truth, *, clients: int = 4, keep: bool = True, retry: bool = False,
        pause: float = PAUSE_SECONDS,
    ) -> None:  # fmt: skip
        self.books = Books()
        self._port, self._truth, self._pause = port, truth, pause
        self._keep, self._retry = keep, retry
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        link: http.client.HTTPConnection | None = None
        row = number
        while not self._stop.is_set():
            row = (row + 1) % ROWS
            began = time.monotonic()
            for last in (not self._retry, True):
                link = link or http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
                try:
                    self._book(row, began, *self._ask(link, row))
                    break
                except ConnectionRefusedError:
                    link = None
                    self.books.refused += 1
                    time.sleep(0.1)
                    break
                except (OSError, http.client.HTTPException) as error:
                    link.close()
                    link = None
                    self._broke(repr(error), last)
                    if last:
                        break
            if link is not None and link.sock is None:
                link = None  # the answer said `Connection: close`
            self._stop.wait(self._pause)
        if link is not None:
            link.close()

    def _ask(self, link: http.client.HTTPConnection, row: int) -> tuple[int, bytes]:
        headers = {} if self._keep else {"Connection": "close"}
        link.request("POST", "/predict", self._truth.bodies[row], headers)
        answer = link.getresponse()
        return answer.status, answer.read()

    def _book(self, row: int, began: float, status: int, body: bytes) -> None:
        took, books = time.monotonic() - began, self.books
        document = json.loads(body)
        agrees = status == 200 and self._truth.agrees(row, document)
        with self._lock:
            books.sent += 1
            if status != 200:
                books.failed.append(f"status {status}: {document}")
                return
            books.wrong += not agrees
            books.versions.add(document["version"])
            books.times.append((began, took))

    def _broke(self, why: str, last: bool) -> None:
        with self._lock:
            self.books.resets += 1
            if last:
                self.books.sent += 1
                self.books.failed.append(why)

    def wait(self, requests: int) -> None:
        """Wait until so many more have been answered."""
        books = self.books
        goal = len(books.times) + requests
        wait_until(lambda: len(books.times) >= goal, what=f"{goal} answers")

    def end(self) -> Books:
        """Stop; the books."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.books


@contextmanager
def clients(server: Running, truth: Truth, **options: Any) -> Iterator[Clients]:
    """Clients for as long as the block lasts."""
    made = Clients(server.port, truth, **options)
    try:
        yield made
    finally:
        made.end()


def swap(server: Running, times: int, pause: float) -> None:
    """Promote the two versions in turn; wait each time until the service says it serves it."""
    registry = Registry(server.state / "registry")
    for _ in range(times):
        now = registry.aliases("digits").champion
        registry.promote("digits", 3 - (now or 2), expected=now, actor="test", reason="test")
        time.sleep(pause)


def hup(server: Running, times: int) -> None:
    """Reload the workers; wait each time until all are new."""
    for _ in range(times):
        old = server.workers
        server.signal(signal.SIGHUP)
        wait_until(lambda old=old: len(server.workers) == 2 and not server.workers & old)


def kill(server: Running, times: int, pause: float) -> None:
    """Kill a worker; wait each time until another is there."""
    for _ in range(times):
        old = server.workers
        os.kill(min(old), signal.SIGKILL)
        wait_until(lambda old=old: len(server.workers - old) == 1 and len(server.workers) == 2)
        time.sleep(pause)


def stop(server: Running) -> float:
    """SIGTERM; how long the service took to end, in seconds."""
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.process.wait(120) == 0
    return time.monotonic() - began


def quiet_then(
    server: Running, clients: Clients, disturb: Callable[[], None], quiet_requests: int
) -> tuple[float, float]:
    """Median latency in ms without (half of that before, half after) and with the disturbance."""
    clients.wait(quiet_requests // 2)  # connections and caches
    marks = [time.monotonic()]
    for step in (
        lambda: clients.wait(quiet_requests),
        disturb,
        lambda: clients.wait(100),
        lambda: clients.wait(quiet_requests),
    ):
        step()
        marks.append(time.monotonic())
    before, during, _, after = (clients.books.median_ms(a, b) for a, b in pairwise(marks))
    return (before + after) / 2, during
