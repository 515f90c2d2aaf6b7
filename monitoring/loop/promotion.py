"""What the loop does to the registry: promote, watch the new champion, bring the old one back.

Each may be asked for twice (a crash between the deed and its record) and is done once. What a
person did meanwhile is told and left as it is.
"""

from models.base.errors import ChampionMovedError
from models.versions.registry import AuditRecord, Registry
from models.versions.registry_state import HeldError
from monitoring.loop.jobs import Job

ACTOR = "lifecycle"


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
            approved=job.answer is not None and job.answer.approved,
        )
    except ChampionMovedError as error:
        return "refused", str(error)
    except HeldError as error:
        return "reported", str(error)
    return None


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
