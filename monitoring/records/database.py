"""A database that may be locked, full, slow or away: opened at the first use, with time limits.

SQLite in a file (WAL, every commit synced) or PostgreSQL. The time for locks, statements and
connecting is limited here, as far as a client can. A stopped server or a hanging disk still blocks
the calling thread; `monitoring.records.breaker` is for threads that must not block.
"""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.base.errors import HoldfastError
from models.base.files import lock_file, make_file
from models.base.logs import logger

PATIENCE_SECONDS = 30.0
LEAST_CONNECT_SECONDS = 2  # libpq takes no less
INCREMENTAL = 2  # SQLite's auto_vacuum: the file gives pages back when it is asked to
PAGES_AT_ONCE = 2048  # 8 MiB: a fraction of a second, in which nobody else writes
LOG_BYTES = 1 << 26  # that SQLite's log keeps after a large transaction
CREATING = 7_309_868_541  # PostgreSQL: the advisory lock of who creates tables
REMOVING = 7_309_868_543  # PostgreSQL: the advisory lock of who prunes or purges
ASK_SECONDS = 0.1  # between two attempts to get the lock of who removes
PASSWORD_FILE = "password_file"  # in the URL's query


class StoreError(HoldfastError):
    """The store of records cannot be read or written now."""


# Opens a store in a transaction: gets what creates the tables.
Prepare = Callable[[sa.Connection, Callable[[], None]], None]


class Database:
    """Connections to a database with the tables of `metadata`; for several threads and processes.

    Args:
        url: SQLAlchemy's, of SQLite or PostgreSQL.
        metadata: the tables.
        patience_seconds: how long a lock, a statement or a connection is waited for.
        prepare: opens the database, which creates the tables that are missing.

    Raises:
        StoreError: the URL is none, or its driver is not installed.
    """

    def __init__(
        self, url: str, metadata: sa.MetaData, patience_seconds: float, prepare: Prepare
    ) -> None:
        self._metadata = metadata
        self._prepare = prepare
        self._patience = patience_seconds
        self._opened = False
        self._opening = threading.Lock()
        try:
            self._engine = make_engine(url, patience_seconds)
        except ImportError as error:
            driver = "the driver of its database (pip install 'holdfast[postgres]')"
            raise StoreError(f"the store of records needs {driver}: {error}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"the store of records cannot be opened: {error}") from error

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def open(self) -> None:
        """Create missing tables, unless that was done since the last error.

        Raises:
            StoreError: the database cannot be opened now; the next call tries again.
        """
        if self._opened:
            return
        if not self._opening.acquire(timeout=self._patience):
            raise StoreError("the store of records cannot be opened: another thread waits for it")
        try:
            with self._guarded("opened"), self._creating():
                with self._engine.begin() as connection:
                    if self.dialect == "postgresql":
                        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATING)))
                    self._prepare(connection, partial(self._create, connection))
                if self.dialect == "sqlite":
                    self._rebuild()
            self._opened = True
        finally:
            self._opening.release()

    def _create(self, connection: sa.Connection) -> None:
        """Create what is missing; where nothing is, no lock is needed, also of SQLite."""
        there = sa.inspect(connection)
        for table in self._metadata.sorted_tables:
            if not there.has_table(table.name):
                connection.execute(sa.schema.CreateTable(table))
            check_columns(connection, table.name, {column.name for column in table.columns})
            indexes = {index["name"] for index in sa.inspect(connection).get_indexes(table.name)}
            for index in table.indexes:
                if index.name not in indexes:
                    connection.execute(sa.schema.CreateIndex(index))

    def give_back(self, *, all_of_it: bool = False) -> bool:
        """Give free pages of an SQLite file back to the disk, some at once; no error where not.

        PostgreSQL does so itself (autovacuum), and lets later rows take the room.

        Args:
            all_of_it: in one go, of the log, too; who writes waits meanwhile.

        Returns:
            Whether that was done; not while somebody reads, and old pages stay in the log.
        """
        if self.dialect != "sqlite":
            return True
        try:
            with self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == INCREMENTAL:
                    pages = 0 if all_of_it else PAGES_AT_ONCE
                    _free_pages(connection, pages)
                elif all_of_it:
                    connection.exec_driver_sql("VACUUM")
                if all_of_it:
                    (state,) = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
                    return not state[0]  # 1: busy
        except (SQLAlchemyError, sqlite3.Error) as error:  # the driver's own cursor raises these
            logger("records").warning("store_not_shrunk", reason=str(error))
            return False
        return True

    def _rebuild(self) -> None:
        """Write a file of before anew, so that it can give back what is removed from now on.

        Where somebody else uses it now, the next one to open it tries again.
        """
        try:
            with self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == INCREMENTAL:
                    return
                connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
                connection.exec_driver_sql("VACUUM")
        except SQLAlchemyError as error:
            logger("records").warning("store_not_shrunk", reason=str(error))

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with. Raises StoreError where that fails."""
        self.open()
        with self._guarded("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction; on disk when the block has ended. Raises StoreError where that fails."""
        self.open()
        with self._guarded("written"), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def removing(self, *, wait: bool) -> Iterator[bool]:
        """Be the only one who removes: one process and thread at a time prunes or purges.

        Args:
            wait: until the other one has ended; else give False where there is one.

        Raises:
            StoreError: the lock cannot be asked for.
        """
        self.open()
        file = self._engine.url.database
        if self.dialect == "postgresql":
            with self._guarded("pruned"), self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                lock = sa.select(sa.func.pg_try_advisory_lock(REMOVING))
                got = _ask(lambda: bool(connection.execute(lock).scalar()), wait)
                try:
                    yield got
                finally:
                    if got:
                        connection.execute(sa.select(sa.func.pg_advisory_unlock(REMOVING)))
        elif not file or file == ":memory:" or file.startswith("file:"):
            yield True  # of one process alone
        else:
            path = Path(file)
            with self._guarded("pruned"):
                stream = path.with_name(f".{path.name}.removing").open("a")
            with stream:
                yield _ask(lambda: _try_lock(stream), wait)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    def _creating(self) -> AbstractContextManager[None]:
        """SQLite: one process at a time creates the file and switches it to WAL."""
        file = self._engine.url.database
        if self.dialect != "sqlite" or not file or file == ":memory:":
            return nullcontext()
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        make_sqlite_file(self._engine.url)
        return lock_file(path.with_name(f".{path.name}.lock"))

    @contextmanager
    def _guarded(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            self._opened = False  # a store that comes back may be an empty one
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"the store of records cannot be {verb}: {cause}") from error


