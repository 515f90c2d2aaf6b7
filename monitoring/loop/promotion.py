"""What the loop does to the registry: promote, watch the new champion, bring the old one back.

Each may be asked for twice (a crash between the deed and its record) and is done once. What a
person did meanwhile is told and left as it is.
"""

import time
from collections.abc import Callable, Iterable

from models.base.errors import ChampionMovedError
from models.statistics.shadow import Shadowed, Verdict, decided
from models.versions.registry import AuditRecord, Registry
from models.versions.registry_state import Canary, HeldError
from monitoring.loop.jobs import Job
from monitoring.loop.steps import Latest
from monitoring.loop.terms import terms_of

ACTOR = "lifecycle"
SPARE_SECONDS = 5.0


def promote(registry: Registry, job: Job, challenger: int) -> tuple[str, str] | None:
    """Compare-and-swap the champion; outcome and detail where another one took its place.

    A job promotes once: where somebody has taken its champion back since, that stays.
    """
    if promoted_by(registry, job) is not None:
        return None
    try:
        registry.promote(
            job.model,
            challenger,
            expected=job.champion,
            actor=ACTOR,
            reason=job.reason,
            event=job.id,
            # Only the challenger knows the labels that were followed: to hold the next ones
            # against a version that is wrong on them would hide what they lose elsewhere.
            approved=bool(job.followed) or (job.answer is not None and job.answer.approved),
        )
    except ChampionMovedError as error:
        return "refused", str(error)
    except HeldError as error:
        return "reported", str(error)
    return None


def judge_shadow(job: Job, challenger: int, seen: Shadowed | None) -> tuple[str, str] | None:
    """Outcome and detail where a challenger is not promoted after its time in the shadow.

    A comparison that was lost is none: what it might have shown is not known.
    """
    if seen is not None and seen.verdict == "worse":
        return "refused", seen.words()
    lost = job.uncompared.get("shadow")
    if lost and (seen is None or seen.verdict != "no worse"):
        by_hand = f"`holdfast models promote {job.model} {challenger}`"
        return "inconclusive", f"not compared in the shadow: {lost}; to promote it: {by_hand}"
    return None


def begin_canary(registry: Registry, job: Job, challenger: int) -> tuple[str, str] | None:
    """Let the challenger answer a share of the requests; outcome and detail where it may not.

    It ends by itself a little after the time that the job has for it, whatever becomes of the
    watcher.
    """
    terms = terms_of(job)
    seconds = terms.canary_seconds - job.waited.get("canary", 0.0) + SPARE_SECONDS
    canary = Canary(challenger, terms.canary, time.time() + seconds, job.id)
    try:
        registry.begin_canary(
            job.model, canary, expected=job.champion, actor=ACTOR, reason=job.reason
        )
    except ChampionMovedError as error:
        return (
            None if registry.aliases(job.model).champion == challenger else ("refused", str(error))
        )
    except HeldError as error:
        return "reported", str(error)
    return None


def watch_canary(registry: Registry, job: Job, latest: Latest) -> Callable[[], Verdict | None]:
    """A function that gives the verdict on a canary, None before.

    Where a person has ended it, the verdict stays `not known`.
    """

    def look() -> Verdict | None:
        canary = registry.state(job.model).canary
        if canary is None or canary.event != job.id:
            return "not known"
        return None if (shown := decided(latest())) is None else shown.verdict

    return look


def end_canary(registry: Registry, job: Job, seen: Shadowed | None) -> str:
    """Send nobody to the challenger any more; returns what the canary has shown."""
    words = "no request was compared" if seen is None else seen.words()
    registry.end_canary(job.model, job.id, actor=ACTOR, reason=words)
    return words


def judge_canary(
    job: Job, challenger: int, verdict: Verdict | None, words: str
) -> tuple[str, str] | None:
    """Outcome and detail where the challenger is not promoted; None is for no verdict in time.

    Where a person ended the canary, the promotion finds what to do.
    """
    if verdict is None:
        by_hand = f"`holdfast models promote {job.model} {challenger}`"
        return "inconclusive", f"{words}; a person may promote it: {by_hand}"
    return ("refused", words) if verdict == "worse" else None


def promoted_by(registry: Registry, job: Job) -> int | None:
    """The version that the job has made champion, if it has come to that."""
    ours = (r for r in registry.audit(job.model) if r.event == job.id and r.action == "promote")
    return next((record.version for record in ours), None)


def replaced_by(registry: Registry, job: Job, challenger: int) -> str | None:
    """Who made another version the champion since the job promoted its own, and why; or None."""
    if registry.aliases(job.model).champion == challenger:
        return None
    changes = [r for r in _since_promotion(registry, job) if r.aliases.champion != challenger]
    if not changes:
        return f"version {challenger} is not the champion any more"
    first = changes[0]
    return (
        f"{first.action} of version {first.aliases.champion} by {first.actor!r} at {first.at}"
        + (first.reason and f": {first.reason}")
    )


def roll_back(registry: Registry, job: Job, challenger: int, why: str) -> str:
    """Bring the previous champion back, unless somebody else has changed it meanwhile."""
    if registry.aliases(job.model).champion == job.champion:
        return why  # rolled back already, before this step's result was kept
    try:
        registry.rollback(job.model, expected=challenger, actor=ACTOR, reason=why)
    except ChampionMovedError as error:
        return f"{why}; not rolled back: {error}"
    return why


def held_words(registry: Registry, job: Job) -> str | None:
    """Who holds the model, until when and why; or None."""
    hold = registry.find_hold(job.model)
    return None if hold is None else hold.words()


def against_training(registry: Registry, job: Job, unfinished: Iterable[Job]) -> str | None:
    """Why a failed evaluation is only reported: a hold, or a challenger that waits."""
    if (held := held_words(registry, job)) and job.source != "person":
        return f"{held}: nothing is trained until `holdfast models release {job.model}`"
    others = (other for other in unfinished if other.id != job.id)
    waiting = (other for other in others if other.challenger is not None or other.changes)
    other = next(waiting, None)
    if other is None:
        return None
    what = "changed labels" if other.challenger is None else f"challenger {other.challenger}"
    return f"nothing is trained while job {other.id} has {what} waiting"


def challenger_of(registry: Registry, job: Job) -> int | None:
    """The version that the job has made, noted in it or not yet."""
    if job.challenger is not None:
        return job.challenger
    made = (r.version for r in registry.audit(job.model) if r.event == job.id)
    return next(made, None)


def withdraw(registry: Registry, job: Job, reason: str) -> None:
    """The job's version is no longer the challenger; nothing where it made none."""
    version = challenger_of(registry, job)
    if version is not None:
        registry.withdraw(job.model, version, actor=ACTOR, reason=reason)


def _since_promotion(registry: Registry, job: Job) -> list[AuditRecord]:
    audit = registry.audit(job.model)
    ours = [k for k, r in enumerate(audit) if r.event == job.id and r.action == "promote"]
    return list(audit[ours[-1] + 1 :]) if ours else []
