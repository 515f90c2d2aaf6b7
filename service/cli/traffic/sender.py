"""Sending requests at an even pace over kept connections, and counting what came back."""

import http.client
import json
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.data import Rows
from service.configuration.addresses import Place, read_url

LABELS_EVERY = 8


@dataclass
class Outcomes:
    """What came back; shared by the senders."""

    sent: int = 0
    failed: int = 0
    reconnects: int = 0
    right: int = 0
    drift_flagged: int = 0
    perturbation_flagged: int = 0
    labels: int = 0
    labels_failed: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def summary(self) -> dict[str, Any]:
        """Plain data; shares are of the answered requests."""
        answered = max(self.sent - self.failed, 1)
        return {
            "sent": self.sent,
            "failed": self.failed,
            "reconnects": self.reconnects,
            "accuracy": round(self.right / answered, 4),
            "drift_flagged": round(self.drift_flagged / answered, 4),
            "perturbation_flagged": round(self.perturbation_flagged / answered, 4),
            "labels": self.labels,
            "labels_failed": self.labels_failed,
            "versions": {str(k): v for k, v in sorted(self.versions.items())},
            "errors": dict(self.errors),
        }

    def line(self) -> str:
        """One line for people."""
        s = self.summary()
        versions = ", ".join(f"version {k}: {v}" for k, v in s["versions"].items())
        return (
            f"sent {s['sent']}, failed {s['failed']}, right {s['accuracy']:.1%}, flagged drift "
            f"{s['drift_flagged']:.1%} / perturbation {s['perturbation_flagged']:.1%}, "
            f"labels {s['labels']}  [{versions}]"
        )


class Schedule:
    """Which row is due when: shuffled rounds through all rows, at an even pace."""

    def __init__(self, rows: int, rate: float, seconds: float, rng: np.random.Generator) -> None:
        self._order = self._rounds(rows, rng)
        self._rate, self._seconds = rate, seconds
        self._started = time.monotonic()
        self._taken = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End it now."""
        self._stopped.set()

    def next(self) -> int | None:
        """Wait for the next turn; None when the time is over."""
        with self._lock:
            due = self._started + self._taken / self._rate
            if self._stopped.is_set() or due - self._started >= self._seconds:
                return None
            self._taken += 1
            row = next(self._order)
        if self._stopped.wait(max(0.0, due - time.monotonic())):
            return None
        return row

    @staticmethod
    def _rounds(rows: int, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from (int(k) for k in rng.permutation(rows))


class Sender:
    """One connection: predict, and now and then the labels (by `names`) of what was answered."""

    def __init__(
        self,
        url: str,
        model: str,
        rows: Rows,
        tally: Outcomes,
        names: tuple[str, ...] | None,
        token: str = "",
    ) -> None:
        self._place = place = read_url(url)
        self._connection: http.client.HTTPConnection | None = None
        self._path = f"{place.path}/predict?model={urllib.parse.quote(model)}"
        self._rows, self._tally, self._names = rows, tally, names
        self._pending: list[dict[str, str]] = []
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def run(self, plan: Schedule) -> None:
        """Send until the schedule ends."""
        while (row := plan.next()) is not None:
            self._predict(row)
            if len(self._pending) >= LABELS_EVERY:
                self._send_labels()
        self._send_labels()
        if self._connection is not None:
            self._connection.close()

    def _predict(self, row: int) -> None:
        tally, truth = self._tally, int(self._rows.y[row])
        body = json.dumps({"instances": [self._rows.x[row].tolist()]})
        request_id = f"traffic-{uuid.uuid4().hex}"
        told = self._post(self._path, body, request_id)
        with tally.lock:
            tally.sent += 1
            if isinstance(told, str):
                tally.failed += 1
                tally.errors[told] += 1
                return
            one = told["predictions"][0]
            tally.right += one["index"] == truth
            tally.drift_flagged += one["drift"]["flagged"]
            tally.perturbation_flagged += one["perturbation"]["flagged"]
            tally.versions[told["version"]] += 1
        if self._names is not None:
            self._pending.append({"id": told["id"], "label": self._names[truth]})

    def _send_labels(self) -> None:
        if not self._pending:
            return
        told = self._post(f"{self._place.path}/feedback", json.dumps(self._pending), None)
        with self._tally.lock:
            if isinstance(told, str):
                self._tally.labels_failed += len(self._pending)
                self._tally.errors[told] += 1
            else:
                self._tally.labels += len(self._pending)
        self._pending = []

    def _post(self, path: str, body: str, request_id: str | None) -> Any:
        """The decoded answer, or a sentence saying what failed."""
        headers = dict(self._headers)
        if request_id is not None:
            headers["X-Request-Id"] = request_id
        for attempt in (1, 2):
            fresh = self._connection is None
            try:
                if self._connection is None:
                    self._connection = _connect(self._place)
                self._connection.request("POST", path, body, headers)
                answer = self._connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection = None
                if fresh or attempt == 2:
                    return f"{type(error).__name__}: {error}"
                with self._tally.lock:
                    self._tally.reconnects += 1
                continue
            if answer.getheader("Connection", "").lower() == "close":
                self._connection.close()
                self._connection = None
            if answer.status != 200:
                return f"status {answer.status}: {data[:200].decode(errors='replace')}"
            return json.loads(data)
        raise AssertionError("unreachable")


def _connect(place: Place) -> http.client.HTTPConnection:
    """A connection that is opened by the first request."""
    if place.scheme == "https":
        return http.client.HTTPSConnection(place.host, place.port, timeout=30)
    return http.client.HTTPConnection(place.host, place.port, timeout=30)
