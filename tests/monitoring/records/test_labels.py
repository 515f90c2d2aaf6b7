"""Laws of labels of several clients, on both databases."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.versions.schema import InputSchema
from monitoring.records.rows import Standing
from monitoring.records.store import Kept, Key, Record, RecordStore, StoreError
from monitoring.records.usable import Quota
from tests.postgres import postgres

SCHEMA = InputSchema(name="x", shape=(1,), dtype="float32", low=0, high=9, kind="table")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('records')}/r.sqlite"
    else:
        with postgres() as server:
            yield server.url


@pytest.fixture
def store(url: str) -> Iterator[RecordStore]:
    made = RecordStore(url)
    yield made
    made.prune(Kept(0))
    made.close()


def record(name: str, *, client: str = "shop", version: int = 1, at: float = 100.0) -> Record:
    x = np.ones(1, np.float32).tobytes()
    return Record(name, 0, at, "m", version, x, 1, 0.5, 0.25, 0.9, 0.3, client)


def give(
    store: RecordStore, name: str, label: int, client: str, *, trusted: bool = False
) -> Standing:
    key = Key(name, 0)
    return store.add_feedback([(key, store.find([key])[key], label)], client, trusted=trusted)[key]


def test_the_first_client_counts_and_a_contradicted_row_is_in_no_window(
    store: RecordStore,
) -> None:
    store.add([record("a"), record("b", version=2)])
    assert give(store, "b", 2, "shop") == (True, ())
    assert give(store, "a", 3, "shop") == (True, ())
    assert give(store, "a", 3, "other") == (False, ()), "it agrees"
    assert len(store.usable("m")) == 2
    assert give(store, "a", 4, "other") == (False, (3,))
    assert give(store, "a", 5, "third", trusted=True) == (False, (3, 4))
    usable = store.usable("m")
    assert (len(usable), usable.contradicted) == (1, 1)
    rows = store.labelled("m", SCHEMA)
    assert (rows.y.tolist(), rows.versions.tolist()) == ([2], [2])
    assert (rows.clients, rows.askers, rows.trusted.tolist()) == (("shop",), ("shop",), [False])
    assert len(store.labels_after("m", 1, 0, 10)) == 0, "nor does evidence of harm rest on it"
    assert len(store.latest_labels("m", 1, 10)) == 0
    assert len(store.observed("m", 1, 10)) == 0
    assert give(store, "a", 4, "shop") == (True, (5,)), "its last word"
    assert len(store.labelled("m", SCHEMA)) == 1
    assert give(store, "a", 4, "third") == (False, ())
    assert len(store.labelled("m", SCHEMA)) == 2, "all agree now"
    assert store.labels_after("m", 1, 0, 10).label.tolist() == [4]


def test_a_window_has_an_end_where_rows_of_before_are_asked_for(store: RecordStore) -> None:
    store.add([record(f"r{k}", at=100.0 + k) for k in range(4)])
    for k in range(4):
        give(store, f"r{k}", k, "shop")
    assert store.labelled("m", SCHEMA, until=102.0).y.tolist() == [0, 1]
    assert store.labelled("m", SCHEMA, since=102.0).y.tolist() == [2, 3]
    assert len(store.usable("m", since=101.0, until=102.0)) == 1


def test_a_label_of_an_id_used_again_is_another_rows(store: RecordStore) -> None:
    store.add([record("a")])
    give(store, "a", 3, "shop")
    give(store, "a", 4, "other")
    store.add([record("a", client="new")])
    assert give(store, "a", 5, "new") == (True, ())
    rows = store.labelled("m", SCHEMA)
    assert (rows.y.tolist(), rows.clients, rows.askers) == ([5], ("new",), ("new",))


def test_an_id_that_another_client_uses_takes_no_label_from_its_own(store: RecordStore) -> None:
    key = Key("order-41", 0)
    store.add([record("order-41", client="victim"), record("order-41", client="evil")])
    for client in ("victim", "evil"):
        found = store.find([key], client)[key]
        assert (found.client, found.shared) == (client, True)
        standing = store.add_feedback([(key, found, 3 if client == "victim" else 7)], client)[key]
        assert standing == (True, ())
    rows = store.labelled("m", SCHEMA)
    assert (rows.y.tolist(), rows.clients) == ([3, 7], ("victim", "evil"))
    store.add([record("order-41", client="victim")])
    seqs = [store.find([key], client)[key].seq for client in ("victim", "evil", "another")]
    assert seqs == [store.newest(), store.newest() - 1, store.newest()], "of one client the latest"
    store.add([record("order-42", client="victim")] * 2)
    assert not store.find([Key("order-42", 0)], "another")[Key("order-42", 0)].shared


def test_a_label_of_an_id_used_again_has_a_number_of_its_own(store: RecordStore) -> None:
    """Harm and shadow read labels after the highest number that they have seen."""
    store.add([record("a")])
    give(store, "a", 2, "shop")
    seen = store.labels_after("m", 1, 0, 10)
    give(store, "a", 3, "shop")
    assert not len(store.labels_after("m", 1, int(seen.number[-1]), 10)), "sent again: its own"
    store.add([record("a")])
    give(store, "a", 4, "shop")
    new = store.labels_after("m", 1, int(seen.number[-1]), 10)
    assert (new.label.tolist(), new.seq.tolist()) == ([4], [store.newest()])


def test_a_window_holds_the_quota_of_each_client(store: RecordStore) -> None:
    names = [f"r{k}" for k in range(40)]
    store.add([record(name) for name in names])
    for k, name in enumerate(names):
        give(store, name, 1, "flood" if k < 30 else f"honest {k % 2}")
    rows = store.labelled("m", SCHEMA, quota=Quota(0.5))
    assert (rows.clients.count("flood"), len(rows)) == (10, 20)
    assert len(store.labelled("m", SCHEMA)) == 40
    assert store.usable("m", quota=Quota(0.5)).beyond == {"flood": 20}


def test_a_store_of_an_older_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as older:
        older.execute("ALTER TABLE requests DROP COLUMN client")
    with pytest.raises(StoreError, match=r"table requests lacks client; .* move its file"):
        RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    with sqlite3.connect(tmp_path / "r.sqlite") as older:
        older.execute("DROP TABLE requests")
        older.execute("ALTER TABLE feedback ADD COLUMN id VARCHAR(128)")
    with pytest.raises(StoreError, match=r"table feedback has id; .* move its file"):
        RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
