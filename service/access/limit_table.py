"""What the workers of a host know of their clients' calls: one memory-mapped file.

A client has an entry in one of 1024 sets of 8, found by a hash of its name under a secret that lies
in the file. Where all 8 are taken, the one whose bucket is fullest makes room, those with calls
under way last: a bucket that is full again is as good as a new one, so that mostly nothing is lost.
Nothing here can be left broken by a worker that is killed:

- Each set has a lock (`models.base.mapped_file`); a thread holds one at a time.
- Calls under way are counted in a row per worker. A row is held by a lock file
(`models.base.locks`)
  and begins at zero when a worker takes it; while nobody holds it, its calls are none.

Without a directory the table is this process's own.
"""

import time
from pathlib import Path

from models.base import locks
from models.base.mapped_file import HEADER_BYTES, MappedFile

MAGIC = b"holdfast limits 1"
SETS, WAYS = 1024, 8
ENTRIES = SETS * WAYS
RECLAIM_SECONDS = 1.0  # between two looks for rows of workers that were killed


class LimitTable:
    """Entries by key, bounded: 8192 clients.

    Args:
        rows: live workers there may be at once.
        directory: where the workers' file lies, or None for memory of this process.

    Raises:
        OSError: the file cannot be made, or more workers live than there are rows.
    """

    def __init__(self, rows: int, directory: Path | None = None) -> None:
        size, file = HEADER_BYTES + ENTRIES * (8 + 8 + 2 * rows), f"limits-{SETS}x{WAYS}x{rows}.map"
        path = None if directory is None else directory / file
        self._map = MappedFile(path, MAGIC, size_bytes=size, locks=SETS, reserved_bytes=size)
        self._row = 0
        self._held: locks.Slot | None = None
        self._rows_dir = None if directory is None else directory / "limits"
        if self._rows_dir is not None:
            self._held = locks.acquire(self._rows_dir)
            self._row = self._held.number
            if self._row >= rows:
                self.close()
                raise OSError(f"more than {rows} workers at once")
        view = memoryview(self._map.memory)
        keys, full = HEADER_BYTES, HEADER_BYTES + 8 * ENTRIES
        self._keys = view[keys:full].cast("Q")
        self.full = view[full : full + 8 * ENTRIES].cast("q")  # by entry, ns; see `limits.Bucket`
        self._calls = view[full + 8 * ENTRIES :].cast("H")  # row by row
        self._reclaim_at = 0.0
        self._empty(self._row)

    def close(self) -> None:
        """Give up the file and the row."""
        self._map.close()
        if self._held is not None:
            self._held.release()

    def key(self, name: bytes) -> int:
        """A number of 64 bits that stands for a client; without the secret nobody can tell whom."""
        return self._map.key(name)

    def take(self, key: int) -> int:
        """The client's entry, found or made; its set is locked until `give`."""
        begin = self._lock(key)
        keys = self._keys[begin : begin + WAYS].tolist()
        if key in keys:
            return begin + keys.index(key)
        at = begin + (keys.index(0) if 0 in keys else self._makes_room(begin))
        self._keys[at] = 0  # of nobody, until it is empty
        self.full[at] = 0
        for place in range(at, len(self._calls), ENTRIES):
            self._calls[place] = 0
        self._keys[at] = key
        return at

    def give(self, at: int) -> None:
        """Let others have the set of an entry."""
        self._map.unlock(at // WAYS)

    def under_way(self, at: int) -> int:
        """Calls of the client under way, those of killed workers among them."""
        return sum(self._calls[at::ENTRIES].tolist())

    def under_way_alive(self, at: int) -> int:
        """The same after rows that nobody holds were emptied; looks at most once a second."""
        now = time.monotonic()
        if self._rows_dir is not None and now >= self._reclaim_at:
            self._reclaim_at = now + RECLAIM_SECONDS
            for row, calls in enumerate(self._calls[at::ENTRIES].tolist()):
                if calls and row != self._row:
                    self._reclaim(self._rows_dir, row)
        return self.under_way(at)

    def begin(self, at: int) -> None:
        """One call more is under way."""
        self._calls[self._row * ENTRIES + at] += 1

    def end(self, key: int) -> None:
        """One call of the client less; nothing where its entry had to make room meanwhile."""
        begin = self._lock(key)
        keys = self._keys[begin : begin + WAYS].tolist()
        if key in keys:
            place = self._row * ENTRIES + begin + keys.index(key)
            self._calls[place] = max(self._calls[place] - 1, 0)
        self.give(begin)

    def _makes_room(self, begin: int) -> int:
        """Which of a set's entries is lost least by."""
        return min(
            range(WAYS), key=lambda way: (self.under_way(begin + way) > 0, self.full[begin + way])
        )

    def _reclaim(self, directory: Path, row: int) -> None:
        lock = locks.try_exclusive(directory / f"slot-{row}.lock")
        if lock is not None:
            self._empty(row)
            lock.close()

    def _empty(self, row: int) -> None:
        self._calls[row * ENTRIES : (row + 1) * ENTRIES] = memoryview(bytes(2 * ENTRIES)).cast("H")

    def _lock(self, key: int) -> int:
        """Take the lock of the key's set; its first entry."""
        place = key % SETS
        self._map.lock(place)
        return place * WAYS
