"""`holdfast models prune`: versions that nobody needs are removed."""

import shutil
import time
from pathlib import Path

import click
import sqlalchemy as sa

from models.base.errors import HoldfastError, RegistryError
from models.versions.registry import Registry
from models.versions.registry_state import read_instant
from monitoring.loop.jobs import JobStore
from monitoring.records.database import engine_url
from service.cli.changes import actor, reason_option
from service.cli.terminal.output import emit, json_option, table
from service.configuration.settings import Settings

DAY_SECONDS = 86_400.0
OF_A_JOB = "of a job that goes on"


@click.command()
@click.option("--model", "only", help="Of this model only.")
@click.option("--keep", type=click.IntRange(0), default=3, help="So many of the newest others.")
@click.option("--days", type=click.FloatRange(0), default=0.0, help="Only older ones.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason_option()
@json_option
@click.pass_obj
def prune(
    settings: Settings,
    only: str | None,
    keep: int,
    days: float,
    dry_run: bool,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Remove versions that nothing needs, with their evaluations.

    Champion, challenger, previous, anchor, canary, a version whose traffic was accepted, one that
    HOLDFAST_MODELS pins and those of jobs that go on always stay.

    \b
    Example:
      holdfast models prune --keep 5 --dry-run
    """
    registry = Registry(settings.registry_dir, settings.keys)
    models = registry.models() if only is None else (only,)
    rows = [row for model in models for row in _judge(settings, registry, model, keep, days)]
    spare = [row for row in rows if not row["because"]]

    def text() -> str:
        verb = "would be removed" if dry_run else "removed"
        lines = [(r["model"], r["version"], r["because"] or verb, r["bytes"]) for r in rows]
        return table(("model", "version", "kept because", "bytes"), lines)

    if not dry_run and spare:
        names = ", ".join(f"{r['model']}/{r['version']}" for r in spare)
        if not yes:
            click.confirm(f"Remove {names} for good?", abort=True, err=True)
        for row in spare:
            _remove(settings, registry, str(row["model"]), int(str(row["version"])), reason)
    emit(rows, as_json, text)


def _judge(
    settings: Settings, registry: Registry, model: str, keep: int, days: float
) -> list[dict[str, object]]:
    """Each version with why it is kept; empty: nothing needs it."""
    state = registry.state(model)  # where it cannot be read, nothing is known to be spare
    registry.audit(model)
    jobs = _versions_of_jobs(settings, model)
    pinned = {spec.version for spec in settings.model_specs if spec.name == model}
    newest_others, rows = 0, []
    for version in reversed(registry.versions(model)):
        because = state.names_of(version)
        because += ["pinned"] if version in pinned else []
        because += [OF_A_JOB] if version in jobs else []
        if not because:
            newest_others += 1
            because = ["new"] if newest_others <= keep else []
        if not because and days and not _older(registry, model, version, days):
            because = [f"not known to be older than {days:g} days"]
        size = sum(p.stat().st_size for p in registry.path(model, version).rglob("*"))
        rows.append(
            {"model": model, "version": version, "because": ", ".join(because), "bytes": size}
        )
    return rows[::-1]


def _versions_of_jobs(settings: Settings, model: str) -> set[int | None]:
    """The versions that jobs need. Raises HoldfastError where that is not known."""
    engine = sa.create_engine(engine_url(settings.database_url))
    try:
        found = JobStore(engine).unfinished(model)
    except HoldfastError as error:
        raise RegistryError(f"it is not known what jobs need: {error}") from error
    finally:
        engine.dispose()
    return {version for job in found for version in (job.champion, job.challenger)}


def _older(registry: Registry, model: str, version: int, days: float) -> bool:
    try:
        made = read_instant(registry.manifest(model, version).created_at)
    except HoldfastError:
        return False
    return 0 < made < time.time() - days * DAY_SECONDS


def _remove(settings: Settings, registry: Registry, model: str, version: int, reason: str) -> None:
    def find_use() -> list[str]:  # anew: a job may have begun since; jobs are stored with the lock
        return [OF_A_JOB] if version in _versions_of_jobs(settings, model) else []

    registry.remove(model, version, actor=actor(), reason=reason, find_use=find_use)
    evaluations = Path(settings.state) / "evaluations" / model / str(version)
    if evaluations.is_dir():
        shutil.rmtree(evaluations)
