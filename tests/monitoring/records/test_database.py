"""A store that is not there, locked, full, stopped or gone, and comes back: real ones of each."""

import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from monitoring.records.database import engine_url
from monitoring.records.store import Kept, Key, Record, RecordStore, StoreError
from tests.postgres import Postgres, postgres
from tests.waiting import PATIENCE_SECONDS

PATIENCE = 0.5
SLACK = 20.0  # of a machine that others use; without its patience a store waits for ever
RECORD = Record("a", 0, 100.0, "m", 1, b"\0" * 16, 1, 0.5, 0.25, 0.9, 0.3)
KEY = Key("a", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture
def remote(server: Postgres) -> Iterator[RecordStore]:
    store = RecordStore(server.url, patience_seconds=PATIENCE)
    yield store
    store.close()


def label(store: RecordStore, value: int) -> None:
    store.add_feedback([(KEY, store.find([KEY])[KEY], value)])


def refused(store: RecordStore) -> float:
    """Seconds until the store refuses a record."""
    began = time.monotonic()
    with pytest.raises(StoreError):
        store.add([RECORD])
    return time.monotonic() - began


def test_a_store_that_is_not_there_yet_is_opened_when_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.write_text("in the way")  # a folder cannot be made here
    store = RecordStore(f"sqlite:///{folder}/r.sqlite", later=True)
    with pytest.raises(StoreError, match="opened"):
        store.add([RECORD])
    folder.unlink()
    store.add([RECORD])
    label(store, 1)
    assert store.counts("m") == (1, 1)
    store.close()


def test_a_store_that_was_emptied_is_filled_again_after_one_error(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    other = sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)
    other.execute("DROP TABLE requests")
    other.close()
    refused(store)
    store.add([RECORD])
    assert store.counts("m").requests == 1
    store.close()


def test_what_can_never_be_opened_is_said_at_once_also_later() -> None:
    for url in ("no url", "nothing://x", "mysql+nothing://x/y"):
        with pytest.raises(StoreError):
            RecordStore(url, later=True)


def test_a_locked_sqlite_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    store = RecordStore(f"sqlite:///{tmp_path}/r.sqlite", patience_seconds=PATIENCE)
    store.add([RECORD])
    other = sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert PATIENCE * 0.8 < refused(store) < PATIENCE + SLACK
    assert store.find([KEY])  # readers go on
    other.execute("COMMIT")
    other.close()
    label(store, 1)
    assert store.counts("m") == (1, 1)
    store.close()


def test_a_full_disk_refuses_what_does_not_fit_and_keeps_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    """The limit of a process on the size of a file stands in for the disk; SQLite sees EFBIG."""
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from monitoring.records.store import *
store = RecordStore("sqlite:///{tmp_path}/r.sqlite")
record = Record("a", 0, 100.0, "m", 1, bytes(4000), 1, 0.5, 0.25, 0.9, 0.3)
store.add([record])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
kept, failed = 1, 0
for _ in range(60):
    try:
        store.add([record])
        kept += 1
    except StoreError as error:
        failed += 1
assert store.counts("m").requests == kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.add([record])
print(failed, kept + 1 - store.counts("m").requests)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=True
    )
    failed, missing = map(int, done.stdout.split())
    assert failed > 10
    assert missing == 0


def test_postgres_keeps_records_and_labels_as_sqlite_does(remote: RecordStore) -> None:
    before = remote.counts("m").requests
    remote.add([RECORD])
    remote.add([RECORD._replace(row=1, predicted=2)])  # what is removed is whole requests
    assert remote.find([Key("a", 1), Key("b", 0)])[Key("a", 1)].predicted == 2
    label(remote, 3)
    label(remote, 4)
    assert remote.recent("m", 1, 2).label.tolist() == [4, -1]
    assert remote.counts("m").requests == before + 2
    assert remote.prune(Kept(1)) == before + 1
    assert remote.counts("m") == (1, 0)


@pytest.mark.slow
def test_several_processes_may_create_the_tables_of_postgres_at_once(server: Postgres) -> None:
    code = (
        "from monitoring.records.store import *; "
        f"RecordStore('{server.url}?options=-csearch_path%3Dp')"
    )
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA p")
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(PATIENCE_SECONDS) for process in started] == [0, 0, 0]


def test_a_table_of_postgres_that_is_locked_is_waited_for_so_long_and_no_longer(
    server: Postgres, remote: RecordStore
) -> None:
    with psycopg.connect(server.url) as other:
        other.execute("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        assert PATIENCE * 0.8 < refused(remote) < PATIENCE + SLACK
    remote.add([RECORD])


def test_a_postgres_that_is_restarted_is_found_again(server: Postgres, remote: RecordStore) -> None:
    remote.add([RECORD])
    server.stop()
    assert refused(remote) < SLACK
    server.start()
    remote.add([RECORD])
    later = RecordStore(server.url, later=True)
    assert later.find([KEY])
    later.close()


@pytest.mark.slow
def test_a_postgres_that_is_paused_holds_a_new_connection_no_longer_than_its_patience(
    server: Postgres,
) -> None:
    server.pause()
    try:
        store = RecordStore(server.url, patience_seconds=PATIENCE, later=True)
        assert 1 < refused(store) < SLACK  # libpq takes at least 2 s
    finally:
        server.go_on()
    store.add([RECORD])
    store.close()


def test_a_call_that_was_under_way_when_postgres_was_paused_ends_when_it_goes_on(
    server: Postgres, remote: RecordStore
) -> None:
    remote.add([RECORD])  # the connection is there
    server.pause()
    ended = threading.Event()

    def work() -> None:
        with suppress(StoreError):
            remote.add([RECORD])
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert not ended.wait(1)  # why the service asks through a gate
    server.go_on()
    assert ended.wait(PATIENCE_SECONDS)
    remote.add([RECORD])


def test_the_password_of_a_url_is_read_from_its_file(server: Postgres, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n", encoding="utf-8")
    url = f"{server.url}?password_file={secret}&application_name=here"
    engine = engine_url(url)
    assert (engine.password, dict(engine.query)) == ("hunter2", {"application_name": "here"})
    store = RecordStore(url, patience_seconds=PATIENCE)
    store.add([RECORD._replace(id="from a file")])
    assert store.find([Key("from a file", 0)])
    store.close()


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), (" \n", "it is empty")])
def test_a_password_that_is_not_there_is_said_without_the_url(
    text: str | None, words: str, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    if text is not None:
        secret.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=words):
        RecordStore(f"postgresql://me@here/there?password_file={secret}")
