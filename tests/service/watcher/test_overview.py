"""One answer for the console, and a demonstration that never runs where it should not."""

import json
import sys
import time
from typing import Any

import pytest

from monitoring.watching.watcher import Watcher
from service.watcher.demo import Demo, DemoError
from tests.service.watcher.conftest import Caller, refused, told


def test_the_overview_has_every_model_with_its_rates_and_runs(client: Caller) -> None:
    said = client.get("/overview")
    assert set(said) >= {"now", "ready", "models", "rates", "jobs", "mode", "min_labels", "demo"}
    assert said["demo"]["running"] is False


def test_pictures_of_an_unknown_span_are_refused(client: Caller) -> None:
    assert client.get("/history?model=fine")["points"] == []
    answer = client.client.get("/history?span=1y")
    assert answer.status_code == 400
    assert "10m, 6h, 7d" in answer.text


@pytest.mark.parametrize("change", ["rollback", "hold", "release"])
def test_what_was_decided_with_another_champion_in_view_changes_nothing(
    change: str, client: Caller
) -> None:
    said = refused(client, f"/models/fine/{change}", 409, expected=3, reason="stale")
    assert said["champion"] == 2
    assert "version 3 was the champion that you saw, it is 2 now" in said["detail"]
    assert "did so at" in said["detail"]
    assert told(client, f"/models/fine/{change}", expected=2, reason="seen")


def test_a_demonstration_is_refused_for_a_model_of_somebodys_own(client: Caller) -> None:
    said = refused(client, "/demo", 409, run=True, model="fine")
    assert "token" in said["detail"]  # there are tokens here: that is told first
    assert told(client, "/demo", run=False)["running"] is False
    assert client.client.post("/demo", json={"run": True}).status_code == 401


def test_one_demonstration_at_a_time_ends_by_its_button(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    started: list[list[str]] = []

    def start(command: list[str], **more: Any) -> "subprocess.Popen[bytes]":
        started.append(command)
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        return subprocess.Popen(sleep, stderr=more["stderr"])

    demo = Demo(watcher.registry, "http://127.0.0.1:1", lambda: False, start)
    with pytest.raises(DemoError, match="not made of bundled data"):
        demo.begin("fine")
    monkeypatch.setattr(Demo, "_kind_of", lambda *_: "image")
    assert demo.begin("fine").running
    assert "rotate:25" in started[0]
    with pytest.raises(DemoError, match="runs already"):
        demo.begin("fine")
    assert not demo.end().running
    assert demo.begin("fine").running
    demo.end()


def test_a_demonstration_that_fails_says_why(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    def start(command: list[str], **more: Any) -> "subprocess.Popen[bytes]":
        fail = "import sys; sys.exit('holdfast: needs the train extra')"
        return subprocess.Popen([sys.executable, "-c", fail], stderr=more["stderr"])

    demo = Demo(watcher.registry, "http://127.0.0.1:1", lambda: False, start)
    monkeypatch.setattr(Demo, "_kind_of", lambda *_: "image")
    demo.begin("fine")
    deadline = time.monotonic() + 30
    while demo.state().running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert demo.state().failed == "holdfast: needs the train extra"
    assert json.dumps(demo.state().failed)
