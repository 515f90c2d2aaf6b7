import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.versions.schema import InputSchema
from monitoring.records.requests import group_records
from monitoring.records.store import (
    Kept,
    Key,
    Record,
    RecordedRow,
    RecordStore,
    Request,
    StoreError,
)
from monitoring.records.writer import RecordWriter
from tests.waiting import wait_until

SCHEMA = InputSchema(name="x", shape=(2, 2), dtype="float32", low=0, high=9, kind="image")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/records.sqlite"


@pytest.fixture
def store(url: str) -> Iterator[RecordStore]:
    made = RecordStore(url)
    yield made
    made.close()


def record(
    name: str, *, row: int = 0, predicted: int = 1, version: int = 1, at: float = 100.0
) -> Record:
    x = np.full(SCHEMA.shape, predicted, dtype=np.float32)
    return Record(name, row, at, "m", version, x.tobytes(), predicted, 0.5, 0.25, 0.9, 0.3)


def label(store: RecordStore, name: str, value: int, row: int = 0) -> None:
    key = Key(name, row)
    store.add_feedback([(key, store.find([key])[key], value)])


def test_a_record_is_found_by_id_and_row(store: RecordStore) -> None:
    store.add([record("a"), record("a", row=1, predicted=2), record("b", version=3)])
    found = store.find([Key("a", 1), Key("b", 0), Key("c", 0), Key("a", 2)])
    assert found == {Key("a", 1): RecordedRow(2, "m", 1, 2), Key("b", 0): RecordedRow(3, "m", 3, 1)}


def test_a_reused_id_means_the_latest_record(store: RecordStore) -> None:
    store.add([record("a", predicted=1)])
    label(store, "a", 1)
    store.add([record("a", predicted=2)])
    assert store.find([Key("a", 0)])[Key("a", 0)].predicted == 2
    label(store, "a", 5)
    kept = store.labelled("m", SCHEMA)
    assert (kept.predicted.tolist(), kept.y.tolist()) == ([1, 2], [1, 5]), "each its own label"


