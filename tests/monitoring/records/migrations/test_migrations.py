"""Stores of the baseline are brought up to date; those of a newer program are refused."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitoring.records.database import StoreError, engine_url
from monitoring.records.migrations import running
from monitoring.records.migrations.versions.r0001_baseline import BASELINE
from monitoring.records.store import Record, RecordStore
from monitoring.records.tables import METADATA, NEWEST, REMOVED, RESERVOIRS, REVISION, REVISIONS
from tests.killing import in_child
from tests.postgres import Postgres, postgres

RECORD = Record("a", 0, 100.0, "m", 1, b"\0" * 16, 1, 0.5, 0.25, 0.9, 0.3)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/r.sqlite"
        return
    found = request.getfixturevalue("server").url
    yield found
    run(found, lambda connection: METADATA.drop_all(connection))


def run(url: str, work: Callable[[sa.Connection], object]) -> object:
    engine = sa.create_engine(engine_url(url))
    with engine.begin() as connection:
        done = work(connection)
    engine.dispose()
    return done


def make_baseline(url: str) -> None:
    """A store with one label, as the program before migrations left it."""
    store = RecordStore(url)
    store.add([RECORD._replace(id=f"r{k}") for k in range(3)])
    store.close()

    def forget(connection: sa.Connection) -> None:
        for table in (REVISION, REMOVED, RESERVOIRS):
            table.drop(connection)

    run(url, forget)


def revision(url: str) -> object:
    return run(url, lambda connection: connection.execute(sa.select(REVISION.c.revision)).scalar())


def columns(url: str) -> dict[str, set[str]]:
    def read(connection: sa.Connection) -> dict[str, set[str]]:
        there = sa.inspect(connection)
        names = set(there.get_table_names()) & set(METADATA.tables)
        return {n: {column["name"] for column in there.get_columns(n)} for n in names}

    return run(url, read)  # type: ignore[return-value]


def refuse(url: str, match: str) -> None:
    store = RecordStore(url, later=True)
    with pytest.raises(StoreError, match=match):
        store.open()
    store.close()


TODAY = {table.name: set(table.columns.keys()) for table in METADATA.sorted_tables}


def test_the_steps_are_the_revisions_of_the_tables() -> None:
    found = [step.revision for step in running.steps().walk_revisions()][::-1]
    assert tuple(found) == REVISIONS


def test_a_new_store_is_at_the_newest_revision(url: str) -> None:
    RecordStore(url).close()
    assert revision(url) == NEWEST
    assert columns(url) == TODAY


def test_a_store_of_the_baseline_is_brought_up_to_date_with_all_that_is_in_it(url: str) -> None:
    make_baseline(url)
    assert columns(url) == BASELINE
    store = RecordStore(url)
    assert (revision(url), columns(url)) == (NEWEST, TODAY)
    assert store.counts("m").requests == 3
    store.add([RECORD])
    assert store.counts("m").requests == 4
    store.close()
    RecordStore(url).close()  # nothing is left to do
    assert revision(url) == NEWEST


def test_two_processes_that_start_at_once_migrate_once(url: str) -> None:
    make_baseline(url)
    children = [in_child(lambda: RecordStore(url).close()) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert (revision(url), columns(url)) == (NEWEST, TODAY)


def test_a_step_that_fails_leaves_the_store_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_baseline(url)
    real = running.upgrade

    def fail(connection: sa.Connection, known: str) -> None:
        real(connection, known)
        raise ValueError("no room")

    monkeypatch.setattr(running, "upgrade", fail)
    refuse(url, "from revision 0001 to .* left as it was: no room")
    assert columns(url) == BASELINE
    monkeypatch.undo()
    store = RecordStore(url)
    assert store.counts("m").requests == 3
    store.close()


def test_a_killed_migration_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.sqlite"
    make_baseline(url)
    line, killed = 1, 0
    while in_child(lambda: RecordStore(url).close(), die_at_line=line, within="/migrations/"):
        killed += 1
        assert columns(url) in (BASELINE, TODAY)
        line += 3
    assert killed > 10
    assert (revision(url), columns(url)) == (NEWEST, TODAY)


def test_a_store_of_a_newer_program_is_refused_and_left_alone(url: str) -> None:
    RecordStore(url).close()
    run(url, lambda c: c.execute(sa.update(REVISION).values(revision="9999")))
    refuse(url, "revision '9999'.*newer program")
    assert revision(url) == "9999"


def test_other_tables_of_the_same_names_are_no_baseline(url: str) -> None:
    make_baseline(url)
    run(url, lambda c: c.execute(sa.text("ALTER TABLE written ADD COLUMN colour INTEGER")))
    refuse(url, "its table written has colour")
    assert "records_revision" not in columns(url)


def test_a_store_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.sqlite"
    RecordStore(url).close()
    script = (
        "import sys; from monitoring.records.store import RecordStore; "
        f"RecordStore({url!r}).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
