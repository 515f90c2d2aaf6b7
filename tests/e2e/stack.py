"""The real thing for tests: `holdfast up` in a process of its own, on free ports, in a folder."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.base.processes import ends_with_parent
from tests.ops import free_port
from tests.printed import data_of
from tests.waiting import PATIENCE_SECONDS, Found, wait_until

HOLDFAST = [sys.executable, "-m", "service"]
FAST = {
    "HOLDFAST_WATCH_INTERVAL_SECONDS": "0.5",
    "HOLDFAST_RELOAD_INTERVAL_SECONDS": "0.2",
    "HOLDFAST_SHADOW_SECONDS": "4",
    "HOLDFAST_PROBATION_SECONDS": "4",
    "HOLDFAST_COOL_DOWN_SECONDS": "20",
    "HOLDFAST_RETRAIN_EPOCHS": "10",
}
TRAINS_SECONDS = (
    1200.0  # patience with what trains or evaluates: a minute or two on a quiet machine
)
FOR_EVER_SECONDS = (
    "36000"  # of traffic that the test ends itself, when it has seen what it waits for
)
LOG_TAIL_BYTES = 6000


@dataclass
class Stack:
    """A running `holdfast up` (or a state directory in which one may run)."""

    state: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    watch_port: int = field(default_factory=free_port)

    @property
    def env(self) -> dict[str, str]:
        """The environment of every command of this stack."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        return (
            kept
            | FAST
            | self.settings
            | {
                "HOLDFAST_STATE": str(self.state),
                "HOLDFAST_PORT": str(self.port),
                "HOLDFAST_WATCH_PORT": str(self.watch_port),
                "OMP_NUM_THREADS": "1",
            }
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def watch_url(self) -> str:
        return f"http://127.0.0.1:{self.watch_port}"

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [*HOLDFAST, *arguments],
            env=self.env, capture_output=True, text=True, timeout=TRAINS_SECONDS,
        )  # fmt: skip
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise AssertionError(f"holdfast {' '.join(arguments)}: {said}")
        return done

    def json(self, *arguments: str) -> Any:
        """The data a command prints with --json."""
        return data_of(self.cli(*arguments, "--json").stdout)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*HOLDFAST, *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGTERM),
        )

    def traffic(self, *arguments: str) -> dict[str, Any]:
        """Send traffic to the end; the summary. Fails if a request failed."""
        told: dict[str, Any] = self.json("traffic", *arguments)
        return told

    @contextmanager
    def sending(self, *arguments: str) -> Iterator["Sending"]:
        """Traffic until the test ends it with `end`, however long what it waits for takes."""
        process = self.start("traffic", *arguments, "--seconds", FOR_EVER_SECONDS, "--json")
        try:
            yield Sending(process)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def watched(self) -> dict[str, Any]:
        """What the watcher says of the one model."""
        status: list[dict[str, Any]] = get(f"{self.watch_url}/models")
        return status[0]

    def jobs(self) -> list[dict[str, Any]]:
        """The loop's runs, the newest first."""
        found: list[dict[str, Any]] = get(f"{self.watch_url}/jobs")
        return found

    def metric(self, name: str, url: str | None = None, **labels: str) -> float | None:
        """Sum of the samples of a metric whose labels fit; None where there is no such series."""
        from prometheus_client.parser import text_string_to_metric_families

        text = fetch(f"{url or self.watch_url}/metrics").decode()
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def log(self) -> list[dict[str, Any]]:
        """The structured lines that the stack has written."""
        lines = (self.state / "up.log").read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.startswith("{") and line.endswith("\n")]
        return [json.loads(line) for line in whole]

    def log_tail(self) -> str:
        """The end of every log, for who reads of a failure elsewhere (`tests/conftest.py`)."""
        parts = []
        for path in (self.state / "up.log", *sorted(self.state.glob("jobs/*/log"))):
            if path.exists():
                text = path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
                parts.append(f"--- the end of {path.relative_to(self.state)}\n{text}")
        return "\n".join(parts)

    def until(
        self, condition: Callable[[], Found], what: str, *, seconds: float = PATIENCE_SECONDS
    ) -> Found:
        """Wait for an event of this stack."""
        return wait_until(condition, seconds, what=what, every=0.2)

    def until_looked(self) -> None:
        """Wait until a look of the watcher has begun after now, and ended.

        What the service counted before the watcher's first look is no traffic of its stream.
        """
        now = time.time()
        name = "holdfast_watch_last_tick_timestamp_seconds"
        self.until(lambda: (self.metric(name) or 0.0) > now, "the watcher has looked")


@dataclass
class Sending:
    """Traffic that goes on until `end`."""

    process: "subprocess.Popen[str]"

    def end(self) -> dict[str, Any]:
        """Ctrl-C: it stops and sums up. Fails if a request failed."""
        assert self.process.poll() is None, self.process.communicate()
        self.process.send_signal(signal.SIGINT)
        said, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 0, errors
        summary: dict[str, Any] = data_of(said)
        assert summary["failed"] == 0, summary
        return summary


@contextmanager
def running(stack: Stack) -> Iterator["subprocess.Popen[bytes]"]:
    """`holdfast up` until the block ends; the log goes to `up.log` in the state."""
    stack.state.mkdir(parents=True, exist_ok=True)
    with (stack.state / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [*HOLDFAST, "up"],
            env=stack.env, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGTERM),  # also where pytest is killed
        )  # fmt: skip
    try:
        stack.until(lambda: ready(stack, process), "service and watcher are ready")
        stack.until_looked()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_SECONDS)


def ready(stack: Stack, process: "subprocess.Popen[bytes]") -> bool:
    """Whether service and watcher answer. Fails where they have ended."""
    assert process.poll() is None, "`holdfast up` ended"
    try:
        fetch(f"{stack.url}/readyz")
        return bool(get(f"{stack.watch_url}/models"))
    except OSError:
        return False


def fetch(url: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
    """GET, or POST where there is a body."""
    with urllib.request.urlopen(_request(url, body, headers), timeout=PATIENCE_SECONDS) as answer:
        text: bytes = answer.read()
    return text


def get(url: str) -> Any:
    """The decoded JSON."""
    return json.loads(fetch(url))


def status_of(url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and decoded body, also of errors."""
    request = _request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def _request(url: str, body: Any, headers: dict[str, str] | None) -> urllib.request.Request:
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.Request(url, data, {"Content-Type": "application/json"} | (headers or {}))
