"""A real service under gunicorn, and clients that send it real requests."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from monitoring.tally import INTERVAL_SECONDS
from tests import bundles
from tests.ops import free_port

PATIENCE = 20.0


class Running:
    """A service of two workers on a state directory."""

    def __init__(self, state: Path, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.state, self.process, self.port, self._log = state, process, port, log
        self.url = f"http://127.0.0.1:{port}"

    @property
    def workers(self) -> set[int]:
        """Process ids of the workers."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in text.split()}

    def alive(self) -> bool:
        """True; fails where the master has ended."""
        assert self.process.poll() is None, f"the service ended: {self.log[-500:]}"
        return True

    @property
    def log(self) -> str:
        """What the service has logged."""
        return self._log.read_text()

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels, once every worker has counted."""
        time.sleep(4 * INTERVAL_SECONDS)
        text = requests.get(f"{self.url}/metrics", timeout=5).text
        return sum(
            s.value
            for family in parse(text)
            for s in family.samples
            if s.name == name and labels.items() <= s.labels.items()
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)


@contextmanager
def running(state: Path, **settings: Any) -> Iterator[Running]:
    """Start a service, wait until it is ready, and end it."""
    port = free_port()
    log = state / f"service-{port}.log"
    env = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    given = {"WORKERS": "2", "THREADS": "4", "DRAIN_SECONDS": "0.1"}
    env = {f"HOLDFAST_{name}": value for name, value in given.items()} | env
    env |= {"HOLDFAST_STATE": str(state), "HOLDFAST_PORT": str(port)}
    env |= {"HOLDFAST_RELOAD_INTERVAL_SECONDS": "0.1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.gunicorn_conf"],
            env={**os.environ, **env}, stdout=stream, stderr=stream,
        )  # fmt: skip
    found = Running(state, process, port, log)
    try:
        wait_until(lambda: found.alive() and len(found.workers) == 2 and _ready(found.url))
        yield found
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def wait_until(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait for something to become true; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass
class Load:
    """What some clients saw; each keeps its connection unless told otherwise."""

    url: str
    answers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def client(self, keep: bool) -> None:
        """Send one digit after another."""
        rows = [row[None].tolist() for row in bundles.digits().test.x[:20]]
        session = requests.Session()
        headers = {} if keep else {"Connection": "close"}
        for index in range(10**9):
            if self.stop.is_set():
                break
            body = {"instances": rows[index % 20]}
            try:
                answer = session.post(f"{self.url}/predict", json=body, headers=headers, timeout=10)
            except requests.RequestException as error:
                self.broken.append(repr(error))
                continue
            if answer.status_code == 200:
                self.answers.append({**answer.json(), "row": index % 20})
            else:
                self.refused.append(answer.status_code)
        session.close()


@contextmanager
def load(url: str, clients: int = 4, *, keep: bool = True) -> Iterator[Load]:
    """Clients that send requests for as long as the block lasts."""
    made = Load(url)
    threads = [threading.Thread(target=made.client, args=(keep,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop.set()
        for thread in threads:
            thread.join()
