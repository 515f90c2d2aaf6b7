"""Waits of a job: bounded by the time that has passed, whatever the wall clock says.

What has passed is counted on the monotonic clock and kept in the job, so that a wait goes on after
a restart where it was. The time in which no watcher runs is not counted.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from monitoring.loop.jobs import JobStore

Result = TypeVar("Result")
POLL_SECONDS = 1.0
KEEP_SECONDS = 15.0  # at most that much is waited again after a kill


def wait_for(
    look: Callable[[], Result | None],
    *,
    jobs: JobStore,
    job_id: str,
    name: str,
    seconds: float,
    beat: Callable[[], None],
    rest: Callable[[float], None],
) -> Result | None:
    """What `look` gives, or None after `seconds`.

    Args:
        look: called about once a second; anything but None ends the wait.
        jobs: where what has passed is kept.
        job_id: whose wait it is.
        name: of the wait; a job has one of each.
        seconds: how long, in all its parts.
        beat: called whenever it moves.
        rest: sleeps so many seconds; raises to leave.
    """
    passed = kept = jobs.get(job_id).waited.get(name, 0.0)
    while True:
        mark = time.monotonic()
        if (result := look()) is not None:
            return result
        if passed >= seconds:
            return None
        rest(min(POLL_SECONDS, max(seconds - passed, 0.0)))
        beat()
        passed += time.monotonic() - mark
        if passed - kept >= KEEP_SECONDS:
            jobs.advance(job_id, waited=jobs.get(job_id).waited | {name: passed})
            kept = passed
