"""Laws of the webhook: Alertmanager's own payloads are read, others refused by name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.alerts.webhook import parse

# As Alertmanager 0.25 sends it (nanoseconds, zero endsAt, members that nobody here reads).
PAYLOAD: dict[str, Any] = {
    "receiver": "holdfast",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "action": "evaluate",
                "alertname": "HoldfastDrift",
                "model": "digits",
                "severity": "warning",
            },
            "annotations": {"summary": "The input has drifted.", "runbook_url": "https://x/y"},
            "startsAt": "2024-05-03T09:52:26.739266876+02:00",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=holdfast_drift_alarm",
            "fingerprint": "c0ffee1234567890",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "HoldfastPerturbation", "action": "evaluate_robustness"},
            "annotations": {},
            "startsAt": "2024-05-03T07:00:00Z",
            "endsAt": "2024-05-03T07:10:00Z",
            "generatorURL": "",
            "fingerprint": "0123456789abcdef",
        },
    ],
    "groupLabels": {"alertname": "HoldfastDrift"},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "version": "4",
    "groupKey": '{}:{alertname="HoldfastDrift"}',
    "truncatedAlerts": 0,
}


def changed(**members: Any) -> bytes:
    """The payload with other members."""
    return json.dumps(PAYLOAD | members).encode()


def with_alert(**members: Any) -> bytes:
    """The payload with another first alert."""
    first = PAYLOAD["alerts"][0] | members
    return changed(alerts=[{k: v for k, v in first.items() if v is not None}])


def test_payload_becomes_events() -> None:
    firing, resolved = parse(changed()).alerts.values()
    event = firing.event(("digits", "other"))
    assert (event.source, event.model, event.action) == ("alert", "digits", "evaluate")
    assert event.since == pytest.approx(1714722746.739266)
    assert event.reason == "HoldfastDrift: The input has drifted."
    assert not event.resolved
    over = resolved.event(("digits",))
    assert over.resolved
    assert (over.model, over.reason) == ("digits", "HoldfastPerturbation"), (
        "the only model is meant"
    )
    assert resolved.event(("digits", "other")).model == "", "which one is not said"


def test_key_is_fingerprint_and_start() -> None:
    one = parse(changed()).alerts[0]
    again = parse(with_alert(annotations={"summary": "other words"})).alerts[0]
    assert one.key == again.key == "c0ffee1234567890@2024-05-03T09:52:26.739266876+02:00"
    assert parse(with_alert(startsAt="2024-05-03T09:52:27Z")).alerts[0].key != one.key
    assert parse(with_alert(fingerprint="f")).alerts[0].key != one.key


def test_alert_without_labels_or_annotations_means_nothing() -> None:
    (alert,) = parse(with_alert(labels={}, annotations=None)).alerts.values()
    event = alert.event(("digits",))
    assert (event.action, event.reason) == ("", "alert")


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (b"", "body", "an empty body"),
        (b"{", "body", "truncated"),
        (b"[]", "body", "array"),
        (b"\xff\xfe", "body", "body: expected"),
        (b'{"version": "\xff", "alerts": []}', "body", "body: expected"),
        (b"{}", "version", "is missing"),
        (b'{"version": "4"}', "alerts", "is missing"),
        (b'{"version": 4, "alerts": []}', "version", "expected str, got int"),
        (changed(version="3"), "version", r"expected 4 \(Alertmanager\) or 1 \(Grafana\), got 3"),
        (changed(version="9" * 500), "version", "got 99999999999999999999$"),
        (changed(alerts={}), "alerts", "expected array"),
        (b'{"version": "4", "alerts": ' + b"[" * 5000 + b"]" * 5000 + b"}", "body", "nesting"),
        (with_alert(fingerprint=None), "alerts[0].fingerprint", "is missing"),
        (with_alert(fingerprint=""), "alerts[0].fingerprint", "an empty text"),
        (with_alert(startsAt=None), "alerts[0].startsAt", "is missing"),
        (with_alert(labels={"model": 3}), "alerts[0].labels[...]", "expected str, got int"),
        (with_alert(status="alerting"), "alerts[0].status", "alerting"),
        (with_alert(status="x" * 10_000), "alerts[0].status", "xxx"),
        (with_alert(startsAt=""), "alerts[0].startsAt", "RFC 3339"),
        (with_alert(startsAt="yesterday"), "alerts[0].startsAt", "got yesterday"),
        (with_alert(startsAt="2024-05-03T09:52:26"), "alerts[0].startsAt", "RFC 3339"),
        (with_alert(startsAt="2024-05-03"), "alerts[0].startsAt", "RFC 3339"),
        (with_alert(startsAt="0001-01-01T00:00:00"), "alerts[0].startsAt", "RFC 3339"),
        (with_alert(startsAt="2024-13-03T09:52:26Z"), "alerts[0].startsAt", "RFC 3339"),
    ],
)
def test_what_does_not_fit_is_named(body: bytes, field: str, says: str) -> None:
    try:
        ((_, error),) = parse(body).unreadable
    except InputError as refusal:
        error = refusal
    assert error.field == field
    assert re.search(says, str(error))
    assert len(str(error)) < 400


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda t: with_alert(startsAt=t)))
)
def test_any_bytes_are_either_refused_or_make_events(body: bytes) -> None:
    try:
        payload = parse(body)
    except InputError:
        return
    for alert in payload.alerts.values():
        alert.event(("digits",))


def test_handled_alerts_are_remembered_across_restarts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'watch.db'}"
    handled = HandledAlerts(sa.create_engine(url))
    assert handled.find(["a@1"]) == set()
    handled.add("a@1")
    handled.add("a@1")
    assert handled.find(["a@1", "a@2"]) == {"a@1"}
    assert HandledAlerts(sa.create_engine(url)).find(["a@1"]) == {"a@1"}
