"""What is pruned, sampled and purged is gone: rows, labels, inputs, and the room on disk."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from models.base.errors import InputError
from monitoring.records.keeping.figures import measure_models, measure_room
from monitoring.records.keeping.hashes import Purging, hash_input
from monitoring.records.keeping.limits import (
    Kept,
    ModelLimits,
    Sample,
    parse_model_limits,
    parse_sample,
)
from monitoring.records.keeping.prune import Reservoir, lower_share
from monitoring.records.keeping.purge import Which, count_chosen, purge
from monitoring.records.keeping.removal import Removed
from monitoring.records.keeping.sampling import LOOK_EVERY_SECONDS, Sampler
from monitoring.records.segments import segments_in
from monitoring.records.store import Key, Record, RecordStore
from monitoring.records.tables import REMOVED
from monitoring.records.writer import RecordWriter
from tests.postgres import Postgres, postgres

SECRET = b"a secret of 4096 bytes " * 178 + b"xy"  # one page of a file system
SIZE = len(SECRET)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordStore]:
    url = f"sqlite:///{tmp_path}/r.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("server").url
    made = RecordStore(url)
    yield made
    made.prune(Kept(rows=0))
    with made.database.writing() as connection:
        connection.execute(sa.delete(REMOVED))
    made.close()


def record(name: str, model: str = "m", at: float = 100.0, client: str = "shop") -> Record:
    x = SECRET if client == "secret" else bytes(SIZE - 1) + b"\1"
    return Record(name, 0, at, model, 1, x, 1, 0.5, 0.25, 0.9, 0.3, client)


def fill(store: RecordStore, count: int, model: str, client: str = "shop", label: int = 0) -> None:
    """Write `count` requests; every `label`-th gets a label."""
    store.add(record(f"{model}-{client}-{k}", model, 100.0 + k, client) for k in range(count))
    keys = [Key(f"{model}-{client}-{k}", 0) for k in range(0, count, label)] if label else []
    found = store.find(keys)
    store.add_feedback([(key, found[key], 1) for key in keys], "expert", trusted=True)


def forget(purging: list[Purging]) -> None:
    """For what has no copies."""


def removed(store: RecordStore) -> dict[tuple[str, str], Removed]:
    return {(r.model, r.why): r for f in measure_models(store.database) for r in f.removed}


def test_the_limits_of_a_model_leave_the_others_alone(store: RecordStore) -> None:
    for _ in range(3):
        fill(store, 20, "big")
        fill(store, 5, "small", label=5)
    limits = {"big": ModelLimits(rows=12), "absent": ModelLimits(rows=1)}
    assert store.prune(Kept(models=limits)) == 48
    assert (store.counts("big").requests, store.counts("small").requests) == (12, 15)
    assert store.counts("small").labelled == 3
    assert store.prune(Kept(models={"big": ModelLimits(bytes=5 * SIZE)})) == 7
    assert store.prune(Kept(models={"small": ModelLimits(days=1)})) == 15  # of 1970
    assert removed(store)["big", "rows"].instances == 48
    assert removed(store)["big", "bytes"].instances == 7
    assert removed(store)["small", "age"][3:5] == (15, 3)  # labels among them, counted


def test_labels_that_are_pruned_are_counted(store: RecordStore) -> None:
    fill(store, 30, "m", label=3)
    assert store.prune(Kept(rows=15)) == 15
    assert removed(store)["m", "rows"] == Removed("m", "rows", 15, 15, 5, 15 * SIZE)
    assert store.prune(Kept(rows=12)) == 3
    assert removed(store)["m", "rows"].labels == 6  # with those of before
    assert store.counts("m") == (12, 4)


def test_a_purge_takes_a_client_and_nobody_else(store: RecordStore, tmp_path: Path) -> None:
    fill(store, 10, "m", "shop", label=2)
    fill(store, 10, "m", "secret", label=5)
    fill(store, 10, "n", "secret")
    fill(store, 10, "m", "bank")
    which = Which(client="secret")
    assert [tuple(c) for c in count_chosen(store.database, which)] == [
        ("m", 10, 10, 2),
        ("n", 10, 10, 0),
    ]
    noted: list[Purging] = []
    gone, emptied = purge(store.database, store.folder, which, noted.extend)
    assert {r.model: (r.instances, r.labels) for r in gone} == {"m": (10, 2), "n": (10, 0)}
    assert emptied
    assert [each.model for each in noted] == ["m"] * 10 + ["n"] * 10
    assert {(each.hashes, each.lost) for each in noted} == {((hash_input(SECRET),), 0)}
    assert count_chosen(store.database, which) == []
    assert store.counts("m") == (20, 5)
    kept = store.pick(list(range(1, store.newest() + 1)))
    assert len(kept) == 20  # their inputs are whole
    if store.folder is None:
        return
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) >= 3
    for path in files:  # no byte of it is left, in the log or in free pages either
        data = path.read_bytes()
        assert SECRET[:40] not in data, path
        assert b"secret-" not in data, path
    store.add([record("later")])  # into the same segment
    assert len(store.pick([store.newest()])) == 1


def test_a_purge_narrows_by_id_model_and_time(store: RecordStore) -> None:
    fill(store, 10, "m")
    fill(store, 10, "n")
    purge(store.database, store.folder, Which(id="m-shop-3"), forget)
    assert store.counts("m").requests == 9
    purge(store.database, store.folder, Which(model="n", until=105.0), forget)
    assert (store.counts("m").requests, store.counts("n").requests) == (9, 5)
    purge(store.database, store.folder, Which(until=10**9), forget)
    assert (store.counts("m").requests, store.counts("n").requests) == (0, 0)
    if store.folder is not None:
        store.close()  # which leaves its segment
        store.prune(Kept())
        assert segments_in(store.folder) == []


def test_what_is_pruned_gives_its_room_back(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    for k in range(20):
        fill(store, 200, "m", f"client {k}")
    before = measure_room(store.folder)
    assert before.segments is not None
    assert before.database is not None
    assert before.segments >= 4000 * SIZE
    store.prune(Kept(models={"m": ModelLimits(rows=40)}))
    after = measure_room(store.folder)
    assert after.segments is not None
    assert after.database is not None
    assert after.segments < 60 * SIZE
    assert before.log is not None  # most of the rows are still in it
    assert after.database < (before.database + before.log) / 4
    assert after.log == 0
    assert after.free == 0
    store.close()


def test_a_reservoir_is_an_even_sample_of_all_that_came(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    kept = Kept(sample=Sample("reservoir", 400))
    sampler = Sampler(kept.sample, store.reservoir)
    requests = 0
    for _ in range(20):
        for name in range(requests, requests + 200):
            made = record(f"r{name}", at=float(name))
            if store.reservoir("m").keeps(made.id):
                store.add([made])
        requests += 200
        store.prune(kept)
        sampler.look_again()
        assert store.counts("m").requests <= 400
    at = store.recent("m", 1, 10**6).at
    share = store.reservoir("m").share
    assert 0.03 < share < 0.2
    # By quarters of the time: four counts of a multinomial with equal shares (six sigma).
    counts = np.bincount((at // 1000).astype(int), minlength=4)
    expected = len(at) / 4
    assert np.all(np.abs(counts - expected) < 6 * np.sqrt(expected))
    assert removed(store)["m", "sample"].instances > 0
    store.close()


class Asked:
    """A request as the service hands it on."""

    def __init__(self, made: Record, flagged: bool) -> None:
        self._made, self._flagged = made, flagged

    def __len__(self) -> int:
        return 1

    def flagged(self) -> bool:
        return self._flagged

    def request(self) -> object:
        from monitoring.records.store import Request

        return Request.of([self._made])


def write_all(store: RecordStore, kept: Kept, count: int = 200) -> list[tuple[str, int]]:
    drops: list[tuple[str, int]] = []
    writer = RecordWriter(
        store, capacity=10**6, kept=kept, dropped=lambda why, rows: drops.append((why, rows))
    )
    for k in range(count):
        writer.put(Asked(record(f"r{k}"), k % 10 == 0))  # type: ignore[arg-type]
    writer.close(60.0)
    return drops


@pytest.mark.parametrize(
    ("sample", "least", "most"),
    [("all", 200, 200), ("flagged", 20, 20), ("0.5", 50, 150), ("reservoir:50", 1, 200)],
)
def test_the_writer_takes_a_sample(tmp_path: Path, sample: str, least: int, most: int) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    drops = write_all(store, Kept(sample=parse_sample(sample)))
    assert not drops
    assert least <= store.counts("m").requests <= most
    store.close()


def test_without_inputs_none_is_written_and_the_rest_is_known(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    assert store.has_inputs("m") is None
    assert not write_all(store, Kept(inputs=False), 20)
    assert store.has_inputs("m") is False
    assert store.counts("m").requests == 20
    assert store.pick(list(range(1, 21))) == []
    assert measure_models(store.database)[0].without_input == 20
    assert not segments_in(tmp_path / "r.sqlite.segments")
    key = Key("r3", 0)
    store.add_feedback([(key, store.find([key])[key], 1)])
    assert store.observed("m", 1, 10).tolist() == [True]  # answers are still judged
    store.add([record("with")])
    assert store.has_inputs("m") is True
    store.close()


def test_a_store_that_never_gave_room_back_does_so_after_its_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.sqlite"
    RecordStore(url).close()
    with sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None) as other:
        for table in ("records_revision", "removed", "reservoirs"):
            other.execute(f"DROP TABLE {table}")
        other.execute("PRAGMA auto_vacuum = NONE")
        other.execute("VACUUM")
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    other.close()
    store = RecordStore(url)
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    other.close()


@pytest.mark.parametrize("text", ["", "0", "2", "reservoir", "reservoir:0", "some", "1.5", "nan"])
def test_a_sample_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="record_sample"):
        parse_sample(text)


@pytest.mark.parametrize(
    "text", ["m", "m:", "m:rows=0", "m:rows=1;m:rows=2", "m:rows=1,rows=2", "M:rows=1", "m:x=1"]
)
def test_limits_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="record_limits"):
        parse_model_limits(text)


def test_a_hole_is_a_hole(tmp_path: Path) -> None:
    """The file system of the tests gives room back; else the test of room would say nothing."""
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    fill(store, 50, "m", "secret")
    assert store.folder is not None
    (path,) = store.folder.iterdir()
    before = path.stat()
    purge(store.database, None, Which(id="m-secret-0"), forget)  # rows alone: nothing is wiped
    fill(store, 1, "m", "shop")
    purge(store.database, store.folder, Which(client="secret"), forget)
    after = path.stat()
    assert after.st_size > before.st_size
    assert after.st_blocks < before.st_blocks / 10
    store.close()


def test_a_noisy_model_with_a_limit_of_its_own_drives_out_no_other(store: RecordStore) -> None:
    kept = Kept(rows=100, models={"noisy": ModelLimits(rows=10)})
    fill(store, 5, "quiet")
    for client in ("shop", "bank"):
        fill(store, 200, "noisy", client)
        store.prune(kept)
        assert (store.counts("quiet").requests, store.counts("noisy").requests) == (5, 10)
    fill(store, 200, "new")
    store.prune(kept)
    counts = [store.counts(model).requests for model in ("quiet", "noisy", "new")]
    assert counts == [0, 0, 100]  # the oldest of all


def test_pruners_at_once_leave_what_one_leaves(tmp_path: Path) -> None:
    url, kept = f"sqlite:///{tmp_path}/r.sqlite", Kept(sample=Sample("reservoir", 100))
    store = RecordStore(url)
    for part in range(3):
        fill(store, 200, "m", f"client {part}", label=2)
    others = [RecordStore(url) for _ in range(4)]
    ready = threading.Barrier(4)

    def prune(other: RecordStore) -> int:
        ready.wait()
        return other.prune(kept)

    with ThreadPoolExecutor(4) as pool:
        gone = sum(pool.map(prune, others))
    left = store.counts("m").requests
    assert gone == 600 - left
    # 90 are expected: binomial, six sigma
    assert 90 - 6 * np.sqrt(90) < left < 90 + 6 * np.sqrt(90)
    assert store.reservoir("m").share == pytest.approx(0.15)
    assert removed(store)["m", "sample"].instances == gone  # nothing is counted twice
    for each in (store, *others):
        each.close()


def test_one_at_a_time_removes(store: RecordStore) -> None:
    fill(store, 10, "m")
    with store.database.removing(wait=False) as first:
        assert first
        with store.database.removing(wait=False) as second:
            assert not second
        assert store.prune(Kept(rows=0)) == 0
    assert store.prune(Kept(rows=0)) == 10


def test_a_share_that_was_lowered_before_a_kill_is_not_lowered_again(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    fill(store, 400, "m")
    lowered = lower_share(store.database, "m", 100)  # and then it was killed
    assert lowered is not None
    store.prune(Kept(sample=Sample("reservoir", 200)))
    assert store.reservoir("m").share == lowered.share
    assert 0 < store.counts("m").requests < 200  # thinned by the share of now, nevertheless
    store.close()


def test_a_share_is_read_anew_every_few_seconds() -> None:
    now, shares = [0.0], [1.0]
    sampler = Sampler(
        Sample("reservoir", 1), lambda model: Reservoir(shares[0], b"salt"), lambda: now[0]
    )
    from monitoring.records.store import Request

    asked = Asked(record("r"), False)
    request = Request.of([record("r")])
    assert sampler.keeps(asked, request)
    shares[0] = 0.0
    assert sampler.keeps(asked, request)
    now[0] = LOOK_EVERY_SECONDS
    assert not sampler.keeps(asked, request)


def test_a_store_that_was_busy_when_it_was_migrated_is_rewritten_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.sqlite"
    RecordStore(url).close()
    with sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None) as other:
        other.execute("PRAGMA auto_vacuum = NONE")
        other.execute("VACUUM")
    other.close()
    RecordStore(url).close()  # nothing is left to migrate
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    other.close()
