"""What the watcher removes of the state directory when it is old: records, and files of jobs."""

import shutil
from pathlib import Path

from models.base.logs import logger
from monitoring.loop.jobs import JobStore
from monitoring.records.keeping.limits import Kept
from monitoring.records.keeping.prune import DAY_SECONDS
from monitoring.records.store import RecordStore


def prune_state(state: Path, kept: Kept, records: RecordStore, jobs: JobStore, now: float) -> None:
    """Remove what is beyond the limits.

    Args:
        state: the state directory.
        kept: the limits.
        records, jobs: the stores.
        now: seconds since 1970.

    Raises:
        StoreError, OSError: it could not be removed, or not all.
    """
    records.prune(kept)
    if kept.job_days:
        prune_jobs(state / "jobs", jobs, now - kept.job_days * DAY_SECONDS)


def prune_jobs(folder: Path, jobs: JobStore, before: float) -> list[str]:
    """Remove the files of jobs that have ended and were last written before then (epoch s).

    Windows of live rows are among them. The jobs stay listed, without their page.

    Returns:
        The ids of these jobs.
    """
    if not folder.is_dir():
        return []
    old = [path for path in folder.iterdir() if path.is_dir() and _written(path) < before]
    busy = {job.id for job in jobs.unfinished()} if old else set()
    gone = [path for path in old if path.name not in busy]
    for path in gone:
        shutil.rmtree(path)
        logger("records").info("job_files_removed", job=path.name)
    return [path.name for path in gone]


def _written(folder: Path) -> float:
    """When anything in a folder was written last, seconds since 1970."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
