"""Alerts that real programs cause: two services, a watcher, and somebody who breaks things.

The rules are the shipped ones, their durations divided by `SCALE`. Drift, harm and attacks need a
trained model: `test_night.py`. What nobody can break in minutes:
`tests/monitoring/alerting/test_each_alert.py`.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests import bundles, ops
from tests.e2e.stack import HOLDFAST, Stack, fetch, status_of
from tests.people import People, receiving
from tests.waiting import PATIENCE_SECONDS, wait_until

MISSING = ops.missing_programs("prometheus", "prometheus-alertmanager", "amtool", "faketime")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
SCALE = 60.0
PATIENCE = 4 * PATIENCE_SECONDS


class Programs:
    """The programs by name; each may be ended and started again."""

    def __init__(self, first: Stack, second: Stack) -> None:
        self.first, self.second = first, second
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.commands = {"service": first, "second": second, "watcher": first}

    def start(self, name: str) -> None:
        """Start it, and wait until it answers."""
        stack = self.commands[name]
        command, url = ("watch", stack.watch_url) if name == "watcher" else ("serve", stack.url)
        with (stack.state / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*HOLDFAST, command], env=stack.env, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: _answers(f"{url}/readyz"), PATIENCE, what=f"{name} answers", every=0.2)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        os.killpg(self.running[name].pid, number)

    def end(self, name: str) -> None:
        """End it for good."""
        self.send(name, signal.SIGTERM)
        self.running.pop(name).wait(PATIENCE_SECONDS)

    def end_all(self) -> None:
        for name in list(self.running):
            self.send(name, signal.SIGCONT)
            self.end(name)


def _answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


class Scene:
    """The programs, the people on call, and what was told of each cause."""

    def __init__(
        self, programs: Programs, people: People, prometheus: Path, alertmanager: str
    ) -> None:
        self.programs, self.people, self.alertmanager = programs, people, alertmanager
        self._config, self._port = prometheus, ops.free_port()
        self.start_prometheus()

    def start_prometheus(self) -> None:
        """Start it, on what it has kept."""
        self._prometheus = ops.start_prometheus(self._config, port=self._port)
        self.url = self._prometheus.__enter__()

    def end_prometheus(self) -> None:
        """End it."""
        self._prometheus.__exit__(None, None, None)

    def told(self, status: str, *names: str) -> None:
        """Wait until people were told so of all of them after what they were told before."""
        for name in names:
            last = lambda name=name: [a["status"] for a in self.people.of(name)][-1:]  # noqa: E731
            wait_until(lambda last=last: last() == [status], PATIENCE, what=f"{name} {status}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("programs")
    registry = folder / "first" / "registry"
    bundles.publish(registry)
    bundles.publish(registry, bend=1.1, promote=False)
    bundles.publish(registry, bend=0.9, promote=False)
    shutil.copytree(folder / "first", folder / "second")
    first, second = Stack(folder / "first"), Stack(folder / "second")
    first.settings |= {"HOLDFAST_SERVICE_URL": first.url, "HOLDFAST_MODE": "report"}
    second.cli("models", "promote", "digits", "2", "--reason", "another place, another version")
    programs, people, port = Programs(first, second), People(), ops.free_port()
    with ExitStack() as until:
        until.callback(programs.end_all)
        for name in programs.commands:
            programs.start(name)
        people_url = until.enter_context(receiving(people))
        alertmanager = ops.render_alertmanager(
            folder / "am",
            watcher_port=first.watch_port,
            token=(first.state / "run" / "alert_token").read_text(),
            people_url=people_url,
        )
        prometheus = ops.render_prometheus(
            folder / "prom",
            service_port=first.port,
            watcher_port=first.watch_port,
            alertmanager_port=port,
            interval="1s",
            scale=SCALE,
            more_services=(second.port,),
        )
        alerts = until.enter_context(ops.start_alertmanager(alertmanager, port=port))
        made = Scene(programs, people, prometheus, alerts)
        until.callback(made.end_prometheus)
        yield made


def _digits(count: int, noise: float = 0.0) -> list[object]:
    """Held-out digits, or one of them with a little noise each time."""
    test = bundles.digits().test.x
    if not noise:
        return list(test[:count].tolist())
    rng = np.random.default_rng(5)
    rows = test[:1] + rng.normal(0.0, noise, (count, *test.shape[1:]))
    return list(np.clip(rows, 0.0, 16.0).tolist())


@contextmanager
def _going_on(act: Callable[[], object]) -> Iterator[None]:
    """Do something again and again in another thread until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            act()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_instances_with_different_versions_until_they_have_the_same(scene: Scene) -> None:
    scene.told("firing", "HoldfastVersionsDiffer")
    scene.programs.first.cli("models", "promote", "digits", "2", "--reason", "as elsewhere")
    scene.told("resolved", "HoldfastVersionsDiffer")


def test_a_client_that_sends_near_duplicates(scene: Scene) -> None:
    probes = iter(_digits(100_000, noise=0.05))
    with _going_on(
        lambda: status_of(f"{scene.programs.first.url}/predict", {"instances": [next(probes)]})
    ):
        scene.told("firing", "HoldfastQueryAttack")
    scene.told("resolved", "HoldfastQueryAttack")


