"""The calls of each client, counted over all workers of a host: one memory-mapped file.

A client has an entry in one of 1024 sets of 8, found by a hash of its name under a secret that lies
in the file. If all 8 are taken, the client with the fullest bucket is replaced, clients with calls
under way last. A full bucket is the same as a new one, so mostly nothing is lost. A worker that is
killed breaks nothing:

- Each set has a lock (`models.base.mapped_file`); a thread holds one at a time.
- Calls under way are counted in a row per worker. A row is held by a lock file
(`models.base.locks`)
  and begins at zero when a worker takes it; while nobody holds it, its calls are none.

Without a directory the table is private to this process.
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
        rows: the most workers that live at the same time.
        directory: of the workers' file, or None for memory of this process.

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
        """Close the file and free the row."""
        self._map.close()
        if self._held is not None:
            self._held.release()

    def key(self, name: bytes) -> int:
        """Return a keyed 64-bit hash of a client; without the secret it cannot be traced back."""
        return self._map.key(name)

    def take(self, key: int) -> int:
        """Return the client's entry, which is made if absent; its set is locked until `give`."""
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
        """Unlock the set of an entry."""
        self._map.unlock(at // WAYS)

    def under_way(self, at: int) -> int:
        """Count the client's calls under way, including those of killed workers."""
        return sum(self._calls[at::ENTRIES].tolist())

    def under_way_alive(self, at: int) -> int:
        """Count them without the rows of killed workers; checks at most once a second."""
        now = time.monotonic()
        if self._rows_dir is not None and now >= self._reclaim_at:
            self._reclaim_at = now + RECLAIM_SECONDS
            for row, calls in enumerate(self._calls[at::ENTRIES].tolist()):
                if calls and row != self._row:
                    self._reclaim(self._rows_dir, row)
        return self.under_way(at)

    def begin(self, at: int) -> None:
        """Count one more call under way."""
        self._calls[self._row * ENTRIES + at] += 1

    def end(self, key: int) -> None:
        """Count one call of the client less; no change if its entry was replaced meanwhile."""
        begin = self._lock(key)
        keys = self._keys[begin : begin + WAYS].tolist()
        if key in keys:
            place = self._row * ENTRIES + begin + keys.index(key)
            self._calls[place] = max(self._calls[place] - 1, 0)
        self.give(begin)

    def _makes_room(self, begin: int) -> int:
        """Choose the entry of a set whose loss costs least."""
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
        """Lock the set of a key and return its first entry."""
        place = key % SETS
        self._map.lock(place)
        return place * WAYS
