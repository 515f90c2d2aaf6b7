"""How often a client may call, and how many of its calls may be under way.

The rate is a token bucket of `burst` calls that fills at `rate` calls a second. It is kept as one
number per client, the time at which the bucket is full again (the *theoretical arrival time* of
the generic cell rate algorithm, ITU-T I.371). In every window of t seconds at most
burst + rate t calls of a client are admitted, over all workers of the host.
"""

import time
from pathlib import Path
from typing import NamedTuple

from models.base.bounded import Bounded
from models.base.logs import logger
from service.access.limit_table import LimitTable
from service.configuration.settings import Settings
from service.web.errors import TooManyError

SECOND = 1_000_000_000  # nanoseconds
KEYS = 4096  # clients whose key is not made anew
ROWS_PER_WORKER, LEAST_ROWS = 4, 64  # old and new workers overlap on a reload


class Bucket(NamedTuple):
    """The token bucket as arithmetic on integers, so that rounding admits no extra call."""

    interval_ns: int  # in which one call flows in; 0: any rate
    burst: int

    @classmethod
    def of(cls, rate_per_second: float, burst: int) -> "Bucket":
        """Return the bucket of a rate; 0 means no limit."""
        interval = -int(-SECOND // rate_per_second) if rate_per_second else 0
        return cls(interval, burst)

    def admit(self, full_ns: int, now_ns: int) -> tuple[int, int]:
        """Return when the bucket is full after one more call, and how long to wait for it (ns).

        Args:
            full_ns: when the bucket is full, as returned last time; 0 for a new client.
            now_ns: the time on the same clock; never earlier than at the call before.

        >>> bucket = Bucket.of(2.0, 2)  # one in half a second, two at once
        >>> bucket.admit(0, 10 * SECOND)
        (10500000000, 0)
        >>> bucket.admit(10_500_000_000, 10 * SECOND)
        (11000000000, 0)
        >>> bucket.admit(11_000_000_000, 10 * SECOND)
        (11000000000, 500000000)
        """
        # A clock that began anew (the machine did) leaves times far ahead: more than empty is none.
        full_ns = min(max(full_ns, now_ns), now_ns + self.burst * self.interval_ns)
        wait = full_ns - (self.burst - 1) * self.interval_ns - now_ns
        if wait > 0:
            return full_ns, wait
        return full_ns + self.interval_ns, 0


class ClientLimits:
    """The limits of all clients; `enter` before a call, `leave` after it.

    Args:
        rate_per_second: calls of a client; 0: no limit.
        burst: calls that may come at once.
        concurrency: calls of a client under way at once; 0: no limit.
        table: holds the calls of each client.
    """

    def __init__(
        self, rate_per_second: float, burst: int, concurrency: int, table: LimitTable
    ) -> None:
        self._bucket = Bucket.of(rate_per_second, burst)
        self._concurrency = concurrency
        self._rate = f"at most {rate_per_second:g} calls a second (and {burst} at once)"
        self._table = table
        self._keys: Bounded[str, int] = Bounded(KEYS)

    def enter(self, caller: str) -> None:
        """Admit a call. Raises TooManyError beyond a limit; the call is then not counted."""
        table, most = self._table, self._concurrency
        at = table.take(self._key(caller))
        try:
            if most and table.under_way(at) >= most and table.under_way_alive(at) >= most:
                raise TooManyError(f"at most {most} calls of a client at a time", 1)
            full, wait = self._bucket.admit(table.full[at], time.monotonic_ns())
            if wait:
                raise TooManyError(self._rate, -(-wait // SECOND))
            table.full[at] = full
            if most:
                table.begin(at)
        finally:
            table.give(at)

    def leave(self, caller: str) -> None:
        """End a call that `enter` admitted."""
        if self._concurrency:
            self._table.end(self._key(caller))

    def close(self) -> None:
        """Close the shared memory."""
        self._table.close()

    def _key(self, caller: str) -> int:
        key = self._keys.get(caller)
        if key is None:
            key = self._keys[caller] = self._table.key(caller.encode("utf-8", "replace"))
        return key


def limits_of(settings: Settings, directory: Path | None) -> ClientLimits | None:
    """Make the configured limits, or None; `directory` is shared by the workers, if any."""
    rate, concurrency = settings.rate_per_second, settings.client_concurrency
    if not rate and not concurrency:
        return None
    rows = max(LEAST_ROWS, ROWS_PER_WORKER * settings.workers)
    try:
        table = LimitTable(rows, directory)
    except OSError as error:
        logger("limits").error("limits_not_shared", reason=f"each worker counts alone: {error}")
        table = LimitTable(rows)
    return ClientLimits(rate, settings.rate_burst, concurrency, table)
