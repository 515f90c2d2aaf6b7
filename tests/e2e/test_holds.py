"""A hold by command, obeyed by a real watcher of three models: one held, one torn, one fine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import bundles
from tests.e2e.stack import Stack, get, status_of

MODELS = ("fine", "held", "torn")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    for model in MODELS:
        bundles.publish(tmp_path / "registry", model)
        bundles.publish(tmp_path / "registry", model, bend=1.1, promote=False)
    process = stack.start("watch")
    try:
        stack.until(lambda: answers(stack), "the watcher answers")
        yield stack
    finally:
        process.terminate()
        process.communicate()


def answers(stack: Stack) -> bool:
    try:
        return bool(get(f"{stack.watch_url}/healthz"))
    except OSError:
        return False


def alerted(stack: Stack, fingerprint: str) -> dict[str, str]:
    """What the watcher decides on an alert of each model."""
    secret = (stack.state / "run" / "alert_token").read_text()
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "HoldfastDrift", "action": "evaluate", "model": model},
            "fingerprint": f"{fingerprint}-{model}",
            "startsAt": "2026-01-01T00:00:00.000Z",
        }
        for model in MODELS
    ]
    status, told = status_of(
        f"{stack.watch_url}/alerts",
        {"version": "4", "alerts": alerts},
        {"Authorization": f"Bearer {secret}"},
    )
    assert status == 202, told
    decided: list[dict[str, Any]] = told["alerts"]
    return {model: each["decision"] for model, each in zip(MODELS, decided, strict=True)}


def test_a_hold_by_command_is_obeyed_by_the_watcher_until_the_release(watched: Stack) -> None:
    aliases = watched.state / "registry" / "torn" / "aliases.json"
    held = watched.json("models", "hold", "held", "--reason", "audit week")
    assert held["hold"]["actor"].startswith("command line (")
    aliases.write_text("{")
    first = alerted(watched, "one")
    assert (first["held"], first["fine"]) == ("held", "started")
    assert first["torn"] not in ("started", "held")
    assert {job["model"] for job in watched.jobs()} == {"fine"}
    rows = {row["model"]: row for row in get(f"{watched.watch_url}/models")}
    assert rows["held"]["hold"]["reason"] == "audit week"

    assert "audit week" in watched.cli("models", "list").stdout
    assert "is released" in watched.cli("models", "release", "held").stdout
    assert watched.json("models", "promote", "torn", "2")["champion"] == 2
    again = alerted(watched, "two")
    assert again["held"] == "started"
    assert again["torn"] == "cool_down", "a new champion rests"
    assert {job["model"] for job in watched.jobs()} == {"fine", "held"}
    watched.cli("models", "hold", "torn", "--hours", "1")
    mine = watched.cli("jobs", "start", "torn", "--reason", "on purpose")
    assert mine.stdout.startswith("started "), "a person is not held back"
