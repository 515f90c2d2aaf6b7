"""Worker slots: a small number for each live process, so that there are few counter files.

With a counter file per process id, files would add up with each restart and make every scrape
slower. A slot is held by a file lock, which the kernel frees when its process ends, however it
ends. So no two live processes have the same slot (also while old and new workers overlap on a
reload), and the next worker with the slot continues its counters.
"""

import fcntl
from itertools import count
from pathlib import Path
from typing import IO


class Slot:
    """A slot that this process holds until it ends or `release` is called."""

    def __init__(self, number: int, lock: IO[bytes]) -> None:
        self.number = number
        self._lock = lock

    def release(self) -> None:
        """Give the slot back."""
        self._lock.close()


def acquire(directory: Path) -> Slot:
    """Take the lowest free slot of `directory` (created if absent)."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in count():
        lock = _try_lock(directory / f"slot-{number}.lock")
        if lock is not None:
            return Slot(number, lock)
    raise AssertionError("unreachable")


def clear(directory: Path) -> None:
    """Remove the counters and memories of earlier workers; only while no worker runs."""
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.db", "queries-*.map", "limits-*.map", "otlp.lock"):
        for file in directory.glob(pattern):
            file.unlink(missing_ok=True)


def try_exclusive(path: Path) -> IO[bytes] | None:
    """Lock the file `path` while the result is open; None if another process has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _try_lock(path)


def try_shared(path: Path) -> IO[bytes] | None:
    """As `try_exclusive`, beside others that share it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _try_lock(path, fcntl.LOCK_SH)


def _try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> IO[bytes] | None:
    stream = path.open("ab")
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream
