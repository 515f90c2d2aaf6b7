"""A real service under gunicorn, and clients that send it real requests."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from models.base.processes import ends_with_parent
from monitoring.counting.tally import INTERVAL_SECONDS
from tests import bundles
from tests.ops import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

LOG_TAIL = 6000  # characters
SETTLED_SECONDS = 10 * INTERVAL_SECONDS  # the counts of each worker are added up that often


class Running:
    """A service of two workers on a state directory."""

    def __init__(
        self, state: Path, process: subprocess.Popen[bytes], address: str, log: Path
    ) -> None:
        self.state, self.process, self.address, self._log = state, process, address, log
        self.port, self.url = int(address.rpartition(":")[2]), f"http://{address}"

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

    def log_tail(self) -> str:
        """The end of that, for who reads of a failure elsewhere (`tests/conftest.py`)."""
        return self.log[-LOG_TAIL:]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels, once every worker has counted.

        That is where two readings, with time for ten countings between them, agree. Who knows what
        it comes to waits for that (`wait_until_total`).
        """
        last, now = None, self._sum(name, labels)
        while now != last:
            time.sleep(SETTLED_SECONDS)
            last, now = now, self._sum(name, labels)
        return now

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels, as it is now."""
        return self._sum(name, labels)

    def wait_until_total(self, expected: float, name: str, **labels: str) -> None:
        """Wait until the sum comes to what is expected; fail where it passes that."""
        wait_until(
            lambda: self._sum(name, labels) >= expected, what=f"{expected:g} {name} {labels}"
        )
        assert self.total(name, **labels) == expected

    def _sum(self, name: str, labels: dict[str, str]) -> float:
        text = requests.get(f"{self.url}/metrics", timeout=PATIENCE_SECONDS).text
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
def running(state: Path, prefix: Sequence[str] = (), **settings: Any) -> Iterator[Running]:
    """Start a service, wait until it is ready, and end it; `prefix` runs its command.

    It listens on a free port of 127.0.0.1 where `port` and `host` say nothing else.
    """
    port = settings.get("port") or free_port()
    log = state / f"service-{port}.log"
    env = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    given = {
        "WORKERS": "2", "THREADS": "4", "DRAIN_SECONDS": "0.1", "RELOAD_INTERVAL_SECONDS": "0.1"
    }  # fmt: skip
    env = {f"HOLDFAST_{name}": value for name, value in given.items()} | env
    env |= {"HOLDFAST_STATE": str(state), "HOLDFAST_PORT": str(port)}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "service.gunicorn_conf"],
            env={**os.environ, **env}, stdout=stream, stderr=stream,
            preexec_fn=ends_with_parent(signal.SIGTERM),  # also where pytest is killed
        )  # fmt: skip
    found = Running(state, process, f"{settings.get('host', '127.0.0.1')}:{port}", log)
    try:
        wait_until(
            lambda: found.alive() and len(found.workers) == 2 and _ready(found.url),
            what="two workers, ready",
        )
        yield found
    except BaseException:
        print(found.log_tail())  # of a service that is no fixture
        raise
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=120).status_code == 200
    except requests.RequestException:
        return False


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
                answer = session.post(
                    f"{self.url}/predict", json=body, headers=headers, timeout=PATIENCE_SECONDS
                )
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
