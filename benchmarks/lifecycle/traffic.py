"""Ten clients that ask at an even pace and label what they asked, each from an address of its own.

What they ask can be changed while they run. A connection that the server closed before it read a
request is opened again once, as HTTP clients do; a label that is refused with 503 is sent again.
"""

import heapq
import http.client
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.data import Rows

CLIENTS = 10
LABEL_SECONDS = 1.0  # labels that are due are sent together this often
AGAIN_SECONDS = 1.0  # after a 503, which says that no label was kept
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class World:
    """What is asked now: request bodies, true labels as text and place, which are labelled."""

    bodies: tuple[bytes, ...]
    y: np.ndarray
    names: tuple[str, ...]
    delay_seconds: float
    labelled: float
    only: int | None

    @classmethod
    def of(cls, rows: Rows, names: tuple[str, ...], **labels: Any) -> "World":
        """From rows; each is a request."""
        bodies = [json.dumps({"instances": [x.tolist()]}).encode() for x in rows.x]
        return cls(tuple(bodies), rows.y, names, **labels)


@dataclass
class Books:
    """What came back, in the order of time: when, whether right, and which version answered."""

    at: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    labels_refused: int = 0  # 503: sent again
    labels_failed: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accuracy(self, since: float, until: float) -> float | None:
        """Of the requests that were answered between two times; None: there were none."""
        with self.lock:
            kept = [r for t, r in zip(self.at, self.right, strict=True) if since <= t < until]
        return float(np.mean(kept)) if kept else None


class Clients:
    """Run from the start to `stop`; `world` may be set at any time."""

    def __init__(self, port: int, model: str, world: World, rate: float, seed: int) -> None:
        self.world, self.books = world, Books()
        self._port, self._path, self._rate = port, f"/predict?model={model}", rate
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(k, np.random.default_rng((seed, k))))
            for k in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Books:
        """End all clients; returns the books."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.books

    def _run(self, number: int, rng: np.random.Generator) -> None:
        line = _Line(self._port, f"127.0.0.{number + 11}")
        due = time.monotonic() + rng.random() * CLIENTS / self._rate
        labels: list[tuple[float, str, str]] = []
        told = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + CLIENTS / self._rate, time.monotonic() - 1.0)
            self._ask(line, rng, labels)
            if time.monotonic() - told >= LABEL_SECONDS:
                told = time.monotonic()
                self._tell(line, labels)
        line.close()

    def _ask(
        self, line: "_Line", rng: np.random.Generator, labels: list[tuple[float, str, str]]
    ) -> None:
        world, books = self.world, self.books
        row = int(rng.integers(len(world.bodies)))
        name, at = f"life-{uuid.uuid4().hex}", time.time()
        answer = line.post(self._path, world.bodies[row], name)
        with books.lock:
            if isinstance(answer, str):
                books.failed[answer] += 1
                return
            books.at.append(at)
            books.right.append(answer["predictions"][0]["index"] == world.y[row])
            books.version.append(answer["version"])
        wanted = world.only is None or world.y[row] == world.only
        if wanted and rng.random() < world.labelled:
            label = world.names[int(world.y[row])]
            heapq.heappush(labels, (time.monotonic() + world.delay_seconds, name, label))

    def _tell(self, line: "_Line", labels: list[tuple[float, str, str]]) -> None:
        batch = []
        while labels and labels[0][0] <= time.monotonic():
            _, name, label = heapq.heappop(labels)
            batch.append({"id": name, "label": label})
        if not batch:
            return
        answer = line.post("/feedback", json.dumps(batch).encode(), None)
        with self.books.lock:
            if not isinstance(answer, str):
                self.books.labels += len(batch)
                return
            busy = answer.startswith("status 503")
            self.books.labels_refused += len(batch) if busy else 0
            if not busy:
                self.books.labels_failed[answer] += len(batch)
                return
        again = time.monotonic() + AGAIN_SECONDS
        for label in batch:
            heapq.heappush(labels, (again, label["id"], label["label"]))


class _Line:
    """A kept connection from one address."""

    def __init__(self, port: int, address: str) -> None:
        self._port, self._address = port, address
        self._open: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def post(self, path: str, body: bytes, request_id: str | None) -> Any:
        """The decoded answer, or a sentence that says what failed."""
        headers = {"Content-Type": "application/json"}
        headers |= {} if request_id is None else {"X-Request-Id": request_id}
        for _ in range(2):
            fresh = self._open is None
            if self._open is None:
                self._open = http.client.HTTPConnection(
                    "127.0.0.1", self._port, TIMEOUT_SECONDS, source_address=(self._address, 0)
                )
            try:
                self._open.request("POST", path, body, headers)
                answer = self._open.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh:
                    return f"{type(error).__name__}: {error}"
                continue
            if answer.status != 200:
                return f"status {answer.status}: {text[:120].decode(errors='replace')}"
            return json.loads(text)
        return "closed twice before an answer"
