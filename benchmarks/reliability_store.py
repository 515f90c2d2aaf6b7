"""Predictions and labels while the store of records is full, locked, stopped, hangs or is away.

Two clients predict at a steady pace, four send labels of answered requests one after the other.
Each fault lasts for some seconds; then it is taken away, and nothing is restarted. At the end every
label that was acknowledged is looked for in the database.

    python -m benchmarks.reliability_store [--seconds N] [--only NAME ...]

Mounts (a small tmpfs, a file system in a file that is frozen) need root; they are left out without.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.reliability import (
    Client,
    Clients,
    Service,
    Steady,
    conditions,
    digit,
    service,
    table,
    wait_until,
)
from monitoring.records.reader import LABELLED
from monitoring.records.tables import REQUESTS
from tests.postgres import postgres

PHASES = ("before", "during", "after")
Switch = Callable[[], Any]
LABELLERS = 4


class Labels(Clients):
    """Clients that label their own predictions; what was acknowledged must be in the store."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.without_retry = 0
        self.kept: set[str] = set()
        self._port, self._stop = port, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(k,)) for k in range(LABELLERS)]

    def _run(self, number: int) -> None:
        client, index = Client(self._port, timeout=60), 0
        while not self._stop.wait(0.05):
            index += 1
            name = f"l{number}-{time.time_ns()}"
            asked = client.ask("POST", "/predict", digit(index), X_Request_Id=name)
            if asked.status != 200:
                continue
            answer = client.ask("POST", "/feedback", {"id": name, "label": "1"})
            self.statuses[answer.status] += 1
            self.slowest = max(self.slowest, answer.seconds)
            if answer.status == 503 and "retry-after" not in answer.headers:
                self.without_retry += 1
            if answer.status == 200:
                self.kept.add(name)


def campaign(
    name: str, run: Service, url: str, fault: Switch, cure: Switch, seconds: float
) -> list[Any]:
    """One row of the table: before, during and after a fault."""
    clients: dict[str, Labels] = {}
    recovered, dropped = 0.0, _dropped(run)
    with Steady(run.port) as steady:
        for phase in PHASES:
            if phase == "during":
                fault()
            if phase == "after":
                cure()
                recovered = wait_until(lambda: _label_is_kept(run), 60)
            steady.phase(phase)
            with Labels(run.port) as clients[phase]:
                time.sleep(seconds)
    seen = [steady.phases[phase].row() for phase in PHASES]
    lost = {reason: count - dropped[reason] for reason, count in _dropped(run).items()}
    kept = set().union(*(each.kept for each in clients.values()))
    print(f"{name}: {json.dumps(seen)}", flush=True)
    return [
        name,
        *(" / ".join(row[column] for row in seen) for column in (1, 2, 3)),
        ", ".join(f"{int(count)} {reason}" for reason, count in lost.items()),
        _shown(clients["during"].statuses),
        f"{clients['during'].slowest:.1f}",
        clients["during"].without_retry,
        f"{recovered:.1f}",
        _shown(clients["after"].statuses),
        f"{_missing(url, kept)} of {len(kept)}",
    ]


def _dropped(run: Service) -> dict[str, float]:
    name = "holdfast_records_dropped_total"
    return {reason: run.total(name, reason=reason) for reason in ("queue", "store")}


