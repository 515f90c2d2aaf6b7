"""Two services behind haproxy, one registry, PostgreSQL and Prometheus, two watchers: real ones."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from models.base.processes import ends_with_parent
from models.versions.registry import Registry
from tests import bundles
from tests.monitoring.loop.test_processes import Watch
from tests.ops import free_port
from tests.postgres import postgres
from tests.replicas.test_prometheus import scraping
from tests.replicas.watchers import ask, leads, wait_for_leader
from tests.service.processes import Load, Running, load, running
from tests.waiting import PATIENCE_SECONDS, wait_until

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
HOSTS = ("127.0.0.2", "127.0.0.3")  # an address for each replica
PROMOTION_SECONDS = 5.0
CELLS = "holdfast_cell_observations_total"
CONFIG = """
defaults
  mode http
  timeout connect 1s
  timeout client 120s
  timeout server 4s
  timeout check 1s
  option redispatch 1
  retries 1
  retry-on conn-failure empty-response response-timeout
frontend front
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 500ms fall 1 rise 1
  server one {one}
  server two {two}
"""


@contextmanager
def balancing(folder: Path, one: str, two: str) -> Iterator[str]:
    """haproxy before both replicas, which tries a request once more at the other one."""
    port = free_port()
    (folder / "haproxy.cfg").write_text(CONFIG.format(port=port, one=one, two=two))
    process = subprocess.Popen(
        [str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=ends_with_parent(signal.SIGKILL),
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def processes(replica: Running) -> list[psutil.Process]:
    master = psutil.Process(replica.process.pid)
    return [master, *master.children(recursive=True)]


def send(replica: Running, number: signal.Signals) -> None:
    """Send a signal to the master and its workers."""
    for each in processes(replica):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)


def answered(made: Load, more: int) -> None:
    """Wait until so many more requests are answered."""
    target = len(made.answers) + more
    wait_until(lambda: len(made.answers) >= target, what=f"{more} more answers", every=0.1)


def cells(replicas: list[Running]) -> float:
    """Rows that the replicas have counted in the channel of classes for the first version."""
    return sum(each.total(CELLS, channel="class", version="1") for each in replicas)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry, and a state for each service and one for the watchers, which all have it."""
    bundles.publish(tmp_path / "registry")
    for name in ("one", "two", "watch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "registry").symlink_to(tmp_path / "registry")
    return tmp_path


class Watching(Watch):
    """A watcher as users start it, that looks often."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port, self.folder = free_port(), folder
        self.settings = settings

    def start(self) -> "subprocess.Popen[bytes]":
        env = {f"HOLDFAST_{name}": value for name, value in self.settings.items()}
        env |= {"HOLDFAST_STATE": str(self.folder), "HOLDFAST_WATCH_PORT": str(self.port)}
        env["HOLDFAST_WATCH_INTERVAL_SECONDS"] = "1"
        with (self.folder / "watch.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.watch_conf"],
                env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGKILL),
            )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        process = self.start()
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)


@pytest.mark.slow
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_two_replicas_are_killed_cut_off_and_promoted_and_no_request_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        settings: dict[str, Any] = {"database_url": server.url, "query_detection": "off"}
        ports, first = [free_port(), free_port()], ExitStack()
        stack.enter_context(first)
        one = first.enter_context(running(folder / "one", host=HOSTS[0], port=ports[0], **settings))
        two = stack.enter_context(running(folder / "two", host=HOSTS[1], port=ports[1], **settings))
        url = stack.enter_context(balancing(folder, one.address, two.address))
        prometheus = stack.enter_context(scraping(folder / "prom", [one.url, two.url]))
        watch = {"DATABASE_URL": server.url, "PROMETHEUS_URL": prometheus}
        watchers = [Watching(folder / "watch", **watch) for _ in range(2)]
        leader = stack.enter_context(watchers[0].running())
        wait_for_leader(watchers[0])
        stack.enter_context(watchers[1].running())

        def weighed(watcher: Watching) -> int | None:
            status, body = ask(watcher, "/models")
            if status != 200 or not body or {s["status"] for s in body[0]["services"]} != {"ok"}:
                return None
            requests: int | None = body[0]["requests"]
            return requests

        wait_until(lambda: weighed(watchers[0]) == 0, what="both were looked at", every=0.3)
        wait_until(lambda: requests.get(f"{url}/readyz", timeout=5).ok, what="haproxy is ready")

        with load(url, clients=2) as first_load:
            answered(first_load, 100)

        def all_is_weighed(by: int) -> bool:
            return weighed(watchers[by]) == cells([one, two])  # the last ones are counted late

        wait_until(lambda: all_is_weighed(0), what="all of both is weighed", every=0.3)
        os.killpg(leader.pid, signal.SIGKILL)
        with load(url, clients=2) as second_load:
            answered(second_load, 100)
            wait_until(lambda: leads(watchers[1]), what="the other watcher leads", every=0.3)
        wait_until(lambda: all_is_weighed(1), what="as of one stream", every=0.3)

        with load(url, clients=2) as made:
            answered(made, 50)
            send(one, signal.SIGKILL)
            answered(made, 100)
            first.close()
            one = stack.enter_context(
                running(folder / "one", host=HOSTS[0], port=ports[0], **settings)
            )
            known = one.counted(CELLS)  # of before: the files of its counters have stayed
            wait_until(lambda: one.counted(CELLS) > known, what="haproxy asks it again", every=0.1)
            send(two, signal.SIGSTOP)  # its address answers nothing, as behind a lost network
            answered(made, 100)
            send(two, signal.SIGCONT)
            server.stop()
            answered(made, 100)
            server.start()
            registry, began = Registry(folder / "registry"), time.monotonic()
            bundles.publish(folder / "registry", bend=1.1)
            published = time.monotonic()
            for each in (one, two):
                wait_until(lambda u=each.url: served(u) == 2, what="the new champion")
            seconds = time.monotonic() - published
            assert registry.aliases("digits").champion == 2
            answered(made, 50)
        with capsys.disabled():
            loads = (first_load, second_load, made)
            print(f"\n{sum(len(each.answers) for each in loads)} answers, both follow a promotion "
                  f"in {seconds:.2f} s (published in {published - began:.2f} s)")  # fmt: skip
        for each_load in (first_load, second_load, made):
            assert (each_load.refused, each_load.broken) == ([], [])
        assert seconds < PROMOTION_SECONDS


def served(url: str) -> int:
    """The version that a replica answers with."""
    return int(requests.get(f"{url}/readyz", timeout=5).json()["models"]["digits"])
