"""A store that an earlier version wrote is moved when it is opened, with every label."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from models.versions.schema import InputSchema
from monitoring.records.migrations import earlier as migration
from monitoring.records.segments import segments_in
from monitoring.records.store import Kept, Key, Record, RecordStore, StoreError
from tests.killing import in_child
from tests.postgres import postgres

SCHEMA = InputSchema(name="x", shape=(2,), dtype="float32", low=0, high=9, kind="table")
REQUESTS = """CREATE TABLE requests (seq {key}, id VARCHAR(128) NOT NULL, row INTEGER NOT NULL,
at FLOAT NOT NULL, model VARCHAR(64) NOT NULL, version INTEGER NOT NULL, x {blob} NOT NULL,
predicted INTEGER NOT NULL, p_value FLOAT NOT NULL, perturbation FLOAT NOT NULL,
confidence FLOAT NOT NULL, entropy FLOAT NOT NULL, client VARCHAR(128) NOT NULL)"""
INDEX = "CREATE INDEX requests_by_id ON requests (id, row)"
FEEDBACK = """CREATE TABLE feedback (number {key}, seq BIGINT NOT NULL UNIQUE,
label INTEGER NOT NULL, at FLOAT NOT NULL, client VARCHAR(128) NOT NULL, trusted BOOLEAN NOT NULL,
contradicted BOOLEAN NOT NULL)"""
ROWS = 1300


def rows() -> Iterator[tuple[object, ...]]:
    """Requests of three instances; the first hundred are pruned, and some numbers never were."""
    for seq in range(100, ROWS):
        if seq % 97:
            x = np.full(2, seq, np.float32).tobytes()
            at, place = 100.0 + seq // 3, seq % 3
            yield (seq, f"r{seq // 3}", place, at, "m", 1, x, seq % 10, 0.5, 0.25, 0.9, 0.3, "shop")


def labels() -> list[tuple[object, ...]]:
    return [(k + 1, seq, 1, 100.0, "shop", False, False)
            for k, seq in enumerate(range(110, ROWS, 10)) if seq % 97]  # fmt: skip


@pytest.fixture
def earlier(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "r.sqlite") as made:
        made.execute("PRAGMA journal_mode = WAL")
        key = "INTEGER PRIMARY KEY AUTOINCREMENT"
        for table in (REQUESTS, INDEX, FEEDBACK):
            made.execute(table.format(key=key, blob="BLOB"))
        made.executemany(f"INSERT INTO requests VALUES ({','.join('?' * 13)})", rows())
        made.executemany(f"INSERT INTO feedback VALUES ({','.join('?' * 7)})", labels())
    return f"sqlite:///{tmp_path}/r.sqlite"


def check(store: RecordStore) -> None:
    """All that was there is there, under its number, and what follows gets the next numbers."""
    there = list(rows())
    seqs = [int(str(row[0])) for row in there]
    assert store.counts("m") == (len(there), len(labels()))
    recent = store.recent("m", 1, 10**6)
    assert recent.seq.tolist() == seqs
    assert recent.predicted.tolist() == [row[7] for row in there]
    assert store.inputs(seqs, SCHEMA)[:, 1].tolist() == seqs
    rows_with_label = store.labelled("m", SCHEMA, limit=10**6)
    assert rows_with_label.x[:, 0].tolist() == [row[1] for row in labels()]
    assert set(rows_with_label.askers) == {"shop"}
    assert store.labels_after("m", 1, 0, 10**6).number.tolist() == [row[0] for row in labels()]
    key = Key("r400", 1)
    found = store.find([key])[key]
    assert (found.seq, found.predicted, found.client) == (1201, 1, "shop")
    newest = store.newest()
    assert newest == ROWS - 1
    store.add([store_record("new")])
    assert store.find([Key("new", 0)])[Key("new", 0)].seq == newest + 1


def store_record(name: str) -> Record:
    x = np.zeros(2, np.float32).tobytes()
    return Record(name, 0, 999.0, "m", 1, x, 1, 0.5, 0.25, 0.9, 0.3, "shop")


def test_a_store_of_before_is_moved_with_every_label(earlier: str, tmp_path: Path) -> None:
    store = RecordStore(earlier)
    check(store)
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        assert other.execute("SELECT count(x), count(DISTINCT id) FROM requests").fetchone()[0] == 0
        assert other.execute("PRAGMA freelist_count").fetchone() == (0,), "it gave its room back"
        tables = other.execute("SELECT name FROM sqlite_master").fetchall()
    assert (migration.BEFORE,) not in tables
    again = RecordStore(earlier)  # nothing is moved twice
    assert again.counts("m").requests == len(list(rows())) + 1
    again.close()


def test_a_move_that_fails_leaves_the_store_as_it_was(
    earlier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migration, "AT_ONCE", 200)
        calls = iter(range(100))

        def fail(*arguments: object) -> None:
            if next(calls) == 3:
                raise OSError(28, "No space left on device")
            real(*arguments)  # type: ignore[arg-type]

        real = migration.insert
        patch.setattr(migration, "insert", fail)
        with pytest.raises(StoreError, match="No space left"):
            RecordStore(earlier)
    store = RecordStore(earlier)
    check(store)
    store.close()


@pytest.mark.slow
def test_a_move_that_is_killed_at_any_time_leaves_the_store_as_it_was(
    earlier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "AT_ONCE", 300)
    for line in (60, 150, 3000, 9000, 15_000):
        assert in_child(
            lambda: RecordStore(earlier), die_at_line=line, within="/monitoring/records/"
        ), "the move has more lines"
    store = RecordStore(earlier)
    check(store)
    store.prune(Kept())
    store.close()
    assert len(segments_in(tmp_path / "r.sqlite.segments")) == 1, "what nobody names is removed"


def test_a_postgres_of_before_is_moved_too() -> None:
    with postgres() as server:
        with psycopg.connect(server.url) as made:
            for table in (REQUESTS, INDEX, FEEDBACK):
                made.execute(table.format(key="BIGSERIAL PRIMARY KEY", blob="BYTEA"))  # type: ignore[arg-type]
            cursor = made.cursor()
            cursor.executemany(f"INSERT INTO requests VALUES ({','.join(['%s'] * 13)})", rows())  # type: ignore[arg-type]
            cursor.executemany(
                f"INSERT INTO feedback VALUES ({','.join(['%s'] * 7)})",  # type: ignore[arg-type]
                labels(),
            )
        store = RecordStore(server.url)
        check(store)
        store.close()