def _shown(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def _missing(url: str, names: set[str]) -> int:
    """How many of the labels are not in the store."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        labelled = sa.select(REQUESTS.c.id).select_from(LABELLED)
        there = set(connection.execute(labelled).scalars())
    engine.dispose()
    return len(names - there)


def _label_is_kept(run: Service) -> bool:
    name = f"probe-{time.time_ns()}"
    if run.ask("POST", "/predict", digit(0), X_Request_Id=name).status != 200:
        return False
    return run.ask("POST", "/feedback", {"id": name, "label": "1"}).status == 200


@contextmanager
def mounted(folder: Path, *command: str) -> Iterator[Path]:
    """Something mounted at a folder, unmounted at the end."""
    folder.mkdir()
    subprocess.run(["mount", *command, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all the space there is."""
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return


def full_disk(folder: Path, seconds: float, *, everything: bool) -> Iterator[list[Any]]:
    with mounted(folder / "full", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as small:
        state = small / "state" if everything else folder / "state"
        url = f"sqlite:///{small}/records.sqlite"
        with service(state, database_url=url, log=folder) as run:
            cure = (small / "ballast").unlink
            name = "full disk (all of the state), a worker killed" if everything else "full disk"

            def fault() -> None:
                fill(small)
                if everything:
                    run.workers[0].kill()  # the next one must begin on the full disk

            yield campaign(name, run, url, fault, cure, seconds)
            print(f"workers that died of SIGBUS: {run.log.count('SIGBUS')}")


def hanging_disk(folder: Path, seconds: float) -> Iterator[list[Any]]:
    image = folder / "image"
    with image.open("wb") as stream:
        os.truncate(stream.fileno(), 64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(folder / "slow", "-o", "loop", str(image)) as slow, ExitStack() as stack:
        url = f"sqlite:///{slow}/records.sqlite"
        run = stack.enter_context(service(folder / "state", database_url=url))

        def freeze() -> None:
            subprocess.run(["fsfreeze", "-f", str(slow)], check=True)
            stack.callback(thaw)

        def thaw() -> None:
            subprocess.run(["fsfreeze", "-u", str(slow)], stderr=subprocess.DEVNULL)

        yield campaign("disk that hangs (records)", run, url, freeze, thaw, seconds)


def locked(folder: Path, seconds: float) -> Iterator[list[Any]]:
    path = folder / "state" / "records.sqlite"
    with service(path.parent) as run:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        lock, free = (partial(other.execute, text) for text in ("BEGIN EXCLUSIVE", "COMMIT"))
        name = "SQLite locked by another process"
        yield campaign(name, run, f"sqlite:///{path}", lock, free, seconds)
        other.close()


def absent(folder: Path, seconds: float) -> Iterator[list[Any]]:
    late = folder / "late"
    late.write_text("in the way")
    url = f"sqlite:///{late}/records.sqlite"
    with service(folder / "state", database_url=url) as run:
        yield campaign("SQLite not there at first", run, url, nothing, late.unlink, seconds)


def postgres_faults(folder: Path, seconds: float) -> Iterator[list[Any]]:
    with postgres() as server:
        url, pause, go_on = server.url, server.pause, server.go_on
        with service(folder / "state", database_url=url) as run:
            yield campaign("PostgreSQL paused (SIGSTOP)", run, url, pause, go_on, seconds)
            name = "PostgreSQL ended, started again"
            yield campaign(name, run, url, server.stop, server.start, seconds)
        server.stop()
        with service(folder / "state", database_url=url) as run:
            name = "PostgreSQL not there at first"
            yield campaign(name, run, url, nothing, server.start, seconds)


def nothing() -> None:
    """The fault is there from the start."""


FAULTS: dict[str, Callable[[Path, float], Iterator[list[Any]]]] = {
    "full": partial(full_disk, everything=False),
    "all-full": partial(full_disk, everything=True),
    "hanging": hanging_disk,
    "locked": locked,
    "absent": absent,
    "postgres": postgres_faults,
}
NEED_ROOT = ("full", "all-full", "hanging")
HEADS = (
    "fault", "failed predictions", "p50 ms", "p99 ms", "records dropped", "feedback during",
    "slowest s", "503, no Retry-After", "back after s", "feedback after", "acknowledged, lost",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--only", nargs="*", default=tuple(FAULTS), choices=tuple(FAULTS))
    options = parser.parse_args()
    print(conditions())
    rows: list[list[Any]] = []
    for name in options.only:
        if name in NEED_ROOT and os.getuid():
            print(f"{name}: left out, it needs root")
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows += FAULTS[name](Path(folder), options.seconds)
    print(table(HEADS, rows))


if __name__ == "__main__":
    main()
