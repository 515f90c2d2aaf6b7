"""The store of requests with their answers, and of the true labels that come later.

    requests   one row per instance: raw input, prediction, scores
    feedback   one row per labelled instance; the last label wins

SQLite by default, PostgreSQL by URL (`monitoring.records.database`); several processes may write.
A prediction never waits: records are dropped and counted if the queue is full or the store is
locked. A label that was accepted is on disk.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema
from monitoring.records.database import PATIENCE_SECONDS, Database, StoreError

__all__ = [
    "FEEDBACK", "REQUESTS", "Counts", "Key", "Labelled", "Recent", "Record", "RecordStore",
    "Recorded", "RecordedRow", "StoreError", "fits", "raw_inputs",
]  # fmt: skip
KEYS_PER_QUERY = 400
T = TypeVar("T")
_METADATA = sa.MetaData()
REQUESTS = sa.Table(
    "requests",
    _METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("x", sa.LargeBinary, nullable=False),
    sa.Column("predicted", sa.Integer, nullable=False),
    sa.Column("p_value", sa.Float, nullable=False),
    sa.Column("perturbation", sa.Float, nullable=False),
    sa.Index("requests_by_id", "id", "row"),
    sqlite_autoincrement=True,
)
FEEDBACK = sa.Table(
    "feedback",
    _METADATA,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("label", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("feedback_by_seq", "seq"),
)


class Record(NamedTuple):
    """One answered instance; times are seconds since the epoch, `x` raw bytes in schema dtype."""

    id: str
    row: int
    at: float
    model: str
    version: int
    x: bytes
    predicted: int
    p_value: float
    perturbation: float


class Key(NamedTuple):
    """The key of a record: the id of a request and the row in it."""

    id: str
    row: int


class Recorded(NamedTuple):
    """A request as it was recorded; `x` are raw bytes in schema dtype."""

    id: str
    row: int
    at: float
    x: bytes


class RecordedRow(NamedTuple):
    """A stored record without its input."""

    seq: int
    model: str
    version: int
    predicted: int


@dataclass(frozen=True)
class Labelled:
    """Recorded inputs with their true labels, oldest first."""

    x: InputArray  # (N, *shape) raw
    y: IntArray  # (N,) true class
    predicted: IntArray  # (N,) class answered
    at: npt.NDArray[np.float64]  # (N,) seconds since the epoch of the request
    p_value: npt.NDArray[np.float64]  # (N,)
    perturbation: npt.NDArray[np.float64]  # (N,)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Recent:
    """The latest requests without their inputs, oldest first; times in seconds since the epoch."""

    seq: IntArray  # (N,)
    at: npt.NDArray[np.float64]  # (N,) of the request
    predicted: IntArray  # (N,) class answered
    p_value: npt.NDArray[np.float64]  # (N,)
    label: IntArray  # (N,) true class, -1 where none came

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """`(N,)`: whether a label came."""
        came: npt.NDArray[np.bool_] = self.label >= 0
        return came


class Counts(NamedTuple):
    """How much the store holds."""

    requests: int
    labelled: int


class RecordStore:
    """Records and feedback in a database; safe for several threads and processes.

    Every method raises StoreError where the database cannot do its part.
    """

    def __init__(
        self, url: str, *, patience_seconds: float = PATIENCE_SECONDS, later: bool = False
    ) -> None:
        """Connect and create what is missing.

        Args:
            url: SQLAlchemy's, of SQLite or PostgreSQL.
            patience_seconds: how long a lock, a statement or a connection is waited for.
            later: connect at the first use, and again after an error, instead of now.
        """
        self._database = Database(url, _METADATA, patience_seconds)
        if not later:
            self._database.open()

    def open(self) -> None:
        """Create what is missing, where that was not done since the last error."""
        self._database.open()

    def add(self, records: Sequence[Record]) -> None:
        """Write records in one transaction."""
        if records:
            with self._database.writing() as connection:
                connection.execute(_INSERT, [record._asdict() for record in records])

    def find(self, keys: Iterable[Key]) -> dict[Key, RecordedRow]:
        """Return the latest record of each key that has one."""
        rows: dict[Key, RecordedRow] = {}
        with self._database.reading() as connection:
            for part in _parts(sorted({key.id for key in keys})):
                query = (
                    sa.select(*(REQUESTS.c[n] for n in ("id", "row", *RecordedRow._fields)))
                    .where(REQUESTS.c.id.in_(part))
                    .order_by(REQUESTS.c.seq)
                )
                for id_, row, *rest in connection.execute(query):
                    rows[Key(id_, row)] = RecordedRow(*rest)
        return {key: rows[key] for key in keys if key in rows}

    def add_feedback(self, labels: Sequence[tuple[Key, RecordedRow, int]]) -> None:
        """Store true labels (class indices) of existing records; the last label of a key wins.

        They are on disk when this returns.
        """
        rows = {
            key: {
                "id": key.id,
                "row": key.row,
                "seq": record.seq,
                "label": label,
                "at": time.time(),
            }
            for key, record, label in labels
        }
        if rows:
            with self._database.writing() as connection:
                connection.execute(self._upsert(), list(rows.values()))

    def check_writable(self) -> None:
        """Raise StoreError where nothing can be written now, for example because of a lock."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(FEEDBACK).where(sa.false()))

    def labelled(
        self,
        model: str,
        schema: InputSchema,
        *,
        since: float = 0.0,
        limit: int = 10_000,
        version: int | None = None,
    ) -> Labelled:
        """Return the latest `limit` labelled rows of requests answered since `since` (epoch s).

        Rows of another shape or dtype than `schema` are left out.
        """
        query = (
            sa.select(*(REQUESTS.c[n] for n in ("x", "predicted", "at", "p_value", "perturbation")))
            .add_columns(FEEDBACK.c.label)
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
            .where(REQUESTS.c.model == model, REQUESTS.c.at >= since)
            .order_by(REQUESTS.c.seq.desc())
            .limit(limit)
        )
        if version is not None:
            query = query.where(REQUESTS.c.version == version)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        rows = [r for r in reversed(rows) if fits(r.x, schema)]
        return Labelled(
            x=raw_inputs([r.x for r in rows], schema),
            y=np.array([r.label for r in rows], dtype=np.int64),
            predicted=np.array([r.predicted for r in rows], dtype=np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            p_value=np.array([r.p_value for r in rows], dtype=np.float64),
            perturbation=np.array([r.perturbation for r in rows], dtype=np.float64),
        )

    def observed(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Return whether the latest `last` labelled rows were predicted right, oldest first."""
        query = (
            sa.select(REQUESTS.c.predicted == FEEDBACK.c.label)
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .where(REQUESTS.c.at >= since)
            .order_by(REQUESTS.c.seq.desc())
            .limit(last)
        )
        with self._database.reading() as connection:
            right = connection.execute(query).scalars().all()
        return np.array(right[::-1], dtype=np.bool_)

    def recent(self, model: str, version: int, last: int, *, after: int = 0) -> Recent:
        """Return the latest `last` requests whose `seq` is above `after`, labelled or not."""
        query = (
            sa.select(*(REQUESTS.c[n] for n in ("seq", "at", "predicted", "p_value")))
            .add_columns(FEEDBACK.c.label)
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq, isouter=True)
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .where(REQUESTS.c.seq > after)
            .order_by(REQUESTS.c.seq.desc())
            .limit(last)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()[::-1]
        return Recent(
            seq=np.array([r.seq for r in rows], dtype=np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            predicted=np.array([r.predicted for r in rows], dtype=np.int64),
            p_value=np.array([r.p_value for r in rows], dtype=np.float64),
            label=np.array([-1 if r.label is None else r.label for r in rows], dtype=np.int64),
        )

    def inputs(self, seqs: Sequence[int], schema: InputSchema) -> InputArray:
        """Return raw inputs `(N, *shape)` of recorded requests, in the order of `seq`.

        Requests that were pruned, or have another shape or dtype than `schema`, are left out.
        """
        inputs: list[bytes] = []
        with self._database.reading() as connection:
            for part in _parts(sorted(seqs)):
                query = sa.select(REQUESTS.c.x).where(REQUESTS.c.seq.in_(part))
                inputs += connection.execute(query.order_by(REQUESTS.c.seq)).scalars().all()
        return raw_inputs([x for x in inputs if fits(x, schema)], schema)

    def latest(self, model: str, version: int, last: int, most: int) -> list[Recorded]:
        """Return the first `most` of the latest `last` requests, oldest first, with inputs."""
        query = (
            sa.select(*(REQUESTS.c[n] for n in ("id", "row", "at", "x")))
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .order_by(REQUESTS.c.seq.desc())
            .limit(min(last, most))
            .offset(max(0, last - most))
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [Recorded(*row) for row in reversed(rows)]

    def label_delays(self, model: str, version: int, last: int) -> npt.NDArray[np.float64]:
        """Return seconds from request to label of the latest `last` labelled rows, oldest first."""
        query = (
            sa.select(FEEDBACK.c.at - REQUESTS.c.at)
            .select_from(REQUESTS)
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .order_by(REQUESTS.c.seq.desc())
            .limit(last)
        )
        with self._database.reading() as connection:
            delays = connection.execute(query).scalars().all()
        return np.array(delays[::-1], dtype=np.float64)

    def counts(self, model: str, version: int | None = None) -> Counts:
        """Count the records of a model (or a version), and those with a label; for tests."""
        query = (
            sa.select(sa.func.count(REQUESTS.c.seq), sa.func.count(FEEDBACK.c.seq))
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq, isouter=True)
            .where(REQUESTS.c.model == model)
        )
        if version is not None:
            query = query.where(REQUESTS.c.version == version)
        with self._database.reading() as connection:
            return Counts(*connection.execute(query).one())

    def prune(self, rows_kept: int) -> int:
        """Remove all but the latest `rows_kept` records with their labels; returns how many."""
        newest = sa.select(sa.func.max(REQUESTS.c.seq)).scalar_subquery()
        with self._database.writing() as connection:
            gone = connection.execute(
                sa.delete(REQUESTS).where(REQUESTS.c.seq <= newest - rows_kept)
            )
            if gone.rowcount:
                oldest = sa.select(sa.func.min(REQUESTS.c.seq)).scalar_subquery()
                connection.execute(sa.delete(FEEDBACK).where(FEEDBACK.c.seq < oldest))
        return int(gone.rowcount)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._database.close()

    def _upsert(self) -> sa.Executable:
        make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        insert = make(FEEDBACK)
        return insert.on_conflict_do_update(
            index_elements=["id", "row"],
            set_={name: insert.excluded[name] for name in ("seq", "label", "at")},
        )


def fits(x: bytes, schema: InputSchema) -> bool:
    """Whether recorded bytes have the length of a row of this shape and dtype."""
    return len(x) == schema.size * np.dtype(schema.dtype).itemsize


def raw_inputs(rows: Sequence[bytes], schema: InputSchema) -> InputArray:
    """Convert recorded bytes, each of which `fits`, to raw inputs `(N, *shape)`."""
    x: InputArray = np.frombuffer(b"".join(rows), np.dtype(schema.dtype))
    return x.reshape(len(rows), *schema.shape)


_INSERT = sa.insert(REQUESTS)


def _parts(ids: list[T]) -> Iterator[list[T]]:
    return (ids[start : start + KEYS_PER_QUERY] for start in range(0, len(ids), KEYS_PER_QUERY))
