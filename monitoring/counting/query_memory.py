"""The last queries of each client of a host: one memory-mapped file that all workers share.

A client has a slot: a ring of its last 1000 queries. Slots are few; a new client gets the slot of
the one that was silent longest. A worker that is killed breaks nothing:

- Every slot has a lock, and the directory has one (`models.base.mapped_file`); a thread holds one
at a
  time.
- A query counts once `total` is written, after its parts. A half-written one is overwritten.
- A slot changes its client in the directory first; a process that finds another `owner` in the slot
  than in the directory empties it.

Without a path the memory is private to this process.
"""

import mmap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.bounded import Bounded
from models.base.mapped_file import HEADER_BYTES, MappedFile
from monitoring.counting.query_embedding import CAPACITY, COARSE, WIDTH

MAGIC = b"holdfast queries 1"
SLOT = np.dtype(
    [
        ("head", np.uint64, 2),
        ("prints", np.uint64, CAPACITY),
        ("verdicts", np.uint8, CAPACITY),
        ("coarse", np.float32, (COARSE + 1, CAPACITY)),
        ("vectors", np.float32, CAPACITY * (WIDTH + 1)),
    ],
    align=True,
)
SLOT_BYTES = -(-SLOT.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE


class Ring:
    """A client's slot while its lock is held: `with memory.ring(key) as ring`. Arrays are views."""

    def __init__(self, slot: npt.NDArray[Any], unlock: Callable[[], None]) -> None:
        self.head: npt.NDArray[np.uint64] = slot["head"]  # owner, total
        self.prints: npt.NDArray[np.uint64] = slot["prints"]  # (1000,) of the raw bytes
        self.verdicts: npt.NDArray[np.uint8] = slot[
            "verdicts"
        ]  # (1000,) of `monitoring.counting.queries`
        self._coarse: npt.NDArray[np.float32] = slot["coarse"]
        self._vectors: npt.NDArray[np.float32] = slot["vectors"]
        self._rows: dict[int, npt.NDArray[np.float32]] = {}
        self._unlock = unlock

    def __enter__(self) -> "Ring":
        return self

    def __exit__(self, *error: object) -> None:
        self._unlock()

    @property
    def total(self) -> int:
        """The number of queries that were added; the next goes to `total % 1000`."""
        return int(self.head[1])

    def rows(self, width: int) -> npt.NDArray[np.float32]:
        """`(1000, width)` numbers of the queries, width at most WIDTH + 1."""
        rows = self._rows.get(width)
        if rows is None:
            rows = self._rows[width] = self._vectors[: CAPACITY * width].reshape(CAPACITY, width)
        return rows

    def coarse(self, width: int) -> npt.NDArray[np.float32]:
        """`(width, 1000)` numbers of their coarse parts, a query a column; width at most 33."""
        return self._coarse[:width]

    def count(self, total: int) -> None:
        """Set the number of queries, after their parts are written."""
        self.head[1] = total


class QueryMemory:
    """A bounded number of slots by key; `ring` returns the slot of a client.

    Args:
        clients: slots there are; each takes about 0.5 MiB once it is used.
        path: the shared file, or None for memory of this process.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, clients: int, path: Path | None = None) -> None:
        directory = -(-16 * clients // mmap.PAGESIZE) * mmap.PAGESIZE
        self._begin = HEADER_BYTES + directory
        self._map = MappedFile(
            path,
            MAGIC,
            size_bytes=self._begin + clients * SLOT_BYTES,
            locks=clients + 1,
            reserved_bytes=self._begin,
        )
        self.secret = self._map.secret  # prints of inputs are made under it
        memory = self._map.memory
        self._keys = np.frombuffer(memory, np.uint64, clients, HEADER_BYTES)
        self._used = np.frombuffer(memory, np.int64, clients, HEADER_BYTES + 8 * clients)
        self._rings = [self._ring_at(slot) for slot in range(clients)]
        self._known: Bounded[int, int] = Bounded(4 * clients)

    def close(self) -> None:
        """Give up the file; the memory goes with the last ring."""
        self._map.close()

    def key(self, *parts: bytes) -> int:
        """A number of 64 bits, not 0; without the secret nobody can tell the parts from it."""
        return self._map.key(*parts)

    @property
    def clients(self) -> int:
        """Count the clients that have a slot now; for tests."""
        return int(np.count_nonzero(self._keys))

    def ring(self, key: int) -> Ring:
        """Return the slot of `key`, locked until the end of its `with` block.

        Raises:
            OSError: the disk has no room for one slot more.
        """
        while True:
            slot = self._known.get(key)
            if slot is None or self._keys[slot] != key:
                slot = self._assign(key)
            self._lock(slot)
            if self._keys[slot] == key:
                break
            self._unlock(slot)  # it was taken away meanwhile
        ring = self._rings[slot]
        if ring.head[0] != key:
            try:
                self._hand_over(slot, key)
            except BaseException:
                self._unlock(slot)
                raise
        self._used[slot] = time.monotonic_ns()
        return ring

    def _assign(self, key: int) -> int:
        """Find the slot of the key in the directory, else take the one that was silent longest."""
        self._lock(-1)
        try:
            slots = np.flatnonzero(self._keys == key)
            if len(slots):
                slot = int(slots[0])
            else:
                silent = np.where(self._keys == 0, -1, self._used)
                slot = int(silent.argmin())
                self._used[slot] = time.monotonic_ns()
                self._keys[slot] = key
        finally:
            self._unlock(-1)
        self._known[key] = slot
        return slot

    def _hand_over(self, slot: int, key: int) -> None:
        ring = self._rings[slot]
        if ring.head[0] == 0:
            self._map.reserve(self._begin + slot * SLOT_BYTES, SLOT_BYTES)
        ring.count(0)
        ring.head[0] = key

    def _ring_at(self, slot: int) -> Ring:
        view = np.frombuffer(self._map.memory, SLOT, 1, self._begin + slot * SLOT_BYTES)
        return Ring(view.reshape(()), partial(self._unlock, slot))

    def _lock(self, slot: int) -> None:
        """Take the lock of a slot (-1: of the directory) against threads and processes."""
        self._map.lock(slot + 1)

    def _unlock(self, slot: int) -> None:
        self._map.unlock(slot + 1)


def file_of(directory: Path, clients: int) -> Path:
    """Return the path of the file; its name has the parameters of its layout."""
    return directory / f"queries-{clients}x{SLOT_BYTES}.map"
