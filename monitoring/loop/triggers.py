"""When the loop runs: a pure decision from an event and what is known now.

Two promises: drift says that inputs moved, harm that answers got worse. Where labels show within a
cool-down that drift does no harm, it starts nothing. Where they do not, it starts one
re-evaluation, which says "moved, not harmed", or goes on to training where it fails; after that
only harm or a person starts more for the same alarm. Requests that look attacked start an
evaluation of robustness and never a training. A refusal has a name, so that it can be
counted and shown. A person is obeyed: what bounds the loop's own eagerness (a hold, the budget, the
rest after a run, doubt about labels) is no bound for people.
"""

from typing import Literal

import msgspec

from models.versions.registry_state import Hold
from monitoring.loop.cooling import DAY as DAY
from monitoring.loop.cooling import ROBUSTNESS as ROBUSTNESS
from monitoring.loop.cooling import Rest

Kind = Literal["evaluate", "evaluate_robustness", "retrain"]
Source = Literal["drift", "perturbation", "alert", "accuracy", "schedule", "person"]
Refusal = Literal[
    "already_running",
    "held",
    "cool_down",
    "daily_budget",
    "no_champion",
    "not_enough_labels",
    "looked_already",
    "not_harmed",
    "labels_biased",
    "resolved",
    "unknown_action",
    "pinned",
    "already_handled",
]


class Event(msgspec.Struct, frozen=True):
    """Something that may start the loop.

    `since` is when the cause began and `raised` when its alarm was raised or last renewed, in
    seconds since 1970; `doubt` says why its labels are not believed, `harmless` why
    drift does no harm.
    """

    source: Source
    model: str
    action: str
    since: float
    reason: str
    resolved: bool = False
    raised: float | None = None
    doubt: str = ""
    harmless: str = ""


class Situation(msgspec.Struct, frozen=True):
    """What is known of the model now; times in seconds since 1970."""

    champion: int | None
    running: str | None  # id of the job that runs
    looked_at: float | None  # when the champion was last re-evaluated
    runs_today: int  # that the loop began by itself
    verdict: str = ""  # of that re-evaluation
    pinned: int | None = None  # the version that is served whatever the champion
    waiting: str | None = None  # id of a job that waits for a person
    hold: Hold | None = None  # in force
    rest: Rest = Rest()
    damage: str = ""  # why the champion is not known
    robustness_today: int = 0  # runs that only looked at robustness, begun by the loop itself
    robustness_at: float | None = None  # when the champion's robustness was last looked at


class Policy(msgspec.Struct, frozen=True):
    """Limits on the loop's own eagerness."""

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

    A person's event is refused only for what cannot be done: an unknown action, a pin, no champion,
    a job that is at it already.

    >>> event = Event("drift", "digits", "evaluate", since=90.0, reason="energy higher")
    >>> idle = Situation(1, None, None, 0)
    >>> decide(event, idle, Policy(), now=390.0).start
    'evaluate'
    >>> decide(event, msgspec.structs.replace(idle, running="j1"), Policy(), now=390.0).refusal
    'already_running'
    """
    if event.resolved:
        return _refuse("resolved", "the alert is over")
    if event.action not in ACTIONS:
        return _refuse("unknown_action", f"action {event.action!r} is none of {', '.join(ACTIONS)}")
    if situation.pinned is not None:
        return _refuse("pinned", _explain_pin(event.model, situation.pinned))
    if situation.champion is None:
        missing = f"model {event.model!r} has no champion to judge"
        return _refuse("no_champion", situation.damage or missing)
    by_person, hold = event.source == "person", situation.hold
    if hold is not None and not by_person and _stops(hold, event):
        return _refuse("held", f"{hold.words()}; `holdfast models release {event.model}` ends that")
    if busy := _busy(event, situation):
        return _refuse("already_running", busy)
    kind: Kind = event.action
    if by_person:
        return Decision(kind, None, event.reason)
    if event.doubt:
        return _refuse("labels_biased", event.doubt)
    if _looked_already(event, situation):
        return _refuse("looked_already", _explain_look(event, situation))
    if event.harmless:
        return _refuse("not_harmed", event.harmless)
    if waits := _waits_for_labels(event, policy, now):
        return _refuse("not_enough_labels", waits)
    runs = situation.robustness_today if kind == ROBUSTNESS else situation.runs_today
    if runs >= policy.daily_budget:
        return _refuse("daily_budget", f"{runs} runs in the last 24 hours")
    if situation.rest.left(policy.cool_down_seconds, now) > 0:
        return _refuse("cool_down", situation.rest.words(policy.cool_down_seconds, now))
    return Decision(kind, None, event.reason)


def _looked_already(event: Event, situation: Situation) -> bool:
    """Whether the champion was re-evaluated after the alarm.

    Drift needs no second look at all, nor does an alert that is sent again. Harm is looked at again
    until a look does not confirm it.
    """
    raised = event.since if event.raised is None else event.raised
    if event.action == ROBUSTNESS and event.source in ("perturbation", "alert"):
        return situation.robustness_at is not None and situation.robustness_at >= raised
    if situation.looked_at is None or situation.looked_at < raised:
        return False
    if event.source == "accuracy":
        return situation.verdict == "passed"
    return event.source == "drift" or (event.source == "alert" and event.action == "evaluate")


def _waits_for_labels(event: Event, policy: Policy, now: float) -> str:
    """Why a look at drift is put off, in words; empty where it is not.

    Labels tell drift from harm better than a look that comes before them.
    """
    waited = now - (event.since if event.raised is None else event.raised)
    if event.source != "drift" or not 0 <= waited < policy.cool_down_seconds:
        return ""
    left = policy.cool_down_seconds - waited
    return f"labels since the alarm do not tell yet whether it harms; looks anyhow in {left:.0f} s"


def _explain_look(event: Event, situation: Situation) -> str:
    if event.action == ROBUSTNESS:
        return "robustness was evaluated again after this alarm, which is still on"
    return (
        f"the champion was re-evaluated after this alarm ({situation.verdict}): "
        "only evidence of harm, or a person, starts more"
    )


def _stops(hold: Hold, event: Event) -> bool:
    """Whether a hold stops the loop's own event: after a rollback it looks, and does not train."""
    return hold.stops == "everything" or event.action == "retrain"


def _busy(event: Event, situation: Situation) -> str:
    """What is at it already, in words; empty where nothing is in the way.

    A challenger that waits for a person stops no evaluation: only another challenger.
    """
    if situation.running is not None:
        return f"job {situation.running} is at it"
    if situation.waiting is not None and event.action == "retrain":
        return (
            f"job {situation.waiting} waits for approval: answer it first "
            f"(`holdfast jobs approve {situation.waiting}`, or `reject`)"
        )
    return ""


def _explain_pin(model: str, version: int) -> str:
    return (
        f"HOLDFAST_MODELS pins model {model!r} to version {version}: nothing that the loop makes "
        "would be served; take the pin out first"
    )


def _refuse(name: Refusal, detail: str) -> Decision:
    return Decision(None, name, detail)
