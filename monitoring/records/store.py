"""The store of requests with their answers, and of the true labels that come later.

    requests   one row per instance: raw input, prediction, scores
    feedback   one row per labelled instance; the last label wins

SQLite by default, PostgreSQL by URL (`monitoring.records.database`); several processes may write.
A prediction never waits: records are dropped and counted if the queue is full or the store is
locked. A label that was accepted is on disk.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.versions.schema import InputArray, InputSchema
from monitoring.records.database import PATIENCE_SECONDS, Database, StoreError
from monitoring.records.rows import (
    FEEDBACK,
    METADATA,
    REQUESTS,
    Counts,
    Key,
    Labelled,
    LabelledAnswers,
    Recent,
    Record,
    Recorded,
    RecordedRow,
)

__all__ = [
    "Counts", "Key", "Labelled", "LabelledAnswers", "Recent", "Record", "RecordStore", "Recorded",
    "RecordedRow", "StoreError", "fits", "raw_inputs",
]  # fmt: skip
KEYS_PER_QUERY = 400
LABELLING = 0x486F6C6C  # PostgreSQL's lock of who writes labels
T = TypeVar("T")


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
        self._database = Database(url, METADATA, patience_seconds)
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
                if self._database.dialect == "postgresql":  # numbers rise in the order of commits
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LABELLING)))
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

    def recent(self, model: str, version: int, last: int) -> Recent:
        """Return the latest `last` requests, labelled or not."""
        query = _recent(model, version).order_by(REQUESTS.c.seq.desc()).limit(last)
        with self._database.reading() as connection:
            return _recent_of(connection.execute(query).all()[::-1])

    def following(
        self, model: str, version: int, after: int, limit: int, *, since: float = 0.0
    ) -> Recent:
        """Return the first `limit` requests whose `seq` is above `after`, labelled or not.

        Those from before `since` (epoch s) are left out.
        """
        query = _recent(model, version).where(REQUESTS.c.seq > after, REQUESTS.c.at >= since)
        with self._database.reading() as connection:
            return _recent_of(connection.execute(query.order_by(REQUESTS.c.seq).limit(limit)).all())

    def latest_labels(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the latest `last` labelled requests that came at or after `since` (epoch s)."""
        query = _answers(model, version, since).order_by(FEEDBACK.c.number.desc()).limit(last)
        with self._database.reading() as connection:
            return _answers_of(connection.execute(query).all()[::-1])

    def labels_after(
        self, model: str, version: int, number: int, limit: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the first `limit` labels with a higher number, of requests at or after `since`."""
        query = _answers(model, version, since).where(FEEDBACK.c.number > number)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(FEEDBACK.c.number).limit(limit)).all()
        return _answers_of(rows)

    def newest(self) -> int:
        """Return the highest `seq` of any request; 0 where there is none."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(REQUESTS.c.seq))).scalar() or 0)

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


def _recent(model: str, version: int) -> sa.Select[tuple[object, ...]]:
    columns = (REQUESTS.c[n] for n in ("seq", "at", "predicted", "p_value", "confidence"))
    return (
        sa.select(*columns, FEEDBACK.c.label)
        .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq, isouter=True)
        .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
    )


def _recent_of(rows: Sequence[sa.Row[tuple[object, ...]]]) -> Recent:
    return Recent(
        seq=np.array([r.seq for r in rows], dtype=np.int64),
        at=np.array([r.at for r in rows], dtype=np.float64),
        predicted=np.array([r.predicted for r in rows], dtype=np.int64),
        p_value=np.array([r.p_value for r in rows], dtype=np.float64),
        confidence=np.array([r.confidence for r in rows], dtype=np.float64),
        label=np.array([-1 if r.label is None else r.label for r in rows], dtype=np.int64),
    )


def _answers(model: str, version: int, since: float) -> sa.Select[tuple[object, ...]]:
    columns = (REQUESTS.c[n] for n in ("seq", "at", "p_value", "confidence", "entropy"))
    right = (REQUESTS.c.predicted == FEEDBACK.c.label).label("right")
    return (
        sa.select(*columns, FEEDBACK.c.number, right)
        .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
        .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
        .where(REQUESTS.c.at >= since)
    )


def _answers_of(rows: Sequence[sa.Row[tuple[object, ...]]]) -> LabelledAnswers:
    return LabelledAnswers(
        number=np.array([r.number for r in rows], dtype=np.int64),
        seq=np.array([r.seq for r in rows], dtype=np.int64),
        at=np.array([r.at for r in rows], dtype=np.float64),
        right=np.array([r.right for r in rows], dtype=np.bool_),
        p_value=np.array([r.p_value for r in rows], dtype=np.float64),
        confidence=np.array([r.confidence for r in rows], dtype=np.float64),
        entropy=np.array([r.entropy for r in rows], dtype=np.float64),
    )
