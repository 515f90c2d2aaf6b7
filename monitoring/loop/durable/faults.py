"""Which errors pass by themselves: a locked database, a full disk, a server that is away.

A step of the loop that meets one of these is tried again (`monitoring.loop.durable.patience`);
anything else will be the same the next time and ends the job.
"""

import errno
from collections.abc import Iterator

import sqlalchemy as sa

from models.base.errors import HoldfastError
from monitoring.records.database import StoreError

LOCKED = "the database is locked"
AWAY = "the database cannot be reached"
FULL = "the disk is full"
SYSTEM = "the system is short of something"

_SQLITE = {
    "database is locked": LOCKED,
    "table is locked": LOCKED,
    "database or disk is full": FULL,
    "disk i/o error": "the disk gives an error",
    "unable to open database file": AWAY,
}
_POSTGRES = {
    "08": AWAY,  # connection exceptions
    "53": "the database is short of something",  # disk, memory, connections
    "57": "the database is being stopped or is slow",  # shutdown, statement timeout
    "55": LOCKED,  # lock not available
    "40": LOCKED,  # deadlock, serialization
    "25006": "the database takes no writes now",
    "25P03": AWAY,  # idle in a transaction for too long: the server closed it
}
_SYSTEM = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EIO: "the disk gives an error",
    errno.ESTALE: "the file system is away",
    errno.EAGAIN: SYSTEM,
    errno.ENOMEM: SYSTEM,
    errno.EMFILE: SYSTEM,
    errno.ENFILE: SYSTEM,
    errno.EROFS: "the file system takes no writes now",
}


class PassingError(HoldfastError):
    """Who raises it knows that it passes; the message says what."""


def passing_words(error: BaseException) -> str | None:
    """What passes, in words, where the error or one that caused it does so; else None.

    >>> passing_words(OSError(errno.ENOSPC, "No space left on device"))
    'the disk is full'
    >>> passing_words(KeyError("x")) is None
    True
    """
    return next((words for cause in _causes(error) if (words := _words(cause))), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what the driver said, and what it was raised from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        fault = waiting.pop(0)
        if isinstance(fault, BaseException) and id(fault) not in seen:
            seen.add(id(fault))
            yield fault
            waiting += [getattr(fault, "orig", None), fault.__cause__]


def _words(error: BaseException) -> str | None:
    if isinstance(error, PassingError):
        return str(error)
    if isinstance(error, sa.exc.TimeoutError):
        return AWAY  # no connection of the pool came free
    if isinstance(error, StoreError) and error.__cause__ is None:
        return AWAY  # another thread waits for it already
    if isinstance(error, sa.exc.DBAPIError):
        return AWAY if error.connection_invalidated else _driver_words(error.orig)
    if isinstance(error, ConnectionError | TimeoutError):
        return AWAY
    return _SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None


def _driver_words(error: BaseException | None) -> str | None:
    """By SQLSTATE where there is one; a lost connection of psycopg has none."""
    if error is None:
        return None
    state = getattr(error, "sqlstate", None)
    if state:
        return _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    text = str(error).lower()
    fault = next((words for part, words in _SQLITE.items() if part in text), None)
    if fault or type(error).__module__.startswith("sqlite3"):
        return fault
    return AWAY if type(error).__name__ == "OperationalError" else None
