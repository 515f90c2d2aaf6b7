"""Service and watcher over IPv6: real processes, in every usual spelling of their hosts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests

from service.cli.serve import answers
from service.cli.traffic.sender import Outcomes, Schedule, Sender
from service.configuration import addresses
from service.configuration.settings import load
from tests import bundles
from tests.ops import free_port
from tests.service.processes import wait_until

PATIENCE_SECONDS = 120.0

pytestmark = pytest.mark.skipif(not addresses._has("::1"), reason="this machine has no IPv6")


@contextmanager
def started(command: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", command],
            env={**os.environ, **env}, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("host", "loopbacks"),
    [pytest.param("[::1]", ["[::1]"], marks=pytest.mark.slow), ("::", ["[::1]", "127.0.0.1"])],
)
def test_service_watcher_and_traffic_speak_ipv6(
    host: str, loopbacks: list[str], tmp_path: Path
) -> None:
    bundles.publish(tmp_path / "registry")
    ports = {"HOLDFAST_PORT": str(free_port()), "HOLDFAST_WATCH_PORT": str(free_port())}
    env = {
        "HOLDFAST_STATE": str(tmp_path), "HOLDFAST_WORKERS": "1", "HOLDFAST_HOST": host,
        "HOLDFAST_WATCH_HOST": host, "HOLDFAST_WATCH_INTERVAL_SECONDS": "0.2", **ports,
    }  # fmt: skip
    settings = load(env)
    service, watcher = settings.service_url, f"http://[::1]:{settings.watch_port}"
    assert service == f"http://[::1]:{settings.port}"
    log = tmp_path / "serve.log", tmp_path / "watch.log"
    with started("serve", env, log[0]) as one:
        wait_until(lambda: alive(one, log[0]) and answers(f"{service}/readyz"), PATIENCE_SECONDS)
        for loopback in loopbacks:
            assert answers(f"http://{loopback}:{settings.port}/readyz")
        tally, data = Outcomes(), bundles.digits()
        plan = Schedule(len(data.test), 50.0, 0.3, np.random.default_rng(0))
        Sender(service, "digits", data.test, tally, data.classes).run(plan)
        assert tally.sent > 0
        assert (tally.failed, tally.labels_failed) == (0, 0)
        with started("watch", env, log[1]) as other:
            ready = lambda: alive(other, log[1]) and answers(f"{watcher}/readyz")  # noqa: E731
            wait_until(ready, PATIENCE_SECONDS)  # it has looked, and its looks came through:
            metrics = requests.get(f"{watcher}/metrics", timeout=30).text
            assert "holdfast_watch_scrape_failures_total 0.0\n" in metrics


def alive(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-500:]
    return True
