"""How a model stands now: what a decision of the loop rests on, from registry and jobs.

Times that lie in the future are left out: the clock was set back since.
"""

from typing import NamedTuple

from models.base.errors import RegistryError, UnknownModelError
from models.versions.registry import Registry
from models.versions.registry_state import State, read_instant
from monitoring.loop.cooling import find_rest
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.triggers import DAY, ROBUSTNESS, Situation

PERSONS_ACTS = ("promote", "approve", "rollback", "release")
FIRST_PAGE, LONGEST_PAGE = 50, 5000  # jobs of a model that are looked through


class Reign(NamedTuple):
    """What the audit tells of the champion, in seconds since 1970.

    `since` is 0 where nothing is known; `replaced` says whether it took another's place; `acts`
    are the times at which persons changed something.
    """

    since: float = 0.0
    replaced: bool = False
    acts: tuple[float, ...] = ()


def find_situation(
    model: str, registry: Registry, jobs: JobStore, pinned: int | None, now: float
) -> Situation:
    """What a decision about a model rests on.

    Args:
        model: its name.
        registry, jobs: where champion, holds and runs stand.
        pinned: the version that is served whatever the champion.
        now: seconds since 1970.
    """
    damage = ""
    try:
        state = registry.state(model)
    except UnknownModelError:
        state = State()
    except RegistryError as error:
        state, damage = State(), str(error)
    champion, reign = state.aliases.champion, find_reign(registry, model)
    open_jobs = jobs.unfinished(model)
    past = _past(jobs, model, champion, reign, now)
    seen = [
        (job.kind, job.evaluation)
        for job in past
        if job.champion == champion and job.evaluation and job.evaluation.at <= now
    ]
    looks = [look for kind, look in seen if kind != ROBUSTNESS]
    attacked = [look.at for kind, look in seen if kind == ROBUSTNESS]
    today = [j for j in jobs.begun(model, after=now - DAY, until=now) if j.source != "person"]
    return Situation(
        champion=champion,
        running=next((j.id for j in open_jobs if j.state == "running"), None),
        waiting=next((j.id for j in open_jobs if j.state == "waiting"), None),
        looked_at=max((look.at for look in looks), default=None),
        verdict=max(looks, key=lambda look: look.at).verdict if looks else "",
        runs_today=sum(job.kind != ROBUSTNESS for job in today),
        robustness_today=sum(job.kind == ROBUSTNESS for job in today),
        robustness_at=max(attacked, default=None),
        pinned=pinned,
        hold=state.find_hold(now),
        rest=find_rest(past, reign.acts, reign.since if reign.replaced else None, now),
        damage=damage,
    )


def find_reign(registry: Registry, model: str) -> Reign:
    """What the audit tells of the champion; of a damaged one nothing."""
    try:
        audit = registry.audit(model)
    except RegistryError:
        return Reign()
    changed, replaced, champion, acts = 0.0, False, None, []
    for record in audit:
        at = read_instant(record.at)
        if record.by_person and record.action in PERSONS_ACTS:
            acts.append(at)
        if record.action == "new_audit":  # of before nothing is known
            changed, replaced, champion = 0.0, False, record.aliases.champion
        elif record.aliases.champion != champion:
            changed, replaced = at, champion is not None
            champion = record.aliases.champion
    return Reign(changed, replaced, tuple(acts))


def _past(jobs: JobStore, model: str, champion: int | None, reign: Reign, now: float) -> list[Job]:
    """The newest jobs of a model, as many as it takes to know how it stands.

    Enough are those back to the last look at this champion and to the last success; what a
    person starts, however often, hides neither.
    """
    limit, begun = FIRST_PAGE, reign.since if reign.since <= now else 0.0
    while True:
        found = jobs.begun(model, until=now, limit=limit)
        known = [job for job in found if job.kind != ROBUSTNESS]
        looked = any(job.champion == champion and job.evaluation for job in known)
        settled = any(job.outcome in ("passed", "promoted") for job in known)
        whole = len(found) < limit or found[-1].created_at < begun
        if whole or (looked and settled) or limit >= LONGEST_PAGE:
            return found
        limit *= 4
