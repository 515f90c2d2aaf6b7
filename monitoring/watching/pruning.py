"""What the watcher removes of the state directory when it is old: records, and files of jobs."""

import shutil
from pathlib import Path

from models.base.logs import logger
from monitoring.loop.jobs import JobStore
from monitoring.records.keeping.limits import Kept
from monitoring.records.keeping.prune import DAY_SECONDS
from monitoring.records.store import RecordStore


def prune_state(state: Path, kept: Kept, records: RecordStore, jobs: JobStore, now: float) -> None:
    """Remove what is beyond the limits; a fault of records does not keep jobs, nor the other way.

    Args:
        state: the state directory.
        kept: the limits.
        records, jobs: the stores.
        now: seconds since 1970.

    Raises:
        StoreError, OSError: records, or files of jobs, could not be removed, or not all.
    """
    try:
        records.prune(kept)
    finally:
        if kept.job_days:
            prune_jobs(state / "jobs", jobs, now - kept.job_days * DAY_SECONDS)


def prune_jobs(folder: Path, jobs: JobStore, before: float) -> list[str]:
    """Remove the files of jobs that have ended and were last written before then (epoch s).

    Windows of live rows are among them. The jobs stay listed, without their page.

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


def _is_older(folder: Path, before: float) -> bool:
    """Whether all in a folder was written before then; not where somebody changes it now."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < before
    except OSError:
        return False
