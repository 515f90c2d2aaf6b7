"""Which of several watchers on one PostgreSQL leads: a lease in a row, whose token only rises.

The watcher that leads renews the lease; one that stands by takes it once it has run out, by the
database's clock alone. Who takes it gets the next token. What is written under a lease asks for its
token in the same transaction and keeps it from being taken until that has ended, so that a watcher
that was stopped, and goes on after another one took its place, writes nothing.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from models.base.errors import HoldfastError
from monitoring.records.database import CREATING, make_engine

LEASE_SECONDS = 15.0  # without a sign of life, until another watcher may lead
PATIENCE_SECONDS = 3.0
CHILD_SECONDS = 60.0  # a child waits so long for a database that is away
_ROW = 1  # there is one watcher's lease in a database

_METADATA = sa.MetaData()
LEASE = sa.Table(
    "watcher_lease",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("place", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
)
_NOW = sa.func.clock_timestamp()  # now() is when the transaction began

# Asks inside a transaction whether it may write. Raises LeaseLostError.
TransactionFence = Callable[[sa.Connection], None]


class LeaseLostError(HoldfastError):
    """Another watcher leads now: this one writes nothing any more."""


class Candidate(NamedTuple):
    """A watcher that may lead.

    Args:
        place: where it listens; two processes cannot be at one place, so that a watcher that is
            started again at the place of the last one goes on at once.
        name: of the place, for people.
        state: of its state directory; only watchers of one state can go on with each other's work.
    """

    place: str
    name: str
    state: str


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lease; `since` in seconds since 1970, `left_seconds` until it runs out."""

    token: int
    name: str
    state: str
    since: float
    left_seconds: float


class Lease:
    """A watcher's side of the lease; one thread takes and renews it, any may ask.

    Args:
        url: of the PostgreSQL database.
        candidate: who asks.
        clock: seconds that only grow, also while the machine sleeps.
    """

    def __init__(
        self,
        url: str,
        candidate: Candidate,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.candidate = candidate
        self.token = 0  # 0: it was not taken
        self._engine = make_engine(url, PATIENCE_SECONDS)
        self._clock = clock
        self._made = False
        self._good_until = 0.0

    def take(self) -> bool:
        """Take the lease if nobody holds it, or this place does; whether that was so.

        A clock of the database that was set back makes it free, too: else a lease of an hour ago
        would end in an hour.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        self._make()
        asked, who = self._clock(), self.candidate._asdict()
        new = who | {"taken_at": _NOW, "renewed_at": _NOW, "ends_at": _end()}
        free = sa.or_(LEASE.c.ends_at <= _NOW, LEASE.c.renewed_at > _NOW)
        ours = sa.and_(LEASE.c.place == self.candidate.place, LEASE.c.state == self.candidate.state)
        statement = (
            insert(LEASE)
            .values(id=_ROW, token=1, **new)
            .on_conflict_do_update(
                index_elements=[LEASE.c.id],
                set_=new | {"token": LEASE.c.token + 1},
                where=sa.or_(free, ours),
            )
            .returning(LEASE.c.token)
        )
        with self._engine.begin() as connection:
            token = connection.execute(statement).scalar()
        if token is None:
            return False
        self.token, self._good_until = int(token), asked + LEASE_SECONDS
        return True

    def renew(self) -> bool:
        """Hold the lease for longer; False where another watcher has taken it.

        Raises:
            SQLAlchemyError: the database does not answer, so that this is not known.
        """
        asked = self._clock()
        with self._engine.begin() as connection:
            done = connection.execute(
                sa.update(LEASE).where(*self._mine()).values(renewed_at=_NOW, ends_at=_end())
            )
        if done.rowcount != 1:
            self._good_until = 0.0
            return False
        self._good_until = asked + LEASE_SECONDS
        return True

    def release(self) -> None:
        """Let the next one lead at once. Raises SQLAlchemyError."""
        self._good_until = 0.0
        with self._engine.begin() as connection:
            connection.execute(sa.update(LEASE).where(*self._mine()).values(ends_at=_NOW))

    def leads(self) -> bool:
        """Whether no other can lead now; asks nobody."""
        return self._clock() < self._good_until

    def holder(self) -> Holder | None:
        """Who holds the lease; None where nobody ever did. Raises SQLAlchemyError."""
        self._make()
        since = sa.extract("epoch", LEASE.c.taken_at).label("since")
        left = sa.extract("epoch", LEASE.c.ends_at - _NOW).label("left")
        query = sa.select(LEASE.c.token, LEASE.c.name, LEASE.c.state, since, left)
        with self._engine.connect() as connection:
            row = connection.execute(query.where(LEASE.c.id == _ROW)).one_or_none()
        if row is None:
            return None
        return Holder(row.token, row.name, row.state, float(row.since), max(0.0, float(row.left)))

    def check(self) -> None:
        """Ask whether this watcher still leads; for what is written under another lock.

        Raises:
            LeaseLostError: another one does.
            SQLAlchemyError: the database does not answer, so that this is not known.
        """
        with self._engine.begin() as connection:
            self.check_in(connection)

    def check_in(self, connection: sa.Connection) -> None:
        """As `check`, inside a transaction, whose end the next watcher waits for."""
        check_token(connection, self.token)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return LEASE.c.id == _ROW, LEASE.c.token == self.token

    def _make(self) -> None:
        if not self._made:
            with self._engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATING)))
                _METADATA.create_all(connection)
            self._made = True


def check_token(connection: sa.Connection, token: int) -> None:
    """Raise LeaseLostError unless `token` is the latest; it stays so until the transaction ends."""
    query = sa.select(LEASE.c.token, LEASE.c.name).where(LEASE.c.id == _ROW)
    row = connection.execute(query.with_for_update(read=True)).one_or_none()
    if row is None or row.token != token:
        who = "nobody, the lease is gone from the database" if row is None else row.name
        raise LeaseLostError(f"another watcher leads now ({who}): nothing more is written here")


def fence_of(database_url: str, token: int) -> Callable[[], None]:
    """What a child process of the watcher asks before it writes; does nothing without a lease.

    A database that is away is waited for a minute, so that its restart costs no training.

    Raises, when it is called:
        LeaseLostError, SQLAlchemyError: as `Lease.check`.
    """
    if not token:
        return lambda: None

    def check() -> None:
        engine = make_engine(database_url, PATIENCE_SECONDS)
        deadline = time.monotonic() + CHILD_SECONDS
        try:
            while not _asked(engine, token, deadline):
                time.sleep(1.0)
        finally:
            engine.dispose()

    return check


def _asked(engine: sa.Engine, token: int, deadline: float) -> bool:
    """Whether the database has answered; once it is too late, its error is raised."""
    try:
        with engine.begin() as connection:
            check_token(connection, token)
    except sa.exc.DBAPIError:
        if time.monotonic() > deadline:
            raise
        return False
    return True


def _end() -> sa.ColumnElement[timedelta]:
    return _NOW + timedelta(seconds=LEASE_SECONDS)
