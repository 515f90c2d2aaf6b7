"""Laws of many alerts: each is decided on in bounded time, nothing is lost, nothing is twice."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from werkzeug.test import Client

from monitoring.alerts import handled_alerts
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.jobs import JobStore
from monitoring.loop.triggers import Event
from monitoring.records.database import make_engine
from service.access.guard import watch_guard_of
from service.configuration.settings import load
from service.watch import BODY_BYTES
from service.watcher import calls as watch_calls
from service.web.front import Front, RequestBounds
from tests.asgi import client_of
from tests.monitoring.test_prometheus_rules import ALERTS
from tests.monitoring.watching.stage import MODELS, Watching
from tests.monitoring.watching.test_one_broken_thing import zeros

LOCK_PATIENCE_SECONDS = 0.5


class Desk:
    """A watcher of three models, and its `POST /alerts`."""

    def __init__(self, folder: Path) -> None:
        self.watching = Watching(folder)
        self.engine = make_engine(f"sqlite:///{folder}/jobs.sqlite", LOCK_PATIENCE_SECONDS)
        self.watching.jobs = JobStore(self.engine)
        self.folder = folder
        self.again()

    def again(self) -> None:
        """Start anew on the same state, as a watcher that was killed does."""
        self.watching.again()
        self.handled = HandledAlerts(self.engine)
        token = self.folder / "token"
        token.write_text("alert-token-of-the-tests")
        settings = load(
            {"HOLDFAST_STATE": str(self.folder), "HOLDFAST_ALERT_TOKEN_FILE": str(token)}
        )
        clock = lambda: self.watching.now  # noqa: E731
        calls = watch_calls.endpoints(self.watching.watcher, self.handled, clock)
        self.front = Front(
            calls, watch_guard_of(settings), lambda *_: None, RequestBounds(BODY_BYTES)
        )
        self.client: Client = client_of(self.front)

    def send(self, *alerts: dict[str, Any]) -> Any:
        """One body; the answer."""
        return self.client.post(
            "/alerts",
            data=body(*alerts),
            headers={"Authorization": "Bearer alert-token-of-the-tests"},
        )

    def decisions(self, *alerts: dict[str, Any]) -> list[str]:
        """One body; what was decided."""
        answer = self.send(*alerts)
        assert answer.status_code == 202, answer.text
        return [each["decision"] for each in answer.get_json()["alerts"]]

    def started(self) -> list[str]:
        """Models of the jobs that were started."""
        return sorted(job.model for job in self.watching.started)

    def close(self) -> None:
        """Give back what it holds."""
        self.front.close()
        self.engine.dispose()
        self.watching.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def alert(number: int, model: str = "alpha", **members: Any) -> dict[str, Any]:
    """An alert as Alertmanager sends it, with the texts and the address of a shipped rule."""
    rule = ALERTS["HoldfastPerturbationRate"]
    return {
        "status": "firing",
        "labels": {
            "alertname": "HoldfastPerturbationRate", "model": model,
            "instance": f"host-{number}.example.org:8080", **rule["labels"],
        },
        "annotations": rule["annotations"],
        "startsAt": "2023-11-14T22:00:00.739266876Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": f"http://prometheus.example.org:9090/graph?g0.expr={quote(rule['expr'])}",
        "fingerprint": f"{number:016x}",
    } | members  # fmt: skip


def body(*alerts: dict[str, Any]) -> bytes:
    """The whole body, as Alertmanager groups them."""
    common = {
        "receiver": "watcher", "status": "firing", "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "version": "4",
        "groupKey": "{}", "truncatedAlerts": 0,
    }  # fmt: skip
    return json.dumps(common | {"alerts": alerts}).encode()


@pytest.mark.parametrize("number", [100, 1000])
def test_many_alerts_in_one_body_are_each_decided_on(desk: Desk, number: int) -> None:
    alerts = [alert(k, MODELS[k % 3]) for k in range(number)]
    assert len(body(*alerts)) <= BODY_BYTES
    began = time.process_time()
    decided = Counter(desk.decisions(*alerts))
    assert decided == {"started": 3, "already_running": number - 3}
    assert time.process_time() - began < 10, "what is the same for all is asked once"
    assert desk.started() == sorted(MODELS)
    total = sum(
        desk.watching.sample(
            "holdfast_alerts_received_total", action="evaluate_robustness", decision=name
        )
        or 0
        for name in decided
    )
    assert total == number
    again = Counter(desk.decisions(*alerts))
    assert again == {"already_handled": 3, "already_running": number - 3}
    over = [each | {"status": "resolved"} for each in alerts]
    assert set(desk.decisions(*over)) == {"resolved"}
    assert len(desk.started()) == 3


def test_a_thousand_alerts_one_after_another_start_one_job(desk: Desk) -> None:
    decided = Counter(desk.decisions(alert(k))[0] for k in range(1000))
    assert decided == {"started": 1, "already_running": 999}
    assert desk.started() == ["alpha"]


def test_the_same_alert_twice_in_a_body_starts_one_job(desk: Desk) -> None:
    assert desk.decisions(alert(1), alert(1)) == ["started", "already_handled"]


def test_alerts_of_a_broken_model_cost_the_others_nothing(desk: Desk, tmp_path: Path) -> None:
    for name in ("aliases.json", "audit.jsonl"):
        zeros(tmp_path / "registry" / "alpha" / name)
    alerts = [alert(k, MODELS[k % 3]) for k in range(30)]
    decided = desk.decisions(*alerts)
    assert set(decided[0::3]) <= {"no_champion", "failed"}
    assert Counter(decided[1::3]) == Counter(decided[2::3]) == {"started": 1, "already_running": 9}
    assert desk.started() == ["beta", "gamma"]


def test_an_alert_whose_decision_raises_has_failed_by_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    consider = desk.watching.watcher.dispatcher.consider

    def broken(event: Event, *rest: Any) -> Any:
        if event.model == "beta":
            raise RuntimeError("out of the blue, with a secret")
        return consider(event, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(desk.watching.watcher.dispatcher, "consider", broken)
        answer = desk.send(*[alert(k, model) for k, model in enumerate(MODELS)])
    assert answer.status_code == 202
    told = answer.get_json()["alerts"]
    assert [each["decision"] for each in told] == ["started", "failed", "started"]
    assert told[1]["place"] == 1
    assert "secret" not in told[1]["why"]
    labels = {"action": "evaluate_robustness", "decision": "failed"}
    assert desk.watching.sample("holdfast_alerts_received_total", **labels) == 1
    assert desk.decisions(alert(1, "beta")) == ["started"], "it may be sent again"


def test_a_locked_store_has_all_sent_again_and_nothing_started_twice(
    desk: Desk, tmp_path: Path
) -> None:
    """Locked before, and by somebody who comes in the middle of the body."""
    alerts = [alert(k, model) for k, model in enumerate(MODELS)]
    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = desk.send(*alerts)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "send them again" in answer.get_json()["detail"]
        assert desk.started() == []
        other.execute("ROLLBACK")
        start = desk.watching.watcher.dispatcher.start_job

        def start_and_lock(job: Any) -> None:
            start(job)
            if job.model == "beta":
                other.execute("BEGIN IMMEDIATE")

        desk.watching.watcher.dispatcher.start_job = start_and_lock
        answer = desk.send(*alerts)
        assert answer.status_code == 503
        other.execute("ROLLBACK")
    other.close()
    assert desk.started() == ["alpha", "beta"]
    desk.again()  # killed meanwhile: what it had not noted, the job says
    for job in desk.watching.jobs.all():
        desk.watching.jobs.change(job.id, state="done", outcome="passed", stage="done")
    desk.watching.now += 86_400 * 2
    assert desk.decisions(*alerts) == ["already_handled", "already_handled", "started"]
    assert desk.started() == sorted(MODELS)


def test_an_alert_whose_job_was_not_taken_may_start_one_again(desk: Desk) -> None:
    start = desk.watching.watcher.dispatcher.start_job

    def refuse(job: Any) -> None:
        raise RuntimeError("no loop")

    desk.watching.watcher.dispatcher.start_job = refuse
    assert desk.decisions(alert(1)) == ["failed"]
    desk.watching.watcher.dispatcher.start_job = start
    desk.watching.now += 86_400 * 2
    assert desk.decisions(alert(1)) == ["started"]


def test_what_is_remembered_of_alerts_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handled_alerts, "KEPT_LEAST", 10)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.sqlite")
    handled, day = HandledAlerts(engine), 86_400.0
    for number in range(30):
        handled.add(f"old-{number}", 0.0)
    handled.add("still sent", 0.0)
    assert handled.find(["still sent", "unknown"], 89 * day) == {"still sent"}
    assert handled.prune(89 * day) == 0
    assert handled.prune(100 * day) == 30
    assert handled.find(["still sent", "old-3"], 100 * day) == {"still sent"}
    for number in range(5):
        handled.add(f"new-{number}", 101 * day)
    assert handled.prune(100_000 * day) == 0, "few are kept: the clock may be wrong"
    engine.dispose()