def _ask(attempt: Callable[[], bool], wait: bool) -> bool:
    while not (got := attempt()) and wait:
        time.sleep(ASK_SECONDS)
    return got


def _try_lock(stream: IO[str]) -> bool:
    """Lock an open file, unless another one has it; it ends when the file is closed."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_pages(connection: sa.Connection, pages: int) -> None:
    """Give so many pages of an SQLite file back, all for 0.

    SQLite frees a page a step, and Python's `execute` takes one step of what has no columns; a
    script is run to its end.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.executescript(f"PRAGMA incremental_vacuum({pages})")
    finally:
        cursor.close()


def check_columns(connection: sa.Connection, table: str, wanted: set[str]) -> None:
    """Raise StoreError where the table has other columns: another version made it."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(table)}
    for names, verb in ((wanted - there, "lacks"), (there - wanted, "has")):
        if not names:
            continue
        raise StoreError(
            f"the store of records was made by another version: its table {table} {verb} "
            f"{', '.join(sorted(names))}; stop service and watcher, move its "
            "file (and its folder of segments) away or "
            "give another HOLDFAST_DATABASE_URL, and a new store is made"
        )


def make_sqlite_file(url: str | sa.URL) -> None:
    """Make the file of an SQLite URL with the mode of the umask; SQLite itself uses 0o644."""
    parsed = sa.make_url(url)
    file = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or file in ("", ":memory:"):
        return
    if not file.startswith("file:"):  # SQLite's own form, with options
        make_file(Path(file))


def engine_url(url: str) -> sa.URL:
    """Return the URL with our default driver where it names none, and its password from a file.

    `?password_file=/run/secrets/name` keeps a password out of settings, logs and the tasks of
    children, which hold the URL as it was given.

    Raises:
        StoreError: the file of the password cannot be read, or is empty.
    """
    parsed = sa.make_url(url)
    if parsed.drivername == "postgresql":  # which driver that means differs by SQLAlchemy's version
        parsed = parsed.set(drivername="postgresql+psycopg")
    file = parsed.query.get(PASSWORD_FILE)
    if file is None:
        return parsed
    try:
        password = Path(str(file)).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StoreError(f"the password of the store of records cannot be read: {error}") from error
    if not password:
        raise StoreError(f"the password of the store of records is not in {file}: it is empty")
    return parsed.difference_update_query([PASSWORD_FILE]).set(password=password)


def make_engine(url: str, patience_seconds: float) -> sa.Engine:
    """Make an engine that waits at most this long for a lock, a statement or a connection."""
    parsed = engine_url(url)
    milliseconds = int(patience_seconds * 1000)
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(parsed)
        sa.event.listen(engine, "connect", _sqlite_setter(milliseconds))
        return engine
    arguments: dict[str, int | str] = {
        "connect_timeout": max(LEAST_CONNECT_SECONDS, round(patience_seconds)),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds + 5000,
        "application_name": "holdfast",
    }
    engine = sa.create_engine(
        parsed,
        connect_args={k: v for k, v in arguments.items() if k not in parsed.query},
        pool_pre_ping=True,
        pool_timeout=patience_seconds,
    )
    sa.event.listen(engine, "connect", _postgres_setter(milliseconds))
    return engine


def _sqlite_setter(milliseconds: int) -> Any:
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file; before anything else
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    return prepare


def _postgres_setter(milliseconds: int) -> Any:
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = {milliseconds}")
        cursor.execute(f"SET lock_timeout = {milliseconds}")
        # A client that hangs in a transaction would keep its locks, the watcher's lease for one.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
        cursor.close()
        connection.commit()

    return prepare
