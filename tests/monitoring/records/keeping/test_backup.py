"""A backup that is taken while requests are written is whole when it is restored."""

import shutil
import sqlite3
import threading
from pathlib import Path

import numpy as np

from monitoring.records.store import Key, Record, RecordStore
from tests.waiting import wait_until


def record(k: int) -> Record:
    x = np.full(64, k, np.float32).tobytes()
    return Record(f"r{k}", 0, 100.0 + k, "m", 1, x, 1, 0.5, 0.25, 0.9, 0.3, "shop")


def test_a_backup_of_a_running_store_is_whole_and_goes_on(tmp_path: Path) -> None:
    live, backup = tmp_path / "live", tmp_path / "backup"
    backup.mkdir()
    store = RecordStore(f"sqlite:///{live}/records.sqlite")
    stop, written = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            store.add([record(written[0])])
            key = Key(f"r{written[0]}", 0)
            store.add_feedback([(key, store.find([key])[key], 2)])
            written[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: written[0] > 20, what="requests are written")
        with sqlite3.connect(live / "records.sqlite") as source:  # as docs/records.md says
            source.execute("VACUUM INTO ?", (str(backup / "records.sqlite"),))
        source.close()
        copied = written[0]
        wait_until(lambda: written[0] > copied + 5, what="more requests are written")
        segments = live / "records.sqlite.segments"
        shutil.copytree(segments, backup / segments.name)
    finally:
        stop.set()
        thread.join()
        store.close()

    restored = RecordStore(f"sqlite:///{backup}/records.sqlite")
    count = restored.counts("m")
    assert 20 < count.requests <= written[0]
    assert count.labelled in (count.requests, count.requests - 1)
    picked = restored.pick(list(range(1, restored.newest() + 1)))
    assert [each.x for each in picked] == [record(k).x for k in range(count.requests)]
    before = restored.newest()
    restored.add([record(10**6)])  # into a segment that is cut to what the copy names
    assert restored.newest() == before + 1
    everything = restored.pick(list(range(1, before + 2)))
    assert len(everything) == count.requests + 1
    assert everything[-1].x == record(10**6).x
    restored.close()
