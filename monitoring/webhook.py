"""The Alertmanager webhook, version 4: from its JSON to events.

Acts on labels only: `action` says what to do and `model` with what. Alertmanager repeats and
retries, so replays are normal; an alert that has started a job is remembered by fingerprint and
start, and starts no second one.
"""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from models.errors import InputError
from monitoring.triggers import Event


class Alert(msgspec.Struct, frozen=True):
    """One alert of the payload; members that are not used are not listed."""

    status: str
    labels: dict[str, str]
    fingerprint: str
    startsAt: str
    annotations: dict[str, str] = {}

    @property
    def key(self) -> str:
        """What makes it the same alert."""
        return f"{self.fingerprint}@{self.startsAt}"

    def event(self, models: tuple[str, ...]) -> Event:
        """The event it stands for; without a `model` label it means the only model there is."""
        model = self.labels.get("model") or (models[0] if len(models) == 1 else "")
        name = self.labels.get("alertname", "alert")
        summary = self.annotations.get("summary", "")
        return Event(
            source="alert",
            model=model,
            action=self.labels.get("action", ""),
            since=datetime.fromisoformat(self.startsAt).timestamp(),
            reason=f"{name}: {summary}" if summary else name,
            resolved=self.status == "resolved",
        )


class Payload(msgspec.Struct, frozen=True):
    """The webhook's body."""

    version: str
    alerts: list[Alert]


def parse(body: bytes) -> Payload:
    """Decode and check a body. Raises InputError."""
    try:
        payload = msgspec.json.decode(body, type=Payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("body", "an Alertmanager webhook, version 4", str(error)) from error
    if payload.version != "4":
        raise InputError("version", "4", payload.version[:20])
    for index, alert in enumerate(payload.alerts):
        if not _is_rfc3339(alert.startsAt):
            field = f"alerts[{index}].startsAt"
            raise InputError(field, "an RFC 3339 time", alert.startsAt[:40])
    return payload


def _is_rfc3339(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None  # without: this machine's own zone
    except ValueError:
        return False


_METADATA = sa.MetaData()
HANDLED = sa.Table("alerts_handled", _METADATA, sa.Column("key", sa.String, primary_key=True))


class HandledAlerts:
    """Keys of the alerts that have started a job, kept in the database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        _METADATA.create_all(engine)

    def __contains__(self, key: str) -> bool:
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(HANDLED.c.key).where(HANDLED.c.key == key))
            return found.first() is not None

    def add(self, key: str) -> None:
        """Remember a key."""
        if key not in self:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(HANDLED).values(key=key))
