"""What the watcher does with each alert of a webhook: one decision each, counted and told."""

from collections.abc import Callable
from typing import Any

from models.errors import InputError
from monitoring.logs import logger
from monitoring.triggers import ACTIONS
from monitoring.watcher import Watcher
from monitoring.webhook import Alert, HandledAlerts, Payload

UNKNOWN = "unknown"
UNREADABLE = "unreadable"
MOST_TOLD = 10
log = logger("alerts")


def decide_alerts(
    payload: Payload, watcher: Watcher, handled: HandledAlerts, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Decide on each alert, in the order of the body; start what is to be started.

    What could not be read, and what the sender left out for want of room, is logged: an alert that
    nobody acts on must be seen by somebody.

    Returns:
        For each alert its `fingerprint` and the `decision`; for one that could not be read its
        `place` and `why`.

    Raises:
        InputError: none of the alerts could be read.
    """
    if payload.truncated:
        log.warning("alerts_truncated", sender=payload.sender, alerts=payload.truncated)
    known = watcher.registry.models()
    decided: dict[int, dict[str, Any]] = {}
    for place, alert in payload.alerts.items():
        decision = _decide(alert, known, watcher, handled, clock)
        decided[place] = {"fingerprint": alert.fingerprint, "decision": decision}
    for place, error in payload.unreadable:
        why = str(error)
        log.warning("alert_unreadable", sender=payload.sender, place=place, why=ascii(why)[1:-1])
        watcher.metrics.alerts.labels(UNKNOWN, UNREADABLE).inc()
        decided[place] = {"place": place, "decision": UNREADABLE, "why": why}
    if payload.unreadable and not payload.alerts:
        raise _refusal([error for _, error in payload.unreadable])
    return [decided[place] for place in sorted(decided)]


def _refusal(errors: list[InputError]) -> InputError:
    """The one error, or all of them in one."""
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(str(error) for error in errors[:MOST_TOLD])
    return InputError("alerts", "at least one that can be read", told)


def _decide(
    alert: Alert,
    models: tuple[str, ...],
    watcher: Watcher,
    handled: HandledAlerts,
    clock: Callable[[], float],
) -> str:
    event = alert.event(models)
    if alert.key in handled:
        decision = "already_handled"
    else:
        outcome = watcher.dispatcher.consider(event, clock())
        decision = "started" if outcome.start else str(outcome.refusal)
        if outcome.start:
            handled.add(alert.key)
    action = event.action if event.action in ACTIONS else UNKNOWN
    watcher.metrics.alerts.labels(action, decision).inc()
    return decision
