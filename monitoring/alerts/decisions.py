"""What the watcher does with each alert of a webhook: one decision each, counted and answered.

An alert that cannot be decided on, for example because its model is broken, gets the decision
`failed` and does not affect the others. If the store is away, the sender gets an error and sends
all alerts again. Alerts that have started a job are recognised then, because the job has the
alert's key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from models.base.errors import InputError, RegistryError
from models.base.logs import logger
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.alerts.webhook import Alert, Payload
from monitoring.loop.jobs import Job
from monitoring.loop.triggers import ACTIONS, Event
from monitoring.records.database import StoreError
from monitoring.watching.harm import attack_event
from monitoring.watching.problems import in_words
from monitoring.watching.watcher import Watcher

UNKNOWN = "unknown"
UNREADABLE = "unreadable"
FAILED = "failed"
DRIFT_ALERT = "HoldfastDrift"
ATTACK_ALERT = "HoldfastPerturbationRate"
STORE_ERRORS = (StoreError, sa.exc.DBAPIError, sa.exc.TimeoutError)
# Refusals that hold for all alerts of a model that ask for the same, whenever they began.
SHARED = frozenset(
    ("already_running", "held", "cool_down", "daily_budget", "no_champion", "pinned")
)
MOST_ERRORS = 10  # in the words of one refusal
log = logger("alerts")


class UndecidedError(StoreError):
    """The store is away, and alerts are left undecided: send them again."""

    def __init__(self, undecided: int, error: Exception) -> None:
        super().__init__(
            f"{undecided} alerts are not decided on, send them again: {in_words(error)}"
        )


class AlertDecision(msgspec.Struct, frozen=True):
    """The decision on a readable alert; `place` and `why` only where it is `failed`."""

    fingerprint: str
    decision: str
    place: int | msgspec.UnsetType = msgspec.UNSET
    why: str | msgspec.UnsetType = msgspec.UNSET


class UnreadableDecision(msgspec.Struct, frozen=True):
    """An alert that could not be read: its place in the body, and why."""

    place: int
    decision: str
    why: str


def decide_alerts(
    payload: Payload, watcher: Watcher, handled: HandledAlerts, clock: Callable[[], float]
) -> list[AlertDecision | UnreadableDecision]:
    """Decide on each alert, in the order of the body, and start jobs.

    Alerts that cannot be read, and the number that the sender left out, are logged: somebody must
    see the alerts that nothing acts on.

    Returns:
        A decision for each alert, in the order of the body.

    Raises:
        InputError: none of the alerts could be read.
        UndecidedError: the store is away.
    """
    if payload.truncated:
        log.warning("alerts_truncated", sender=payload.sender, alerts=payload.truncated)
    decisions: dict[int, AlertDecision | UnreadableDecision] = {}
    desk = _Desk(watcher, handled, clock())
    try:
        desk.prepare(payload)
        for place, alert in payload.alerts.items():
            decisions[place] = desk.decide(place, alert)
    except STORE_ERRORS as error:
        undecided = len(payload.alerts) - len(decisions)
        log.error("alerts_undecided", sender=payload.sender, alerts=undecided, why=in_words(error))
        raise UndecidedError(undecided, error) from error
    for place, fault in payload.unreadable:
        why = str(fault)
        log.warning("alert_unreadable", sender=payload.sender, place=place, why=ascii(why)[1:-1])
        watcher.metrics.alerts.labels(UNKNOWN, UNREADABLE).inc()
        decisions[place] = UnreadableDecision(place, UNREADABLE, why)
    if payload.unreadable and not payload.alerts:
        raise _refusal([fault for _, fault in payload.unreadable])
    return [decisions[place] for place in sorted(decisions)]


def _refusal(errors: list[InputError]) -> InputError:
    """Return the only error, or one error with the words of all."""
    if len(errors) == 1:
        return errors[0]
    sentences = "; ".join(str(error) for error in errors[:MOST_ERRORS])
    return InputError("alerts", "at least one that can be read", sentences)


@dataclass
class _Desk:
    """Decides on the alerts of one body; what several alerts share is read once."""

    watcher: Watcher
    handled: HandledAlerts
    now: float
    models: tuple[str, ...] = ()
    handled_keys: set[str] = field(default_factory=set)  # of alerts that have started a job
    started: dict[str, set[str]] = field(default_factory=dict)  # by model, as its jobs say
    refusals: dict[tuple[str, str], str] = field(default_factory=dict)  # by model and action

    def prepare(self, payload: Payload) -> None:
        """Read what all alerts need. Raises where the store is away."""
        try:
            self.models = self.watcher.registry.models()
        except (OSError, RegistryError) as error:
            log.error("registry_unread", why=in_words(error))
            self.models = self.watcher.watched.names
        keys = [alert.key for alert in payload.alerts.values()]
        self.handled_keys = self.handled.find(list(dict.fromkeys(keys)), self.now)

    def decide(self, place: int, alert: Alert) -> AlertDecision:
        """Decide on one alert. Raises where the store is away."""
        event = alert.event(self.models)
        try:
            decision = AlertDecision(alert.fingerprint, self._decide(alert))
        except STORE_ERRORS:
            raise
        except Exception as error:
            decision = AlertDecision(alert.fingerprint, FAILED, place, in_words(error))
            log.exception("alert_failed", model=ascii(event.model)[1:-1], place=place)
        action = event.action if event.action in ACTIONS else UNKNOWN
        self.watcher.metrics.alerts.labels(action, decision.decision).inc()
        return decision

    def _echo(self, alert: Alert) -> Event:
        """The event of an alert; our own alerts are echoes of what the watcher knows.

        That of drift waits for labels and is called harmless as the alarm itself, which starts what
        it is for; so does the alarm of attacks.
        """
        event = alert.event(self.models)
        stream = self.watcher.streams.get(event.model)
        if stream is not None and alert.labels.get("alertname") == ATTACK_ALERT:
            return (None if event.resolved else attack_event(stream)) or event
        ours = alert.labels.get("alertname") == DRIFT_ALERT and not event.resolved
        if not ours or stream is None or stream.alarm_since is None:
            return event
        return msgspec.structs.replace(
            event, source="drift", since=stream.alarm_since, harmless=stream.harmless
        )

    def _decide(self, alert: Alert) -> str:
        event = self._echo(alert)
        if not event.resolved and self._has_started(event.model, alert.key):
            return "already_handled"
        wish = event.model, "resolved" if event.resolved else event.action
        if (shared := self.refusals.get(wish)) is not None:
            self.watcher.metrics.count_refusal(event.model, shared)
            return shared
        decision = self.watcher.dispatcher.consider(event, self.now, {"alert": alert.key})
        if decision.start is None:
            refusal = str(decision.refusal)
            if refusal in SHARED:
                self.refusals[wish] = refusal
            return refusal
        self.handled_keys.add(alert.key)
        try:
            self.handled.add(alert.key, self.now)
            self.handled.prune(self.now)
        except STORE_ERRORS as error:  # the job has the key as well
            log.warning("alert_not_noted", key=alert.key, why=in_words(error))
        return "started"

    def _has_started(self, model: str, key: str) -> bool:
        if key in self.handled_keys:
            return True
        if model not in self.started:
            jobs = self.watcher.jobs.all(model) if model in self.models else []
            self.started[model] = {str(job.options.get("alert")) for job in jobs if _counts(job)}
        return key in self.started[model]


def _counts(job: Job) -> bool:
    """Whether the job counts as started by its alert; a failed or abandoned one does not."""
    return job.outcome not in ("failed", "abandoned")
