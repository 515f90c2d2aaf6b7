"""Reads the webhooks of Alertmanager (version 4) and Grafana (version 1) into events.

Only labels are used: `action` says what to do, `model` with which model. Senders repeat their
alerts, so an alert that has started a job is recognised by fingerprint and start, and starts no
second one. An alert that cannot be read does not affect the others of its body.

Sources: Prometheus, "Alerting configuration", `<webhook_config>`; Grafana, "Configure the webhook
notifier for Alerting", whose alerts have the members of Alertmanager's and some more.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from models.base.errors import InputError
from models.base.json_body import decode_body
from monitoring.loop.triggers import Event

SENDERS = {"4": "Alertmanager", "1": "Grafana"}  # by the version that a body states


class Alert(msgspec.Struct, frozen=True):
    """One alert of a body; only the members that are used."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str
    startsAt: str
    annotations: dict[str, str] | None = None

    @property
    def key(self) -> str:
        """The identity of the alert: a repetition has the same key."""
        return f"{self.fingerprint}@{self.startsAt}"

    def event(self, models: tuple[str, ...]) -> Event:
        """Return the event of the alert; without a `model` label it is about the only model."""
        model = self.labels.get("model") or (models[0] if len(models) == 1 else "")
        name = self.labels.get("alertname", "alert")
        summary = (self.annotations or {}).get("summary", "")
        return Event(
            source="alert",
            model=model,
            action=self.labels.get("action", ""),
            since=datetime.fromisoformat(self.startsAt).timestamp(),
            reason=f"{name}: {summary}" if summary else name,
            resolved=self.status == "resolved",
        )


class _Body(msgspec.Struct, frozen=True):
    """The body of a webhook; each alert stays JSON until it is read by itself."""

    version: str
    alerts: list[msgspec.Raw]
    truncatedAlerts: int | None = None


_body = msgspec.json.Decoder(_Body)
_alert = msgspec.json.Decoder(Alert)


class UnreadableAlert(NamedTuple):
    """An alert that cannot be read: its place in the body, and why."""

    place: int
    error: InputError


class Payload(NamedTuple):
    """The content of a body: alerts by place, unreadable ones, and how many the sender cut."""

    sender: str
    alerts: Mapping[int, Alert]
    unreadable: tuple[UnreadableAlert, ...] = ()
    truncated: int = 0


def parse(body: bytes) -> Payload:
    """Decode and check a body.

    Raises:
        InputError: it is no webhook of a version that is known.
    """
    webhook = decode_body(_body, body)
    if webhook.version not in SENDERS:
        raise InputError("version", "4 (Alertmanager) or 1 (Grafana)", webhook.version[:20])
    alerts, unreadable = {}, []
    for place, raw in enumerate(webhook.alerts):
        try:
            alerts[place] = _read_alert(bytes(raw), f"alerts[{place}]")
        except InputError as error:
            unreadable.append(UnreadableAlert(place, error))
    sender, truncated = SENDERS[webhook.version], webhook.truncatedAlerts or 0
    return Payload(sender, alerts, tuple(unreadable), truncated)


def _read_alert(raw: bytes, field: str) -> Alert:
    alert = decode_body(_alert, raw, field)
    if not alert.fingerprint:
        raise InputError(f"{field}.fingerprint", "what makes it the same alert", "an empty text")
    if not _is_rfc3339(alert.startsAt):
        raise InputError(f"{field}.startsAt", "an RFC 3339 time", alert.startsAt[:40])
    return alert


def _is_rfc3339(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None  # without: this machine's own zone
    except ValueError:
        return False
