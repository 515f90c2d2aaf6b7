"""A canary in a real service of two workers: its share, its counters, and how fast it is gone."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from models.versions.registry import Registry
from models.versions.registry_state import Canary
from service.fleet.canary import place
from tests import bundles
from tests.service.processes import Load, Running, load, running, wait_until

WHY: Any = {"actor": "test", "reason": "test"}
SHARE = 0.3
QUIET = 60  # answers of one version in a row, over both workers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state: Path = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    bundles.publish(state / "registry", bend=0.5, promote=False)
    # The reload interval is that of a service whose settings nobody has changed.
    with running(state, threads=2, reload_interval_seconds=0.5) as found:
        yield found


def seconds_until_only(version: int, seen: Load, change: Callable[[], object]) -> float:
    """Make the change under load; returns when another version answered for the last time.

    Times are those at which the answers came, in seconds after the change.
    """
    before = len(seen.answers)
    changed = time.monotonic()
    change()
    last, looked_at = 0.0, before
    while True:
        now, count = time.monotonic(), len(seen.answers)
        if any(a["version"] != version for a in seen.answers[looked_at:count]):
            last = now - changed
        looked_at = count
        if now - changed > last + 2.0 and count > before + QUIET:
            return last
        time.sleep(0.005)


def test_canary_has_its_share_and_abort_and_rollback_reach_all_workers(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(server.state / "registry")
    rows = bundles.digits().test.x[:1].tolist()
    canary = Canary(2, SHARE, time.time() + 600, "job")
    registry.begin_canary("digits", canary, expected=1, **WHY)
    wait_until(lambda: server.log.count('"canary_loaded"') == 2, what="both workers have it")

    answers = {}
    for k in range(200):
        answer = requests.post(
            f"{server.url}/predict", json={"instances": rows}, timeout=60,
            headers={"X-Request-Id": f"r{k}"},
        )  # fmt: skip
        assert answer.status_code == 200
        answers[f"r{k}"] = answer.json()["version"]
    assert answers == {name: 2 if place("job", name) < SHARE else 1 for name in answers}
    for version in (1, 2):
        expected = list(answers.values()).count(version)
        server.wait_until_total(expected, "holdfast_predictions_total", version=str(version))

    name = next(name for name, version in answers.items() if version == 2)
    label = {"id": name, "label": "0"}
    assert requests.post(f"{server.url}/feedback", json=label, timeout=60).json()["accepted"] == 1
    server.wait_until_total(1, "holdfast_feedback_total", version="2")
    server.wait_until_total(0, "holdfast_feedback_total", version="1")

    with load(server.url) as seen:
        wait_until(lambda: any(a["version"] == 2 for a in seen.answers))
        abort = seconds_until_only(1, seen, lambda: registry.end_canary("digits", "job", **WHY))
        registry.promote("digits", 2, expected=1, **WHY)
        wait_until(lambda: {a["version"] for a in seen.answers[-QUIET:]} == {2})
        rollback = seconds_until_only(1, seen, lambda: registry.rollback("digits", **WHY))
    assert (seen.broken, seen.refused) == ([], [])
    with capsys.disabled():
        print(f"\n2 workers: abort of a canary {abort:.2f} s, rollback {rollback:.2f} s")
