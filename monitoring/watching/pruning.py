"""What the watcher removes when it is old: records, and files and rows of jobs."""

import shutil
from collections.abc import Callable
from pathlib import Path

from models.base.logs import logger
from monitoring.loop.jobs import JobStore
from monitoring.loop.supervisor import forget_workflows
from monitoring.records.keeping.limits import Kept
from monitoring.records.keeping.prune import DAY_SECONDS
from monitoring.records.store import RecordStore

ROWS_KEPT = 50  # the newest jobs of each model, of whatever age: what decisions look back at
AT_ONCE = 100  # rows, so that others write in between


def prune_state(state: Path, kept: Kept, records: RecordStore, jobs: JobStore, now: float) -> None:
    """Remove what is beyond the limits; a fault of records does not keep jobs, nor the other way.

    Args:
        state: the state directory.
        kept: the limits.
        records, jobs: the stores.
        now: seconds since 1970.

    Raises:
        StoreError, OSError: records, or files of jobs, could not be removed, or not all.
        SQLAlchemyError, DBOSException: rows of jobs could not be removed.
    """
    before = now - kept.job_days * DAY_SECONDS
    try:
        records.prune(kept)
    finally:
        if kept.job_days:
            try:
                prune_jobs(state / "jobs", jobs, before)
            finally:
                prune_rows(jobs, before)


def prune_jobs(folder: Path, jobs: JobStore, before: float) -> list[str]:
    """Remove the files of jobs that have ended and were last written before then (epoch s).

    Windows of live rows are among them.

    Returns:
        The ids of these jobs.

    Raises:
        OSError: those of some jobs could not be removed; the others' are.
    """
    if not folder.is_dir():
        return []
    old = [path for path in folder.iterdir() if path.is_dir() and _is_older(path, before)]
    busy = {job.id for job in jobs.unfinished()} if old else set()
    gone, faults = list[str](), list[str]()
    for path in old:
        if path.name in busy:
            continue
        try:
            shutil.rmtree(path)
        except OSError as error:
            faults.append(f"{path.name}: {error}")
            continue
        logger("records").info("job_files_removed", job=path.name)
        gone.append(path.name)
    if faults:
        raise OSError(f"files of old jobs cannot be removed: {'; '.join(faults)}")
    return gone


def prune_rows(
    jobs: JobStore,
    before: float,
    forget: Callable[[list[str]], None] = forget_workflows,
) -> list[str]:
    """Remove the rows of jobs that ended before then (epoch s), and what DBOS keeps of them.

    The newest 50 of each model stay, and all that began under the champion of its newest job: the
    loop looks at them before it trains again.

    Returns:
        The ids of these jobs.
    """
    old, stay = jobs.ended(before), dict[str, tuple[set[str], int]]()
    for model in {job.model for job in old}:
        newest = jobs.all(model, ROWS_KEPT)
        stay[model] = {job.id for job in newest}, newest[0].champion
    spare = [
        job.id
        for job in old
        if (job.ended_at or job.updated_at) < before
        and job.id not in stay[job.model][0]
        and job.champion != stay[job.model][1]
    ]
    for first in range(0, len(spare), AT_ONCE):
        part = spare[first : first + AT_ONCE]
        forget(part)  # first: a row that is left over is found again
        jobs.remove(part)
    if spare:
        logger("records").info("job_rows_removed", count=len(spare), oldest=spare[-1])
    return spare


def _is_older(folder: Path, before: float) -> bool:
    """Whether all in a folder was written before then; not where somebody changes it now."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < before
    except OSError:
        return False