def test_a_database_that_cannot_be_written(scene: Scene) -> None:
    """Labels get 503, and records of answers are dropped; answers go on."""
    first = scene.programs.first
    (path,) = first.state.glob("*records*.sqlite")
    rows = _digits(20)
    ids = [f"row-{number}" for number in range(50)]

    def ask() -> None:
        assert status_of(f"{first.url}/predict", {"instances": rows})[0] == 200
        status_of(f"{first.url}/feedback", {"id": ids[0], "label": "1"})

    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        with _going_on(ask):
            scene.told("firing", "HoldfastErrorRatio", "HoldfastRecordsDropped")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    with _going_on(lambda: status_of(f"{first.url}/predict", {"instances": rows})):
        scene.told("resolved", "HoldfastErrorRatio", "HoldfastRecordsDropped")


def test_a_champion_that_cannot_be_loaded(scene: Scene) -> None:
    first = scene.programs.first
    first.cli("models", "promote", "digits", "1", "--reason", "back")
    wait_until(lambda: first.metric("holdfast_champion_version") == 1, every=0.2)
    home = first.state / "registry" / "digits"
    model, alias = home / "3" / "model.onnx", home / "aliases.json"
    whole, before = model.read_bytes(), alias.read_bytes()
    model.write_bytes(whole[:1000])
    alias.write_bytes(before.replace(b'"champion":1', b'"champion":3'))
    assert alias.read_bytes() != before
    scene.told("firing", "HoldfastReloadFailing", "HoldfastModelBroken")
    alias.write_bytes(before)
    model.write_bytes(whole)
    scene.told("resolved", "HoldfastReloadFailing", "HoldfastModelBroken")


def test_a_part_of_the_watch_that_cannot_be_written(scene: Scene) -> None:
    state = scene.programs.first.state / "watch" / "digits.json"
    wait_until(state.exists, what="the evidence is kept")
    state.unlink()
    state.mkdir()
    (state / "in the way").touch()
    with _going_on(
        lambda: status_of(f"{scene.programs.first.url}/predict", {"instances": _digits(5)})
    ):
        scene.told("firing", "HoldfastWatchImpaired")
    shutil.rmtree(state)
    with _going_on(
        lambda: status_of(f"{scene.programs.first.url}/predict", {"instances": _digits(5)})
    ):
        scene.told("resolved", "HoldfastWatchImpaired")


def test_a_hold_that_nobody_releases_also_while_prometheus_is_away(scene: Scene) -> None:
    first, name = scene.programs.first, "HoldfastLoopHeld"
    scene.end_prometheus()
    subprocess.run(
        ["faketime", "-f", "-2d", *HOLDFAST, "models", "hold", "digits", "--reason", "an audit"],
        env=first.env, check=True, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert not scene.people.of(name)
    scene.start_prometheus()
    scene.told("firing", name)  # what happened meanwhile is not lost
    scene.end_prometheus()
    scene.start_prometheus()
    wait_until(lambda: ops.firing(scene.url).get(name) == "firing", PATIENCE, every=0.2)
    assert {each["status"] for each in scene.people.of(name)} == {"firing"}
    first.cli("models", "release", "digits", "--reason", "done")
    scene.told("resolved", name)


def test_what_alertmanager_could_not_tell_the_watcher_it_tells_when_it_is_back(
    scene: Scene,
) -> None:
    programs, name = scene.programs, "holdfast_alerts_received_total"
    programs.end("watcher")
    labels = ["alertname=HoldfastDrift", "action=evaluate", "model=digits", "severity=warning"]
    subprocess.run(
        ["amtool", f"--alertmanager.url={scene.alertmanager}", "alert", "add", *labels],
        check=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    # People were told, so Alertmanager has tried to tell the watcher, too.
    wait_until(lambda: scene.people.has("HoldfastDrift", "firing"), PATIENCE, every=0.2)
    programs.start("watcher")
    wait_until(
        lambda: programs.first.metric(name, action="evaluate"), PATIENCE, every=0.5,
        what="the watcher has heard of it",
    )  # fmt: skip


def test_a_watcher_that_stands_still(scene: Scene) -> None:
    scene.programs.send("watcher", signal.SIGSTOP)
    scene.told("firing", "HoldfastWatcherStale")
    scene.programs.send("watcher", signal.SIGCONT)
    scene.told("resolved", "HoldfastWatcherStale")


def test_a_watcher_that_watches_what_nobody_serves(scene: Scene) -> None:
    """The other service answers with version 2; the watcher, asked for version 1, is blind."""
    programs = scene.programs
    programs.end("watcher")
    programs.first.settings["HOLDFAST_SERVICE_URL"] = programs.second.url
    programs.start("watcher")
    with _going_on(lambda: status_of(f"{programs.second.url}/predict", {"instances": _digits(5)})):
        scene.told("firing", "HoldfastWatcherBlind")
    programs.first.cli("models", "promote", "digits", "2", "--reason", "as served")
    scene.told("resolved", "HoldfastWatcherBlind")


def test_a_service_that_is_gone(scene: Scene) -> None:
    """Last: while it is away it holds other alerts back. The watcher cannot read it, too."""
    scene.programs.end("second")
    scene.told("firing", "HoldfastServiceDown")
    scene.programs.start("second")
    scene.told("resolved", "HoldfastServiceDown")
