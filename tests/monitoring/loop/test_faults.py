"""Laws of what passes: real errors of SQLite and the system, and errors raised from them."""

import errno
import sqlite3
from pathlib import Path

import psycopg.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from models.base.errors import HoldfastError, RegistryError
from monitoring.loop.durable.faults import AWAY, FULL, LOCKED, PassingError, passing_words
from monitoring.records.database import StoreError, make_engine
from monitoring.records.store import RecordStore


def test_a_real_lock_of_sqlite_passes(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/base", 0.05)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x)"))
    other = sqlite3.connect(tmp_path / "base", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OperationalError) as raised, engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    other.close()
    assert passing_words(raised.value) == LOCKED
    engine.dispose()


def test_a_table_that_is_missing_does_not_pass(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/base", 0.05)
    with pytest.raises(OperationalError) as raised, engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO nothing VALUES (1)"))
    assert passing_words(raised.value) is None
    engine.dispose()


def test_a_server_that_is_not_there_passes() -> None:
    with pytest.raises(StoreError) as raised:
        RecordStore("postgresql://nobody@127.0.0.1:1/none", patience_seconds=1.0)
    assert passing_words(raised.value) == AWAY


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.ENOENT, None)]
)
def test_an_error_of_the_system_passes_also_where_ours_was_raised_from_it(
    number: int, words: str | None
) -> None:
    cause = OSError(number, "so it is")
    assert passing_words(cause) == words
    ours = RegistryError("the version cannot be written")
    ours.__cause__ = cause
    assert passing_words(ours) == words


POSTGRES = [
    (psycopg.errors.LockNotAvailable, True),
    (psycopg.errors.QueryCanceled, True),
    (psycopg.errors.AdminShutdown, True),
    (psycopg.errors.DiskFull, True),
    (psycopg.errors.TooManyConnections, True),
    (psycopg.errors.DeadlockDetected, True),
    (psycopg.errors.ReadOnlySqlTransaction, True),
    (psycopg.OperationalError, True),
    (psycopg.errors.UndefinedTable, False),
    (psycopg.errors.UniqueViolation, False),
    (psycopg.errors.InvalidPassword, False),
]


@pytest.mark.parametrize(("kind", "passes"), POSTGRES)
def test_errors_of_postgresql_pass_by_their_state(kind: type[psycopg.Error], passes: bool) -> None:
    error = DBAPIError("", {}, kind("as the server says"))
    assert (passing_words(error) is not None) == passes


@pytest.mark.parametrize(
    "error",
    [
        HoldfastError("a sentence"),
        KeyError("x"),
        MemoryError(),
        ProgrammingError("", {}, sqlite3.ProgrammingError("wrong")),
        StoreError("no driver"),
    ],
)
def test_other_errors_do_not_pass(error: Exception) -> None:
    if isinstance(error, StoreError):
        error.__cause__ = ImportError("psycopg")
    assert passing_words(error) is None


def test_what_is_said_to_pass_passes() -> None:
    assert passing_words(PassingError("the other one is full")) == "the other one is full"
