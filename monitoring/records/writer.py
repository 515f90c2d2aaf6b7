"""A thread that writes records, so that a prediction never waits for the store."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from models.base.logs import logger
from monitoring.records.keeping.sampling import Sampler
from monitoring.records.store import Kept, RecordStore, Request, StoreError

BATCH_ROWS = 2000
PRUNE_EVERY_ROWS = 5000
PRUNES_OF_BYTES = 16  # prunes while so many bytes are written as are kept
PAUSE_SECONDS = 0.1
LOG_EVERY_SECONDS = 10.0


class Records(Protocol):
    """The instances of a request, which are made only when they are written."""

    def __len__(self) -> int:
        """How many."""

    def request(self) -> Request:
        """Make them."""

    def flagged(self) -> bool:
        """Whether one of them is flagged."""


class RecordWriter:
    """Takes records without waiting and writes them in batches, within about 0.15 s.

    A commit costs as much as 30 rows, so there is a pause between two commits.

    Args:
        store: the store.
        capacity: rows that may wait; further ones are dropped.
        kept: what pruning leaves.
        dropped: called with `(reason, rows)`: "queue" (full) or "store" (not made or not written).
    """

    def __init__(
        self,
        store: RecordStore,
        *,
        capacity: int,
        kept: Kept,
        dropped: Callable[[str, int], None],
    ) -> None:
        self._store = store
        self._capacity = capacity
        self._kept = kept
        self._sampler = Sampler(kept.sample, store.reservoir)
        self._dropped = dropped
        self._queue: queue.SimpleQueue[Records | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        # The first batch prunes what an earlier run left.
        self._since_prune = PRUNE_EVERY_ROWS
        self._bytes_since_prune = 0
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
            rows = sum(request.rows for request in batch)
            try:
                self._store.write(batch)
                self._prune(rows, sum(request.x.nbytes for request in batch))
            except Exception as error:  # a thread that died would drop all that follows
                self._dropped("store", rows)
                self._log(error, rows)
            finally:
                with self._lock:
                    self._waiting -= rows
            if going:
                time.sleep(PAUSE_SECONDS)  # lets the next batch gather: one commit, not many

    def _next_batch(self) -> tuple[list[Request], bool]:
        """Wait for records and take all that wait; False at the end."""
        batch: list[Request] = []
        rows = 0
        part = self._queue.get()
        while part is not None:
            batch += self._make(part)
            rows += len(part)
            if rows >= BATCH_ROWS or self._queue.empty():
                return batch, True
            part = self._queue.get()
        return batch, False

    def _make(self, part: Records) -> list[Request]:
        """The request, which is made only here; none where that fails, or it is not to be kept."""
        try:
            request = part.request()
            if not self._kept.inputs:
                request = request._replace(x=memoryview(b""))
            if self._sampler.keeps(part, request):
                return [request]
            self._settle(len(part))
            return []
        except Exception as error:  # a thread that died would drop all that follows
            self._dropped("store", len(part))
            self._log(error, len(part))
            self._settle(len(part))
            return []

    def _settle(self, rows: int) -> None:
        """Rows that wait no longer, although they are not written."""
        with self._lock:
            self._waiting -= rows

    def _prune(self, rows: int, size: int) -> None:
        """Remove old records now and then; a failure loses none of the new ones."""
        self._since_prune += rows
        self._bytes_since_prune += size
        often = self._bytes_since_prune >= self._kept.bytes // PRUNES_OF_BYTES
        if self._since_prune < PRUNE_EVERY_ROWS and not often:
            return
        self._since_prune = self._bytes_since_prune = 0
        try:
            self._store.prune(self._kept)
            self._sampler.look_again()
        except StoreError as error:
            logger("records").warning("prune_failed", reason=str(error))

    def _log(self, error: Exception, rows: int) -> None:
        now = time.monotonic()
        if now - self._last_log >= LOG_EVERY_SECONDS:
            self._last_log = now
            logger("records").error("records_dropped", reason=str(error), rows=rows)
