"""A watcher that says what a test wants, and takes what it is sent."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHARE = {"value": 0.94, "low": 0.91, "high": 0.96, "n": 500}
CHANNELS = ("energy", "grain", "class")


def model_row(**changes: Any) -> dict[str, Any]:
    """A model as a watcher tells of it: calm, with labels."""
    return {
        "model": "digits", "version": 1, "requests": 4897,
        "evidence_log10": {"energy": 3.46, "grain": 2.1, "class": 1.0},
        "threshold_log10": 6.85, "alarm": None, "alarm_since": None, "harmless": None,
        "promise": "at most one false alarm in 1,000,000 requests on average if requests come "
        "independently from one distribution: in 7 hours at 38 requests a second",
        "last_alarm": None, "expected_accuracy": 0.9,
        "accuracy": {"observed": {"accuracy": SHARE}},
        "harm": {"labels": 500, "evidence_log10": 0.2, "threshold_log10": 6.0, "floor": 0.88,
                 "words": "500 labels", "promise": "at most one false alarm in 1,000,000 labels"},
        "aliases": {"champion": 1, "challenger": None, "previous": None}, "problems": [],
        "services": [{"service": "http://127.0.0.1", "status": "ok", "since": 0.0}],
    } | changes  # fmt: skip


ALARM = {
    "alarm": {"channel": "energy", "direction": "higher", "words": "energy: higher than the "
              "reference (the top 1 % holds 63x its share)", "log10_r": 19.5, "requests": 1262},
    "evidence_log10": {"energy": 19.5, "grain": 11.2, "class": 1.0},
    "last_alarm": {
        "version": 1, "raised_at": 0.0, "channel": "energy", "words": "energy: higher",
        "requests": 1262, "first_at": 0.0, "last_at": 0.0, "confidence": 0.98, "movers": [],
        "histogram": [{"label": f"bin {k}", "before": 0.1, "after": 0.02 * k} for k in range(10)],
        "note": "",
    },
}  # fmt: skip
GATES = [
    {"name": "clean_accuracy", "verdict": "pass", "value": 0.014, "bound": -0.03,
     "detail": "97.5% -> 98.9%", "n": 359, "alpha": 0.05},
    {"name": "robust_accuracy", "verdict": "unknown", "value": None, "bound": -0.06,
     "detail": "fewer than 100 rows", "n": 40, "alpha": None},
    {"name": "size", "verdict": "fail", "value": 4.0, "bound": 3.0, "detail": "4x the champion"},
]  # fmt: skip


def job_row(**changes: Any) -> dict[str, Any]:
    """A run whose challenger waits for a person."""
    now = time.time()
    return {
        "id": "20260101-000000-abc123", "kind": "evaluate", "model": "digits", "champion": 1,
        "challenger": 2, "source": "drift", "reason": "energy higher", "created_at": now - 300,
        "updated_at": now - 60, "ended_at": None, "state": "waiting", "stage": "approval",
        "outcome": None, "detail": "", "passed": 1, "failed": 0, "unknown": 1,
        "waits_until": now + 80_000,
    } | changes  # fmt: skip


class FakeWatcher:
    """One for a test: set `row`, `jobs`, `refusal`; `asked` and `sent` are what came."""

    def __init__(self) -> None:
        self.row = model_row()
        self.jobs: list[dict[str, Any]] = []
        self.rates: dict[str, Any] = {
            "per_second": 38.2, "p50": 0.0019, "p99": 0.0046, "answered_hour": 9000,
            "failed_hour": 0, "rows": 2000, "perturbed": 18, "probing": 0,
        }  # fmt: skip
        self.demo: dict[str, Any] = {"running": False}
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.asked: list[str] = []
        self.sent: list[tuple[str, dict[str, Any], str]] = []
        self.clock: Callable[[], float] = time.time
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.asked.append(self.path)
                self._say(200, fake.say(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
                fake.sent.append((self.path, body, self.headers.get("authorization") or ""))
                status, told = fake.refusal or (200, {"actor": "admin", "running": True})
                self._say(status, told)

            def _say(self, status: int, document: Any) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def say(self, path: str) -> Any:
        """The answer to a GET."""
        if path.startswith("/history"):
            return self._history()
        if path.startswith("/jobs/"):
            gates = GATES if self.jobs else []
            now = self.clock()
            stages = {"collecting": now - 290, "evaluating": now - 280, "gating": now - 200,
                      "approval": now - 60}  # fmt: skip
            return {**self.jobs[0], "checks": gates, "stages": stages} if self.jobs else {}
        return {
            "now": self.clock(), "ready": "ready", "models": [self.row], "rates":
            {self.row["model"]: self.rates}, "jobs": self.jobs, "mode": "manual",
            "min_labels": 300, "demo": self.demo,
        }  # fmt: skip

    def _history(self) -> Any:
        now, fields = self.clock(), ("at", "seconds", "version", "requests", "answered", "evidence")
        points = [
            [now - 600 + 20 * k, 20.0, 1, 160 * k, 700 + 10 * (k % 3), [k / 9, k / 14, k / 30]]
            for k in range(30)
        ]
        return {"model": "digits", "span": "10m", "step_seconds": 2.0, "channels": CHANNELS,
                "fields": fields, "points": points}  # fmt: skip

    def close(self) -> None:
        """End it; what asks then finds nobody."""
        self.server.shutdown()
        self.server.server_close()


class Silent:
    """Takes connections, and answers none until it is told to speak; counts them."""

    def __init__(self) -> None:
        self.speaks, self.trickles, self.taken = False, False, 0
        self._held: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            self.taken += 1
            self._held.append(one)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            if self.speaks and self.trickles:
                one.sendall(head + b"Content-Length: 1000\r\n\r\n")
                threading.Thread(target=self._trickle, args=(one,), daemon=True).start()
            elif self.speaks:
                one.sendall(head + b"Content-Length: 2\r\n\r\n{}")

    @staticmethod
    def _trickle(one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                one.sendall(b" ")
                time.sleep(0.02)

    def hang_up(self) -> None:
        """End the connections it took."""
        for one in self._held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """End it."""
        self._listening.close()
        self.hang_up()
