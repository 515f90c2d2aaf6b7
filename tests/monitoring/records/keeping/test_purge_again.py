"""A purge that was killed, failed or runs under traffic still knows what it has to look for."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models.base.errors import HoldfastError
from monitoring.records.keeping import purge as purging_module
from monitoring.records.keeping.hashes import (
    Purging,
    forget_hashes,
    hash_input,
    note_hashes,
    read_hashes,
)
from monitoring.records.keeping.prune import wipe
from monitoring.records.keeping.purge import Which, labels_of_client, purge
from monitoring.records.store import Key, Record, RecordStore


def record(k: int) -> Record:
    x = np.full(64, k + 1, np.float32).tobytes()
    return Record(f"r{k}", 0, 100.0 + k, "m", 1, x, 1, 0.5, 0.25, 0.9, 0.3, "shop")


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    made = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    made.add(record(k) for k in range(5))
    made.close()
    return made


def test_a_purge_that_fails_after_a_wipe_has_noted_its_hashes(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = partial(note_hashes, tmp_path / "purges")

    def fail(*arguments: object, **named: object) -> None:
        wipe(*arguments, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(purging_module, "wipe", fail)
        with pytest.raises(KeyboardInterrupt):
            purge(store.database, store.folder, Which(), note)
    assert store.counts("m").requests == 5
    assert store.pick([1, 2, 3, 4, 5]) == []  # wiped, and not removed yet
    gone, _ = purge(store.database, store.folder, Which(), note)
    assert [each.requests for each in gone] == [5]
    noted = read_hashes(tmp_path / "purges")
    assert noted.hashes == {"m": {hash_input(record(k).x) for k in range(5)}}
    assert noted.unknown == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in noted.files)
    forget_hashes(noted)
    assert read_hashes(tmp_path / "purges").files == ()
    store.close()


def test_inputs_that_nobody_noted_are_not_known(store: RecordStore, tmp_path: Path) -> None:
    assert store.folder is not None
    for path in store.folder.iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    purge(store.database, store.folder, Which(id="r3"), partial(note_hashes, tmp_path / "purges"))
    assert read_hashes(tmp_path / "purges")[:2] == ({"m": set()}, 1)
    store.close()


def test_a_purge_ends_at_what_there_was_when_it_began(store: RecordStore) -> None:
    def write(purging: list[Purging]) -> None:
        store.add([record(100)])  # as others do meanwhile

    purge(store.database, store.folder, Which(), write)
    assert store.counts("m").requests == 1
    store.close()


def test_labels_that_do_not_count_are_counted_too(store: RecordStore) -> None:
    keys = [Key("r1", 0), Key("r2", 0)]
    rows = store.find(keys)
    store.add_feedback([(key, rows[key], 1) for key in keys[:1]], "first")
    store.add_feedback([(key, rows[key], 2) for key in keys], "second")
    assert labels_of_client(store.database, "second") == 2
    store.close()


def test_nothing_is_wiped_where_no_hash_can_be_kept(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "purges").write_bytes(b"a file")
    with pytest.raises(HoldfastError, match="cannot be kept"):
        purge(store.database, store.folder, Which(), partial(note_hashes, tmp_path / "purges"))
    assert len(store.pick([1, 2, 3, 4, 5])) == 5
    store.close()


def test_damaged_hashes_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{")
    with pytest.raises(HoldfastError, match="cannot be read"):
        read_hashes(tmp_path)
