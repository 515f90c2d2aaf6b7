"""Laws of the watcher's `POST /alerts`, on the real application: one decision for each alert."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from werkzeug.test import Client

from models.versions.registry import Registry
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Policy
from monitoring.records.store import RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan
from service.access.guard import watch_guard_of
from service.configuration.settings import load
from service.watcher import calls as watch_calls
from service.web.front import Front, RequestBounds
from tests import bundles
from tests.asgi import client_of
from tests.monitoring.alerts.test_webhook import PAYLOAD

TOKEN = {"Authorization": "Bearer alert-token-of-the-tests"}
NOW = 1714722800.0
# As Grafana 11 sends it: Alertmanager's members, its own beside them, and version 1.
GRAFANA: dict[str, Any] = {
    "receiver": "holdfast",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "resolved",
            "labels": {
                "alertname": "Drift", "grafana_folder": "Models", "action": "evaluate",
                "model": "digits",
            },
            "annotations": {"summary": "The input has drifted."},
            "startsAt": "2024-05-03T07:52:00Z",
            "endsAt": "2024-05-03T08:00:00Z",
            "generatorURL": "http://grafana:3000/alerting/grafana/abc/view?orgId=1",
            "fingerprint": "57c6d9296de2ad39",
            "silenceURL": "http://grafana:3000/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
            "values": None,
            "valueString": "[ var='B' labels={} value=7.1 ]",
        }
    ],
    "groupLabels": {"alertname": "Drift"},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://grafana:3000/",
    "version": "1",
    "groupKey": '{}:{alertname="Drift"}',
    "truncatedAlerts": 0,
    "title": "[RESOLVED] Drift",
    "state": "ok",
    "message": "**Resolved**",
}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("watched")
    bundles.publish(made / "registry")
    return made


@pytest.fixture
def started() -> list[Job]:
    return []


@pytest.fixture
def watcher(state: Path, tmp_path: Path, started: list[Job]) -> Iterator[Watcher]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    records = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy())
    registry = Registry(state / "registry")
    yield Watcher(plan, registry, records, JobStore(engine), WatchMetrics(), started.append)
    records.close()
    engine.dispose()


@pytest.fixture
def client(watcher: Watcher, tmp_path: Path) -> Iterator[Client]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/handled.sqlite")
    env = {"HOLDFAST_STATE": str(tmp_path)}
    for name in ("admin", "alert"):
        file = tmp_path / name
        file.write_text(f"{name}-token-of-the-tests")
        env[f"HOLDFAST_{name.upper()}_TOKEN_FILE"] = str(file)
    calls = watch_calls.endpoints(watcher, HandledAlerts(engine), lambda: NOW)
    front = Front(calls, watch_guard_of(load(env)), lambda *_: None, RequestBounds(2**20))
    yield client_of(front)
    front.close()
    engine.dispose()


def alert(**members: Any) -> dict[str, Any]:
    return PAYLOAD["alerts"][0] | members


def sent(client: Client, *alerts: Any, **members: Any) -> Any:
    return client.post("/alerts", json=PAYLOAD | {"alerts": alerts} | members, headers=TOKEN)


def count(watcher: Watcher, action: str, decision: str) -> float | None:
    labels = {"action": action, "decision": decision}
    return watcher.metrics.registry.get_sample_value("holdfast_alerts_received_total", labels)


def test_a_bad_alert_does_not_refuse_its_group(client: Client, watcher: Watcher) -> None:
    before = count(watcher, "unknown", "unreadable")
    assert before == 0
    with capture_logs() as logged:
        answer = sent(
            client,
            alert(startsAt="yesterday"), alert(status="resolved"), alert(labels={"model": 3}), 7,
        )  # fmt: skip
    assert answer.status_code == 202
    decided = answer.get_json()["alerts"]
    assert [each["decision"] for each in decided] == [
        "unreadable", "resolved", "unreadable", "unreadable",
    ]  # fmt: skip
    assert "alerts[0].startsAt" in decided[0]["why"]
    assert (decided[0]["place"], decided[1]["fingerprint"]) == (0, "c0ffee1234567890")
    assert count(watcher, "unknown", "unreadable") == 3
    assert count(watcher, "evaluate", "resolved") == 1
    assert [line["event"] for line in logged].count("alert_unreadable") == 3


def test_a_group_of_nothing_but_bad_alerts_is_a_400_that_names_them_all(
    client: Client, watcher: Watcher
) -> None:
    one = sent(client, alert(startsAt="yesterday"))
    assert one.status_code == 400
    assert "alerts[0].startsAt: expected an RFC 3339 time, got yesterday" in one.text
    two = sent(client, alert(startsAt="yesterday"), alert(fingerprint=""))
    assert two.status_code == 400
    assert "alerts[0].startsAt" in two.text
    assert "alerts[1].fingerprint" in two.text
    assert count(watcher, "unknown", "unreadable") == 3


def test_grafanas_webhook_is_read_as_alertmanagers(client: Client, started: list[Job]) -> None:
    answer = client.post("/alerts", json=GRAFANA, headers=TOKEN)
    assert answer.status_code == 202
    assert answer.get_json() == {
        "alerts": [{"fingerprint": "57c6d9296de2ad39", "decision": "resolved"}]
    }
    firing = GRAFANA["alerts"][0] | {"status": "firing"}
    firing["labels"] = firing["labels"] | {"action": "evaluate_robustness"}
    body = GRAFANA | {"alerts": [firing]}
    decisions = [
        client.post("/alerts", json=body, headers=TOKEN).get_json()["alerts"][0]["decision"]
        for _ in range(2)
    ]
    assert decisions == ["started", "already_handled"]
    assert [(job.kind, job.source) for job in started] == [("evaluate_robustness", "alert")]


def test_another_version_is_refused_by_name(client: Client) -> None:
    answer = sent(client, alert(), version="2")
    assert answer.status_code == 400
    assert "4 (Alertmanager) or 1 (Grafana), got 2" in answer.get_json()["detail"]


def test_alerts_that_the_sender_left_out_are_logged(client: Client) -> None:
    with capture_logs() as logged:
        assert sent(client, alert(status="resolved"), truncatedAlerts=17).status_code == 202
    (line,) = (line for line in logged if line["event"] == "alerts_truncated")
    assert (line["alerts"], line["sender"], line["log_level"]) == (17, "Alertmanager", "warning")


def test_a_model_that_is_none_is_refused_by_the_decision(client: Client) -> None:
    for name in ("nobody", "../../etc", "a\x00b", "a" * 300):
        labels = {"action": "evaluate", "model": name}
        (decided,) = sent(client, alert(labels=labels)).get_json()["alerts"]
        assert decided["decision"] == "no_champion"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer alert-token-of-the-tests", 202),
        ("bearer alert-token-of-the-tests", 202),
        ("BEARER   alert-token-of-the-tests ", 202),
        ("Bearer\talert-token-of-the-tests", 202),
        ("Bearer admin-token-of-the-tests", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("alert-token-of-the-tests", 401),
        ("Basic alert-token-of-the-tests", 401),
        ("", 401),
    ],
)
def test_the_scheme_is_read_in_any_case_and_with_any_blanks(
    client: Client, given: str, status: int
) -> None:
    body = PAYLOAD | {"alerts": [alert(status="resolved")]}
    answer = client.post("/alerts", json=body, headers={"Authorization": given})
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/alerts", "/jobs", "/models/digits/promote"])
def test_json_nested_without_end_is_a_400(client: Client, path: str) -> None:
    token = {
        "Authorization": f"Bearer {'alert' if path == '/alerts' else 'admin'}-token-of-the-tests"
    }
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 5000 + "1" + closing * 5000
        for body in (deep, f'{{"version": "4", "alerts": {deep}}}', f'{{"reason": {deep}}}'):
            answer = client.post(path, data=body, headers=token)
            assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("path", ["/alerts", "/jobs", "/models/digits/promote"])
def test_what_any_address_is_sent_gives_no_5xx(client: Client, path: str) -> None:
    token = {
        "Authorization": f"Bearer {'alert' if path == '/alerts' else 'admin'}-token-of-the-tests"
    }
    for body in (b"\xff", b"\xef\xbb\xbf", b"[]", b"null", b"NaN", b'{"version": NaN}', b'{"a"'):
        assert client.post(path, data=body, headers=token).status_code == 400


def test_a_byte_order_mark_and_nulls_are_skipped(client: Client, started: list[Job]) -> None:
    text = json.dumps({"model": "digits", "kind": "retrain", "reason": None, "options": None})
    token = {"Authorization": "Bearer admin-token-of-the-tests"}
    answer = client.post("/jobs", data=b"\xef\xbb\xbf" + text.encode(), headers=token)
    assert answer.status_code == 202, answer.text
    assert [job.reason for job in started] == ["asked for by a person"]
    body = b"\xef\xbb\xbf" + json.dumps(PAYLOAD).encode()
    assert client.post("/alerts", data=body, headers=TOKEN).status_code == 202
