"""Two watchers of one state and one PostgreSQL, with cheap children; a relay may lie between."""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from models.base.processes import ends_with_parent
from monitoring.records.database import make_engine
from monitoring.records.lease import LEASE
from tests.monitoring.loop.test_processes import Watch
from tests.ops import free_port
from tests.postgres import Postgres
from tests.waiting import PATIENCE_SECONDS, wait_until

START_SECONDS = 5 * PATIENCE_SECONDS


def ask(watch: Watch, path: str) -> tuple[int, Any]:
    """Status and body of an answer of a watcher; 0 where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{watch.port}{path}", timeout=10) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError:
        return 0, None
    return status, body.decode() if path == "/metrics" else json.loads(body)


def leads(watch: Watch) -> bool:
    """Whether a watcher says that it leads."""
    status, page = ask(watch, "/metrics")
    return status == 200 and "\nholdfast_watcher_leader 1.0" in page


def stands_by(watch: Watch) -> bool:
    """Whether a watcher says that it stands by, by name."""
    status, body = ask(watch, "/readyz")
    return status == 503 and body["status"] == "standby" and "leads since" in body["reason"]


def lease_row(url: str) -> tuple[int, datetime, datetime]:
    """Token, when it was taken and when renewed, by the clock of the database."""
    engine = make_engine(url, 10.0)
    with engine.connect() as connection:
        row = connection.execute(
            sa.select(LEASE.c.token, LEASE.c.taken_at, LEASE.c.renewed_at)
        ).one()
    engine.dispose()
    return int(row[0]), row[1], row[2]


def send(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal to a watcher's master and workers, and not to its training."""
    master = psutil.Process(process.pid)
    for each in [master, *master.children()]:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)


class Relay:
    """haproxy between a watcher and the database; stopped, it is a network that is lost."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process, self.port = process, port

    def cut(self) -> None:
        """Let nothing through; connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        """Let all through."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def relay(server: Postgres, folder: Path) -> Iterator[Relay]:
    """A relay to the database; the test is skipped where haproxy is not installed."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(program).exists():
        pytest.skip("haproxy is not installed")
    port, there = free_port(), sa.make_url(server.url).port
    file = folder / "relay.cfg"
    file.write_text(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen database\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{there}\n"
    )
    process = subprocess.Popen(
        [program, "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=ends_with_parent(signal.SIGKILL),
    )  # fmt: skip
    try:
        yield Relay(process, port)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(PATIENCE_SECONDS)


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """kill -9 of master and worker; the training ends with its parent."""
    master = psutil.Process(process.pid)
    for each in [master, *master.children()]:
        with suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)


def wait_for_leader(watch: Watch) -> None:
    """Wait until a watcher leads; on a crowded machine one starts for minutes."""
    wait_until(lambda: leads(watch), START_SECONDS, what="the watcher leads", every=0.5)


def wait_for_standby(watch: Watch) -> None:
    """Wait until a watcher stands by."""
    wait_until(lambda: stands_by(watch), START_SECONDS, what="the watcher stands by", every=0.5)
