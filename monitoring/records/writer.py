"""A thread that writes records, so that a prediction never waits for the store."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from models.base.logs import logger
from monitoring.records.store import Record, RecordStore, StoreError

BATCH_ROWS = 2000
PRUNE_EVERY_ROWS = 5000
PAUSE_SECONDS = 0.1
LOG_EVERY_SECONDS = 10.0


class Records(Protocol):
    """The records of a request: a list, or an object that makes them while it is iterated."""

    def __len__(self) -> int:
        """How many."""

    def __iter__(self) -> Iterator[Record]:
        """One after the other."""


class RecordWriter:
    """Takes records without waiting and writes them in batches, within about 0.15 s.

    A commit costs as much as 30 rows, so there is a pause between two commits.

    Args:
        store: the store.
        capacity: rows that may wait; further ones are dropped.
        rows_kept: rows that pruning leaves.
        dropped: called with `(reason, rows)`: "queue" (full) or "store" (not made or not written).
    """

    def __init__(
        self,
        store: RecordStore,
        *,
        capacity: int,
        rows_kept: int,
        dropped: Callable[[str, int], None],
    ) -> None:
        self._store = store
        self._capacity = capacity
        self._rows_kept = rows_kept
        self._dropped = dropped
        self._queue: queue.SimpleQueue[Records | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._since_prune = PRUNE_EVERY_ROWS  # the first batch prunes what an earlier run left
        self._last_log = -LOG_EVERY_SECONDS
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def put(self, records: Records) -> None:
        """Queue the records of one request; never waits, never raises."""
        with self._lock:
            fits = self._waiting + len(records) <= self._capacity
            if fits:
                self._waiting += len(records)
        if fits:
            self._queue.put(records)
        else:
            self._dropped("queue", len(records))

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Write what waits and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._next_batch()
            try:
                self._store.add(batch)
                self._prune(len(batch))
            except Exception as error:  # a thread that died would drop all that follows
                self._dropped("store", len(batch))
                self._log(error, len(batch))
            finally:
                with self._lock:
                    self._waiting -= len(batch)
            if going:
                time.sleep(PAUSE_SECONDS)  # lets the next batch gather: one commit, not many

    def _next_batch(self) -> tuple[list[Record], bool]:
        """Wait for records and take all that wait; False at the end."""
        batch: list[Record] = []
        part = self._queue.get()
        while part is not None:
            batch.extend(self._make(part))
            if len(batch) >= BATCH_ROWS or self._queue.empty():
                return batch, True
            part = self._queue.get()
        return batch, False

    def _make(self, part: Records) -> list[Record]:
        """The records of one request, which are made only here; none where that fails."""
        try:
            return list(part)
        except Exception as error:  # a thread that died would drop all that follows
            self._dropped("store", len(part))
            self._log(error, len(part))
            with self._lock:
                self._waiting -= len(part)
            return []

    def _prune(self, rows: int) -> None:
        """Remove old records now and then; a failure loses none of the new ones."""
        self._since_prune += rows
        if self._since_prune < PRUNE_EVERY_ROWS:
            return
        self._since_prune = 0
        try:
            self._store.prune(self._rows_kept)
        except StoreError as error:
            logger("records").warning("prune_failed", reason=str(error))

    def _log(self, error: Exception, rows: int) -> None:
        now = time.monotonic()
        if now - self._last_log >= LOG_EVERY_SECONDS:
            self._last_log = now
            logger("records").error("records_dropped", reason=str(error), rows=rows)
