"""Whether the watcher works, as its `/readyz` says.

The watcher is ready if it has completed a look at counters and evidence not long ago. A look that
hangs or fails and a dead thread show in the same way: time passes and no look is completed.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

LEAST_SECONDS = 60.0  # as the alert HoldfastWatcherStale
INTERVALS = 5
READY = "ready"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the watcher is ready; `since` and `reason` are set only where it is not.

    Times are RFC 3339 in UTC; `last_look` is None before the first one is complete.
    """

    status: str  # "ready", or what is wrong
    since: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    last_look: str | None
    limit_seconds: float

    @property
    def is_ready(self) -> bool:
        """Whether the last completed look is fresh."""
        return self.status == READY


@dataclass
class Pulse:
    """Notes when looks begin, end and fail; any thread may read it.

    >>> pulse = Pulse(interval_seconds=2.0)
    >>> pulse.report().status
    'the watcher has not completed a look yet'
    >>> pulse.begin(); pulse.end(); pulse.report().status
    'ready'

    Args:
        interval_seconds: planned between two looks.
        clock: seconds that only grow, whatever is done to the time of day.
        now: seconds since 1970.
    """

    interval_seconds: float
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _started: float = field(init=False)
    _ended: float | None = None
    _began: float | None = None
    _failure: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def begin(self) -> None:
        """A look begins."""
        with self._lock:
            self._began = self.clock()

    def end(self) -> None:
        """The look is complete."""
        with self._lock:
            self._ended, self._began, self._failure = self.clock(), None, ""

    def fail(self, error: BaseException) -> None:
        """The look ended with an error; its text may be secret, so it is only in the log."""
        with self._lock:
            self._began, self._failure = None, type(error).__name__

    @property
    def limit_seconds(self) -> float:
        """How old the last completed look may be."""
        return max(LEAST_SECONDS, INTERVALS * self.interval_seconds)

    def report(self) -> Readiness:
        """Say whether the last completed look is fresh, and what is wrong where it is not."""
        with self._lock:
            clock, ended, began = self.clock(), self._ended, self._began
            failure, started = self._failure, self._started
        age = None if ended is None else clock - ended
        last_look = None if age is None else self._render_time(age)
        if age is not None and age <= self.limit_seconds:
            return Readiness(status=READY, last_look=last_look, limit_seconds=self.limit_seconds)
        status = "the watcher has not completed a look yet"
        if age is not None:
            status = f"the watcher completed its last look {age:.0f} s ago"
        since = clock - started if age is None else age
        return Readiness(
            status=status,
            since=self._render_time(since),
            reason=_reason(None if began is None else clock - began, failure),
            last_look=last_look,
            limit_seconds=self.limit_seconds,
        )

    def _render_time(self, age: float) -> str:
        at = datetime.fromtimestamp(self.now() - age, UTC)
        return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _reason(under_way_seconds: float | None, failure: str) -> str:
    if under_way_seconds is not None:
        return f"a look has been under way for {under_way_seconds:.0f} s"
    if failure:
        return f"the last look failed ({failure}); the watcher's log says more"
    return "no look is under way"
