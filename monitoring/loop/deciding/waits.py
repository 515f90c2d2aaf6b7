"""Why a model is not retrained yet: everything that stands in the way now, with its numbers."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from models.versions.registry import Registry
from monitoring.evidence.labels.watch import Harm
from monitoring.loop.deciding.standing import find_reign, find_situation
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.triggers import Policy, Refusal, Situation
from monitoring.records.keeping.limits import NO_INPUTS
from monitoring.records.store import RecordStore
from monitoring.records.usable import Quota

Reason = Refusal | Literal["tried_already"]
NOT_KNOWN = "whether its answers got worse is not known: no label was weighed yet"


class Wait(msgspec.Struct, frozen=True):
    """One reason why a model is not retrained yet.

    Args:
        reason: the name of the refusal that a trigger would get; or `tried_already`: a run would
            look at the rows, and train only where they are others than those of its last training.
        sentence: the same in words, with the numbers.
        value, needed: what is there, and what it takes; None where that is no number.
        until: when it ends by itself, seconds since 1970; None: not by itself.
    """

    reason: Reason
    sentence: str
    value: float | None = None
    needed: float | None = None
    until: float | None = None


class Needs(msgspec.Struct, frozen=True):
    """What bounds a retraining: the triggers' policy, and the labels that it takes."""

    policy: Policy = Policy()
    min_labels: int = 300
    quota: Quota = Quota()


def find_waits(
    model: str,
    registry: Registry,
    jobs: JobStore,
    records: RecordStore,
    pinned: int | None,
    needs: Needs,
    harm: Harm | None,
    since: float | None,
    now: float,
) -> list[Wait]:
    """All that stands in the way of a retraining of a model; empty: the next look starts a run.

    Args:
        model: its name.
        registry, jobs, records: where it stands.
        pinned: the version that is served whatever the champion.
        needs: of a retraining.
        harm: what its labels say; None: nothing is known.
        since: when its window begins, seconds since 1970; None: nothing has moved or got worse.
        now: seconds since 1970.
    """
    situation = find_situation(model, registry, jobs, pinned, now)
    waits = list_waits(situation, jobs.unfinished(model), needs.policy, harm, now)
    if since is not None and situation.champion is not None:
        usable = records.usable(model, version=situation.champion, since=since, quota=needs.quota)
        if len(usable) < needs.min_labels:
            words = usable.words_of(needs.min_labels, "that retraining needs")
            words += f": {NO_INPUTS}" if records.has_inputs(model) is False else ""
            wait = Wait("not_enough_labels", words, len(usable), needs.min_labels)
            waits.insert(len(waits) and 1, wait)
        reign = 0.0 if pinned is not None else find_reign(registry, model).since
        begun = jobs.begun(model, after=reign if reign <= now else 0.0, until=now)
        latest = find_latest(begun, situation.champion)
        if latest is not None and latest.tried:
            waits.append(Wait("tried_already", latest.tried))
    return waits


def find_latest(jobs: Iterable[Job], champion: int) -> Job | None:
    """The newest run of a champion that has ended and whose labels were refereed; None without one.

    One that came to its end before that says nothing about a retraining.
    """
    ended = (j for j in jobs if j.champion == champion and j.state == "done")
    runs = (job for job in ended if job.window is not None)
    return max(runs, key=lambda job: job.created_at, default=None)


def list_waits(
    situation: Situation, unfinished: Iterable[Job], policy: Policy, harm: Harm | None, now: float
) -> list[Wait]:
    """What stands in the way besides labels that are missing: evidence first, then order."""
    waits = [*_evidence(harm)]
    if situation.champion is None:
        waits = [Wait("no_champion", situation.damage or "it has no champion")]
    if situation.pinned is not None:
        waits.append(Wait("pinned", f"HOLDFAST_MODELS pins it to version {situation.pinned}"))
    if (hold := situation.hold) is not None:
        waits.append(Wait("held", hold.words(), until=hold.until))
    for job in unfinished:
        what = f"waits at {job.stage!r}" if job.state == "waiting" else f"is at {job.stage!r}"
        waits.append(Wait("already_running", f"job {job.id} {what}"))
    if situation.runs_today >= policy.daily_budget:
        words = f"{situation.runs_today} of {policy.daily_budget} runs in the last 24 hours"
        budget = float(policy.daily_budget)
        waits.append(Wait("daily_budget", words, situation.runs_today, budget))
    if (left := situation.rest.left(policy.cool_down_seconds, now)) > 0:
        words = situation.rest.words(policy.cool_down_seconds, now)
        clock = f"{datetime.fromtimestamp(now + left, UTC):%H:%M:%S} UTC"
        waits.append(Wait("cool_down", f"cool-down until {clock} ({words})", until=now + left))
    return waits


def _evidence(harm: Harm | None) -> list[Wait]:
    """Why harm is not known to be there."""
    if harm is None or not harm.labels:
        return [Wait("not_harmed", NOT_KNOWN, 0.0)]
    if harm.alarm is None:
        value, needed = round(harm.evidence_log10, 2), round(harm.threshold_log10, 2)
        words = f"harm evidence {value:.1f} of {needed:.1f} (powers of ten) in {harm.labels} labels"
        return [Wait("not_harmed", words, value, needed)]
    return [Wait("labels_biased", harm.doubt)] if harm.doubt else []


def waits_text(waits: Iterable[Wait]) -> str:
    """All reasons as one sentence; what comes next where there are none.

    >>> waits_text([Wait("held", "held by ada"), Wait("cool_down", "cool-down until 12:05")])
    'not retrained yet: held by ada; cool-down until 12:05'
    """
    sentences = "; ".join(wait.sentence for wait in waits)
    return f"not retrained yet: {sentences}" if sentences else "nothing stands in the way now"
