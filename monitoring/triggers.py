"""When the loop runs: a pure decision from an event and what is known now.

A ladder, not a jump: drift or low accuracy starts a re-evaluation; only a failed re-evaluation
retrains. A refusal has a name, so that it can be counted and shown.
"""

from typing import Literal

import msgspec

Kind = Literal["evaluate", "evaluate_robustness", "retrain"]
Source = Literal["drift", "alert", "accuracy", "schedule", "person"]
Refusal = Literal[
    "already_running",
    "cool_down",
    "daily_budget",
    "no_champion",
    "not_enough_labels",
    "resolved",
    "unknown_action",
    "pinned",
    "already_handled",
]
DAY = 86_400.0


class Event(msgspec.Struct, frozen=True):
    """Something that may start the loop. `since` is when the cause began, seconds since 1970."""

    source: Source
    model: str
    action: str
    since: float
    reason: str
    resolved: bool = False


class Situation(msgspec.Struct, frozen=True):
    """What is known of the model now; times in seconds since 1970."""

    champion: int | None
    running: str | None  # id of the job that runs
    labels_since: int  # labelled rows of the champion since the event's cause began
    judged_at: float | None  # when the champion was last re-evaluated with a verdict
    looked_at: float | None  # when it was last re-evaluated at all
    runs_today: int
    labels_seen: int = 0  # labelled rows that the last re-evaluation had
    pinned: int | None = None  # the version that is served whatever the champion


class Policy(msgspec.Struct, frozen=True):
    """Limits on the loop's own eagerness."""

    min_labels: int = 300
    cool_down_seconds: float = 300.0
    daily_budget: int = 20


class Decision(msgspec.Struct, frozen=True):
    """Start a job of `kind`, or refuse and say why."""

    start: Kind | None
    refusal: Refusal | None
    detail: str


ACTIONS: tuple[Kind, ...] = ("evaluate", "evaluate_robustness", "retrain")


def decide(event: Event, situation: Situation, policy: Policy, now: float) -> Decision:
    """Whether `event` starts a job.

    A person overrides the cool-down and the label count, never a pin, a running job or the budget.

    >>> event = Event("drift", "digits", "evaluate", since=90.0, reason="energy higher")
    >>> idle = Situation(1, None, 500, None, None, 0)
    >>> decide(event, idle, Policy(), now=100.0).start
    'evaluate'
    >>> decide(event, msgspec.structs.replace(idle, running="j1"), Policy(), now=100.0).refusal
    'already_running'
    """
    if event.resolved:
        return _refuse("resolved", "the alert is over")
    if event.action not in ACTIONS:
        return _refuse("unknown_action", f"action {event.action!r} is none of {', '.join(ACTIONS)}")
    if situation.pinned is not None:
        return _refuse("pinned", _pinned(event.model, situation.pinned))
    if situation.champion is None:
        return _refuse("no_champion", f"model {event.model!r} has no champion to judge")
    if situation.running is not None:
        return _refuse("already_running", f"job {situation.running} is at it")
    if situation.runs_today >= policy.daily_budget:
        return _refuse("daily_budget", f"{situation.runs_today} runs in the last 24 hours")
    kind: Kind = event.action
    if event.source == "person":
        return Decision(kind, None, event.reason)
    if _cooling(situation, policy, now):
        return _refuse("cool_down", f"judged less than {policy.cool_down_seconds:g} s ago")
    if event.source == "drift" and situation.looked_at is not None:
        # One look at once, whatever the labels; the next ones when there is twice as much to see.
        have, need = situation.labels_since, max(policy.min_labels, 2 * situation.labels_seen)
        if situation.looked_at >= event.since and have < need:
            words = f"{have} labelled rows since the alarm, {need} needed"
            return _refuse("not_enough_labels", words)
    return Decision(kind, None, event.reason)


def _pinned(model: str, version: int) -> str:
    return (
        f"HOLDFAST_MODELS pins model {model!r} to version {version}: nothing that the loop makes "
        "would be served; take the pin out first"
    )


def _cooling(situation: Situation, policy: Policy, now: float) -> bool:
    judged = situation.judged_at
    return judged is not None and now - judged < policy.cool_down_seconds


def _refuse(name: Refusal, detail: str) -> Decision:
    return Decision(None, name, detail)