def test_labelled_gives_the_latest_rows_oldest_first(store: RecordStore) -> None:
    for index in range(6):
        store.add([record(f"r{index}", predicted=index, version=1 + index // 3, at=100.0 + index)])
        if index != 4:
            label(store, f"r{index}", index + 1)
    kept = store.labelled("m", SCHEMA, limit=3)
    assert kept.predicted.tolist() == [2, 3, 5]
    assert kept.y.tolist() == [3, 4, 6]
    assert kept.at.tolist() == [102.0, 103.0, 105.0]
    assert kept.x.shape == (3, 2, 2)
    assert kept.x.dtype == np.float32
    assert kept.x[:, 0, 0].tolist() == [2, 3, 5]
    assert len(store.labelled("m", SCHEMA, since=103.0)) == 2
    assert store.labelled("m", SCHEMA, version=1).predicted.tolist() == [0, 1, 2]
    assert len(store.labelled("other", SCHEMA)) == 0
    assert store.labelled("other", SCHEMA).x.shape == (0, 2, 2)
    assert store.counts("m") == (6, 5)
    assert store.counts("m", 2) == (3, 2)


def test_rows_of_another_shape_are_left_out(store: RecordStore) -> None:
    store.add([record("a"), record("b")._replace(x=b"\0" * 4)])
    label(store, "a", 1)
    label(store, "b", 1)
    assert len(store.labelled("m", SCHEMA)) == 1


def test_observed_is_whether_predictions_were_right(store: RecordStore) -> None:
    for index, truth in enumerate([1, 0, 1, 1]):
        store.add([record(f"r{index}", at=100.0 + index)])
        label(store, f"r{index}", truth)
    assert store.observed("m", 1, 10).tolist() == [True, False, True, True]
    assert store.observed("m", 1, 3).tolist() == [False, True, True]
    assert store.observed("m", 1, 10, since=102.0).tolist() == [True, True]
    assert store.observed("m", 2, 10).shape == (0,)
    label(store, "r1", 1)  # the last label wins
    assert store.observed("m", 1, 10).all()


def test_prune_keeps_the_latest_records_and_their_labels(store: RecordStore) -> None:
    for index in range(10):
        store.add([record(f"r{index}")])
        label(store, f"r{index}", 1)
    assert store.prune(Kept(4)) == 6
    assert store.counts("m") == (4, 4)
    assert store.prune(Kept(4)) == 0
    assert len(store.labelled("m", SCHEMA)) == 4
    assert not store.find([Key("r0", 0)])


def test_many_keys_are_found_at_once(store: RecordStore) -> None:
    store.add([record(f"r{index}") for index in range(1500)])
    assert len(store.find([Key(f"r{index}", 0) for index in range(2000)])) == 1500


def test_several_stores_may_be_created_and_written_at_once(url: str) -> None:
    errors: list[Exception] = []

    def work(name: int) -> None:
        try:
            store = RecordStore(url)
            for index in range(20):
                store.add([record(f"{name}-{index}")])
            store.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    store = RecordStore(url)
    assert store.counts("m").requests == 120
    store.close()


def test_a_database_that_is_none_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        RecordStore(f"sqlite:///{tmp_path}/bad.sqlite")


def writer(store: RecordStore, drops: Counter[str], capacity: int = 1000) -> RecordWriter:
    def dropped(reason: str, rows: int) -> None:
        drops[reason] += rows

    return RecordWriter(store, capacity=capacity, kept=Kept(10**6), dropped=dropped)


def test_the_writer_writes_within_a_moment_and_drains_at_the_end(store: RecordStore) -> None:
    drops: Counter[str] = Counter()
    made = writer(store, drops)
    made.put(Asked([record("a")]))
    wait_until(lambda: store.counts("m").requests, what="the record is written")
    assert store.counts("m").requests == 1
    for index in range(500):
        made.put(Asked([record(f"r{index}")]))
    made.close()
    assert store.counts("m").requests == 501
    assert not drops


def test_a_full_queue_drops_and_counts_and_recovers(store: RecordStore, tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    blocker = sqlite3.connect(tmp_path / "deep" / "records.sqlite", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    made = writer(store, drops, capacity=10)
    for index in range(50):
        made.put(Asked([record(f"r{index}")]))
    assert drops["queue"] == 40  # putting never waits: the store is locked still
    blocker.execute("COMMIT")
    blocker.close()
    wait_until(lambda: store.counts("m").requests >= 10, what="what waited is written")
    made.put(Asked([record("later")]))
    made.close()
    assert store.counts("m").requests == 11
    assert drops == {"queue": 40}


class Asked(list[Record]):
    """The instances of a request, as the service hands them over."""

    def request(self) -> Request:
        (request,) = group_records(self)
        return request


class Unmakeable(Asked):
    """Records that cannot be made."""

    def request(self) -> Request:
        raise ValueError("no such class")


def test_records_that_cannot_be_made_cost_themselves_only(store: RecordStore) -> None:
    drops: Counter[str] = Counter()
    made = writer(store, drops, capacity=4)
    for _ in range(3):  # their room in the queue is free again each time
        made.put(Unmakeable([record("a"), record("a", row=1), record("a", row=2)]))
        wait_until(lambda: made._waiting == 0, what="the queue is empty")
    made.put(Asked([record("later")]))
    made.close()
    assert store.counts("m").requests == 1
    assert drops == {"store": 9}


def test_a_store_that_fails_costs_records_not_the_thread(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops: Counter[str] = Counter()

    def fail(_: object) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", fail)
        made = writer(store, drops)
        made.put(Asked([record("a"), record("a", row=1)]))
        wait_until(lambda: drops["store"] == 2, what="the records are dropped")
    assert drops == {"store": 2}
    made.put(Asked([record("c")]))
    made.close()
    assert store.counts("m").requests == 1


def test_recent_gives_the_latest_requests_with_and_without_labels(store: RecordStore) -> None:
    for index in range(5):
        store.add([record(f"r{index}", predicted=index, at=100.0 + index)])
    store.add([record("other", version=2)])
    label(store, "r3", 7)
    kept = store.recent("m", 1, 3)
    assert kept.seq.tolist() == [3, 4, 5]
    assert kept.predicted.tolist() == [2, 3, 4]
    assert kept.at.tolist() == [102.0, 103.0, 104.0]
    assert kept.label.tolist() == [-1, 7, -1]
    assert kept.labelled.tolist() == [False, True, False]
    assert kept.confidence.tolist() == [0.9, 0.9, 0.9]
    assert len(store.recent("m", 3, 10)) == 0


def test_following_gives_the_first_requests_after_one(store: RecordStore) -> None:
    for index in range(6):
        store.add([record(f"r{index}", at=100.0 + index)])
    label(store, "r2", 1)
    rows = store.following("m", 1, 1, 3)
    assert rows.seq.tolist() == [2, 3, 4]
    assert rows.labelled.tolist() == [False, True, False]
    assert store.following("m", 1, 1, 3, since=103.0).seq.tolist() == [4, 5, 6]
    assert store.newest() == 6


def test_labels_are_numbered_as_they_came_and_keep_their_number(store: RecordStore) -> None:
    store.add([record(f"r{index}", predicted=1, at=100.0 + index) for index in range(4)])
    store.add([record("other", version=2)])
    for name, value in (("r3", 1), ("r0", 2), ("other", 1), ("r2", 1)):
        label(store, name, value)
    rows = store.labels_after("m", 1, 0, 10)
    assert rows.seq.tolist() == [4, 1, 3], "in the order of the labels"
    assert rows.right.tolist() == [True, False, True]
    assert (rows.confidence.tolist()[0], rows.entropy.tolist()[0]) == (0.9, 0.3)
    assert store.labels_after("m", 1, 0, 2).seq.tolist() == [4, 1]
    assert store.labels_after("m", 1, 0, 10, since=102.0).seq.tolist() == [4, 3]
    label(store, "r0", 1)  # somebody sends it again, and thinks better of it
    label(store, "r3", 1)
    latest = int(rows.number[-1])
    assert len(store.labels_after("m", 1, latest, 10)) == 0
    assert store.latest_labels("m", 1, 2).seq.tolist() == [1, 3]
    assert store.latest_labels("m", 1, 2).right.tolist() == [True, True]
    store.prune(Kept(1))  # the numbers go on
    label(store, "other", 1)
    store.add([record("new")])
    label(store, "new", 1)
    assert store.labels_after("m", 1, latest, 10).seq.tolist() == [6]


def test_inputs_come_in_the_order_of_the_requests(store: RecordStore) -> None:
    store.add([record(f"r{index}", predicted=index) for index in range(900)])
    store.add([record("short")._replace(x=b"\0" * 4)])
    x = store.inputs([901, 700, 3, 5000], SCHEMA)
    assert x.dtype == np.float32
    assert x[:, 0, 0].tolist() == [2, 699]
    assert store.inputs([], SCHEMA).shape == (0, 2, 2)


def test_label_delays_are_the_time_from_request_to_label(store: RecordStore) -> None:
    now = time.time()
    for index in range(3):
        store.add([record(f"r{index}", at=now - 10 * (index + 1))])
        label(store, f"r{index}", 1)
    assert store.label_delays("m", 1, 2) == pytest.approx([20, 30], abs=2)
    assert len(store.label_delays("m", 2, 2)) == 0


def test_records_that_were_written_are_not_counted_as_dropped_where_pruning_fails(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(kept: Kept) -> int:
        raise StoreError("the store of records cannot be written: it is full")

    monkeypatch.setattr(store, "prune", fails)  # the first batch of a writer prunes
    drops: Counter[str] = Counter()
    made = writer(store, drops)
    made.put(Asked([record("a")]))
    made.close()
    assert store.counts("m").requests == 1
    assert not drops
