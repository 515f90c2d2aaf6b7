"""Every alert made to happen: real Prometheus, real Alertmanager, the shipped rules and routes.

Time passes `SCALE` times as fast in the rules (`tests.ops.scale_rules`), so that hours are minutes.
The metrics are those of the classes that service and watcher export; `tests/e2e/test_night.py` has
the real programs.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from monitoring.grafana.dashboard import BOARDS
from monitoring.prometheus.alerting.catalogue import ALERTS
from tests import ops
from tests.monitoring.alerting.causes import CAUSES, Errors, Scene
from tests.monitoring.watching.stage import listening
from tests.people import People, receiving
from tests.waiting import wait_until

MISSING = ops.missing_programs("prometheus", "prometheus-alertmanager")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
SCALE = 60.0
INTERVAL_SECONDS = 1.0
LOST_SCRAPES = 5
PATIENCE_SECONDS = 240.0
# The slow one first: each quicker one holds it back.
BURNING = {
    "HoldfastErrorBudgetSlow": Errors(1000, 3),
    "HoldfastErrorBudgetFast": Errors(10_000, 80),
    "HoldfastErrorRatio": Errors(10_000, 1000),
}
OF_ALL = {  # what happens to no single model
    *BURNING, "HoldfastLatencyBurn", "HoldfastRecordsDropped", "HoldfastServiceDown",
    "HoldfastServiceUnread", "HoldfastStateDiskLow", "HoldfastWatcherStale",
}  # fmt: skip
CALM, WELL = Errors(10_000, 0), Errors(10_000_000, 0)


class Night(NamedTuple):
    """What people were told, before the causes ended, and in all."""

    before: list[tuple[str, str]]
    alerts: list[dict[str, Any]]
    late: list[str]  # what did not happen in time


@contextmanager
def _running(scene: Scene, folder: Path, people: People) -> Iterator[str]:
    pages = scene.service_page, scene.second_page, scene.watch_page
    with (
        receiving(people) as people_url,
        listening(pages[0]) as service,
        listening(pages[1]) as second,
        listening(pages[2]) as watcher,
    ):
        ports = [int(url.rpartition(":")[2]) for url in (service, second, watcher)]
        port = ops.free_port()
        alertmanager = ops.render_alertmanager(
            folder / "am", watcher_port=ports[2], token="x", people_url=people_url
        )
        prometheus = ops.render_prometheus(
            folder / "prom",
            service_port=ports[0],
            watcher_port=ports[2],
            alertmanager_port=port,
            interval=f"{INTERVAL_SECONDS:g}s",
            scale=SCALE,
            more_services=ports[1:2],
        )
        with (
            ops.start_alertmanager(alertmanager, port=port),
            ops.start_prometheus(prometheus) as url,
        ):
            yield url


class Play:
    """Begins and ends causes, and notes what people were not told in time."""

    def __init__(self, scene: Scene, people: People, url: str) -> None:
        self.scene, self.people, self.url = scene, people, url
        self.late: list[str] = []

    def until_told(self, names: set[str], status: str) -> None:
        """Wait until people were told of all of them; those that are late are noted."""
        waiting = lambda: {n for n in names if not self.people.has(n, status)}  # noqa: E731
        try:
            wait_until(lambda: not waiting(), PATIENCE_SECONDS, every=0.2)
        except AssertionError:
            self.late += [f"{name} {status}" for name in sorted(waiting())]

    def until_scraped(self, times: int) -> None:
        """Wait for some scrapes of the watcher."""
        question = 'count_over_time(up{job="holdfast-watcher"}[1h]) or on () vector(0)'
        begun = float(ops.ask(self.url, question)[0]["value"][1])
        wait_until(
            lambda: float(ops.ask(self.url, question)[0]["value"][1]) >= begun + times, every=0.2
        )

    def lose_watcher(self) -> None:
        """The watcher is away for some scrapes, comes back, and has not looked for some more."""
        self.scene.watch_page.broken = True
        self.until_scraped(LOST_SCRAPES)
        self.scene.restart_watcher()
        self.scene.watch_page.broken = False
        self.until_scraped(2)
        self.scene.look()
        self.until_scraped(LOST_SCRAPES)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    scene, people = Scene(), People()
    with _running(scene, tmp_path_factory.mktemp("night"), people) as url:
        play = Play(scene, people, url)
        play.until_scraped(3)
        wait_until(lambda: ops.firing(url) == {}, what="nothing fires before anything happened")
        for name in CAUSES:
            scene.set(name, on=True)
        for name, errors in BURNING.items():
            scene.errors = errors
            play.until_told({name}, "firing")
        play.until_told(CAUSES, "firing")
        play.lose_watcher()
        before = list(people.told)
        for name in CAUSES:
            scene.set(name, on=False)
        scene.watch.runs.labels("loopgivesup", "retrain", "promoted").inc()
        scene.errors = CALM
        play.until_told({"HoldfastErrorRatio", "HoldfastErrorBudgetFast"}, "resolved")
        scene.errors = WELL
        play.until_told(CAUSES | {"HoldfastErrorBudgetSlow"}, "resolved")
        scene.second_page.broken = True
        play.until_told({"HoldfastServiceDown"}, "firing")
        scene.second_page.broken = False
        play.until_told({"HoldfastServiceDown"}, "resolved")
    return Night(before, people.alerts, play.late)


def test_every_alert_has_a_cause() -> None:
    assert CAUSES | BURNING.keys() | {"HoldfastServiceDown"} == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_people_are_told_that_it_fires_with_its_links_and_that_it_is_over(
    name: str, night: Night
) -> None:
    of_it = [each for each in night.alerts if each["labels"]["alertname"] == name]
    statuses = [each["status"] for each in of_it]
    assert f"{name} firing" not in night.late
    assert statuses[0] == "firing"
    assert statuses[-1] == "resolved"
    boards = {board.uid for board in BOARDS}
    for each in of_it:
        notes = each["annotations"]
        assert notes["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
        assert re.sub(r"\?.*", "", notes["dashboard_url"]).rpartition("/d/")[2] in boards
        assert f"/#{ALERTS[name].view}" in notes["console_url"]
        assert notes["summary"] == ALERTS[name].summary
        # What is asked for by a description was found: no template is left, none failed.
        assert not re.search(r"\{\{|<no value>|error calling|<error", notes["description"])
        if "model" in each["labels"]:
            assert f"model={each['labels']['model']}" in notes["console_url"]
            assert each["labels"]["model"] in notes["description"]


def test_a_restart_of_the_watcher_resolves_nothing(night: Night) -> None:
    over = [name for name, status in night.before if status == "resolved"]
    assert over == []


def test_nothing_else_fired(night: Night) -> None:
    """Each alert came from its own cause: of the model that the cause was of, where it has one."""
    for each in night.alerts:
        model = each["labels"].get("model")
        if model is not None:
            assert each["labels"]["alertname"].lower() == f"holdfast{model}"
    assert {e["labels"]["alertname"] for e in night.alerts if "model" not in e["labels"]} == OF_ALL
    assert "HoldfastServiceDown" not in {name for name, _ in night.before}, "it came last"
