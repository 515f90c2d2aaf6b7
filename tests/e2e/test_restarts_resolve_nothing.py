"""What the people on call get while the watcher restarts: no "resolved" for what is not over.

The watcher, Prometheus and Alertmanager are the real ones, with the shipped rules; the service is a
stand-in that counts what the test wants.
"""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.base.processes import ends_with_parent
from models.versions.registry import Registry
from tests import bundles, ops
from tests.e2e.stack import HOLDFAST, Stack, get
from tests.monitoring.watching.stage import CountingService, listening
from tests.people import People, receiving
from tests.waiting import PATIENCE_SECONDS, wait_until

MISSING = ops.missing_programs("prometheus", "prometheus-alertmanager")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
LOST_SCRAPES = 5


class WatcherProcess:
    """`holdfast watch`, which may be ended and started again."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.log = stack.state / "watch.log"
        self.start()

    def start(self) -> None:
        """Start it and wait for its first look."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*HOLDFAST, "watch"],
                env=self.stack.env, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )  # fmt: skip
        wait_until(self._ready, what=f"the watcher has looked; its log: {self.log}", every=0.1)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.stack.watch_url}/readyz", timeout=10):
                return True
        except OSError:
            return False

    def end(self, number: signal.Signals) -> None:
        """Send the signal to all of its processes, and wait for its end."""
        os.killpg(self.process.pid, number)
        self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Stack, CountingService, str]]:
    """A pinned model (no event starts the loop), its service, and a URL where nobody answers."""
    bundles.publish(tmp_path / "state" / "registry")
    counting = CountingService(Registry(tmp_path / "state" / "registry"))
    with listening(counting) as url:
        wrong = f"http://127.0.0.1:{ops.free_port()}"
        stack = Stack(tmp_path / "state")
        stack.settings |= {"HOLDFAST_SERVICE_URL": f"{url},{wrong}", "HOLDFAST_MODELS": "digits@1"}
        stack.port = int(url.rpartition(":")[2])
        yield stack, counting, wrong


@contextmanager
def prometheus_for(stack: Stack, folder: Path, team_url: str) -> Iterator[str]:
    port = ops.free_port()
    config = ops.render_alertmanager(
        folder / "am", watcher_port=stack.watch_port, token="no", people_url=team_url
    )
    prometheus = ops.render_prometheus(
        folder / "prom",
        service_port=stack.port,
        watcher_port=stack.watch_port,
        alertmanager_port=port,
        interval="1s",
    )
    with ops.start_alertmanager(config, port=port), ops.start_prometheus(prometheus) as url:
        yield url


def test_a_restart_of_the_watcher_resolves_nothing_and_a_wrong_url_is_told(
    scene: tuple[Stack, CountingService, str], tmp_path: Path
) -> None:
    stack, counting, wrong = scene
    bundle = Registry(stack.state / "registry").open("digits")
    alias, team = stack.state / "registry" / "digits" / "aliases.json", People()
    watcher = WatcherProcess(stack)
    try:
        with receiving(team) as team_url, prometheus_for(stack, tmp_path, team_url) as prometheus:
            counting.serve(bundle, 400, first=True)
            for name in ("HoldfastDrift", "HoldfastServiceUnread"):
                wait_until(lambda name=name: team.has(name, "firing"), what=f"{name} is told")
            (row,) = get(f"{stack.watch_url}/models")
            assert {s["service"]: s["status"] for s in row["services"]}[wrong] == "refused"
            for number in (signal.SIGTERM, signal.SIGKILL):
                watcher.end(number)
                lost = (
                    f'count_over_time((up{{job="holdfast-watcher"}} == 0)[1m:1s]) >= {LOST_SCRAPES}'
                )
                wait_until(lambda lost=lost: ops.ask(prometheus, lost), what="scrapes are lost")
                watcher.start()
                back = 'min_over_time(up{job="holdfast-watcher"}[10s]) == 1'
                wait_until(lambda back=back: ops.ask(prometheus, back), what="it is scraped again")
            # Something that comes after, and its end: so "resolved" does arrive where it is true.
            whole = alias.read_bytes()
            alias.write_bytes(b"")
            wait_until(lambda: team.has("HoldfastModelBroken", "firing"), what="broken is told")
            alias.write_bytes(whole)
            wait_until(lambda: team.has("HoldfastModelBroken", "resolved"), what="mended is told")
            over = {name for name, status in team.told if status == "resolved"}
            assert not over & {"HoldfastDrift", "HoldfastServiceUnread"}, team.told
            assert ops.firing(prometheus)["HoldfastDrift"] == "firing"
    finally:
        if watcher.process.poll() is None:
            watcher.end(signal.SIGTERM)
