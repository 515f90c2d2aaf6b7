"""How long the loop rests after a run: from its end, and longer with each run that led nowhere.

What fails once may fail again for the same cause, and each try costs a training. So the rest
doubles with every run in a row that led nowhere, up to a day:

    rest_seconds = min(cool_down · 2^(k - 1), 1 day)   after k runs in a row that led nowhere

A run that succeeds ends the row, and so does a person who acts. What a person tries counts for
nothing here, unless it succeeds.

Clocks are set back. A time that lies in the future is not believed: what it belongs to is left out.
"""

from collections.abc import Iterable

import msgspec

from monitoring.loop.jobs import Job

DAY = 86_400.0
ROBUSTNESS = "evaluate_robustness"
NOWHERE = (
    "failed",
    "inconclusive",
    "refused",
    "abandoned",
    "rejected",
    "expired",
    "rolled_back",
)
SUCCESS = ("passed", "promoted")
PERSONS_SUCCESS = (*SUCCESS, "reported")  # what a hold or the mode lets come of it
LEAST_SECONDS = 1.0  # that the doubling begins with where no cool-down is asked for
MOST_DOUBLINGS = 40


class Rest(msgspec.Struct, frozen=True):
    """Since when the loop rests (seconds since 1970; None: it does not), and after what.

    `failures` are the runs in a row that led nowhere; `promoted` says that it rests since the
    champion became it.
    """

    since: float | None = None
    failures: int = 0
    promoted: bool = False

    def seconds(self, cool_down_seconds: float) -> float:
        """How long the rest lasts in all.

        >>> [Rest(0.0, k).seconds(300.0) for k in (0, 1, 2, 3, 99)]
        [300.0, 300.0, 600.0, 1200.0, 86400.0]
        """
        if not self.failures:
            return cool_down_seconds
        doubled = max(cool_down_seconds, LEAST_SECONDS) * 2.0 ** min(
            self.failures - 1, MOST_DOUBLINGS
        )
        return max(cool_down_seconds, min(doubled, DAY))

    def left(self, cool_down_seconds: float, now: float) -> float:
        """Seconds that are left of it at `now`; 0 where it is over."""
        if self.since is None or self.since > now:
            return 0.0
        return max(0.0, self.since + self.seconds(cool_down_seconds) - now)

    def words(self, cool_down_seconds: float, now: float) -> str:
        """How long it still lasts and why, for people.

        >>> Rest(0.0, 3).words(300.0, now=100.0)
        '19 min left of 20 min, after 3 runs in a row that led nowhere'
        >>> Rest(0.0, promoted=True).words(300.0, now=100.0)
        '4 min left of 5 min, since the champion became it'
        """
        left, whole = self.left(cool_down_seconds, now), self.seconds(cool_down_seconds)
        lasting = f"{_duration(left)} left of {_duration(whole)}"
        if self.failures > 1:
            return f"{lasting}, after {self.failures} runs in a row that led nowhere"
        return f"{lasting}, since {'the champion became it' if self.promoted else 'the last run'}"


def find_rest(jobs: Iterable[Job], acts: Iterable[float], reign: float | None, now: float) -> Rest:
    """The rest after the jobs of a model.

    Args:
        jobs: of the model, in any order; those that have not ended do not count, nor those that
            only look at robustness: who attacks must not let the loop rest, nor begin it anew.
        acts: when persons released, promoted or rolled back, seconds since 1970.
        reign: when the champion took the place of another, seconds since 1970, or None.
        now: seconds since 1970.
    """
    ended = [
        (at, job)
        for job in jobs
        if job.kind != ROBUSTNESS and (at := end_of(job)) is not None and at <= now
    ]
    ended.sort(key=lambda each: each[0], reverse=True)
    last = ended[0][0] if ended else None
    promoted = reign is not None and reign <= now and (last is None or reign > last)
    acted = max(acts, default=0.0)
    failures = count_failures(job for at, job in ended if at > acted)
    return Rest(reign if promoted else last, failures, promoted)


def count_failures(newest_first: Iterable[Job]) -> int:
    """Runs in a row that led nowhere, up to the first that did not."""
    failures = 0
    for job in newest_first:
        by_person = job.source == "person"
        if job.outcome in (PERSONS_SUCCESS if by_person else SUCCESS):
            break
        failures += not by_person and job.outcome in NOWHERE
    return failures


def end_of(job: Job) -> float | None:
    """When a job ended, seconds since 1970; None while it has not."""
    if job.state != "done":
        return None
    return job.updated_at if job.ended_at is None else job.ended_at  # None: before this was kept


def _duration(seconds: float) -> str:
    """Rounded up to a unit that fits.

    >>> [_duration(s) for s in (0.2, 119.0, 121.0, 7200.0, 7201.0)]
    ['1 s', '119 s', '3 min', '120 min', '3 h']
    """
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 0)):
        count = -int(-seconds // size)
        if count <= most or not most:
            return f"{count} {unit}"
    raise AssertionError
