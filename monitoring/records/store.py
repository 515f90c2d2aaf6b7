"""The store of requests with their answers, and of the true labels that come later.

    requests         one row per instance: raw input, prediction, scores, who asked
    feedback         one row per labelled instance: the label that counts, and who gave it
    further_labels   what other clients said of a labelled instance

The label of the client that was first counts, and its last word; nobody else can change it. Where
another client says otherwise the row is contradicted: nothing is trained or judged on it.

SQLite by default, PostgreSQL by URL (`monitoring.records.database`); several processes may write.
A prediction never waits: records are dropped and counted if the queue is full or the store is
locked. A label that was accepted is on disk.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models.versions.schema import InputArray, InputSchema
from monitoring.records.database import PATIENCE_SECONDS, Database, StoreError
from monitoring.records.labels import GivenLabel, write_labels
from monitoring.records.queries import (
    AGREED,
    INSERT,
    fits,
    raw_inputs,
    select_answers,
    select_recent,
)
from monitoring.records.rows import (
    FEEDBACK,
    FURTHER,
    METADATA,
    REQUESTS,
    Answered,
    Counts,
    Key,
    Labelled,
    LabelledAnswers,
    Recent,
    Record,
    Recorded,
    RecordedRow,
    Standing,
    in_parts,
)
from monitoring.records.usable import NO_QUOTA, Quota, Usable, choose_usable

__all__ = [
    "Counts", "Key", "Labelled", "LabelledAnswers", "Recent", "Record", "RecordStore", "Recorded",
    "RecordedRow", "Standing", "StoreError", "fits", "raw_inputs",
]  # fmt: skip


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
                connection.execute(INSERT, [record._asdict() for record in records])

    def find(self, keys: Iterable[Key], client: str = "") -> dict[Key, RecordedRow]:
        """Return the latest record of each key that has one: of `client`, where it has one.

        Other clients may have used its id, before or since: that takes no record from its client.
        """
        wanted = set(keys)
        rows: dict[Key, dict[str, RecordedRow]] = {key: {} for key in wanted}
        names = ("id", "row", "seq", "model", "version", "predicted", "client")
        with self._database.reading() as connection:
            for part in in_parts(sorted({key.id for key in wanted})):
                query = (
                    sa.select(*(REQUESTS.c[n] for n in names))
                    .where(REQUESTS.c.id.in_(part))
                    .order_by(REQUESTS.c.seq)
                )
                for id_, row, *rest in connection.execute(query):
                    if (key := Key(id_, row)) in rows:
                        record = RecordedRow(*rest)
                        rows[key][record.client] = record
        return {
            key: (of.get(client) or max(of.values()))._replace(shared=len(of) > 1)
            for key, of in rows.items()
            if of
        }

    def add_feedback(
        self,
        labels: Sequence[tuple[Key, RecordedRow, int]],
        client: str = "",
        *,
        trusted: bool = False,
    ) -> dict[Key, Standing]:
        """Store true labels (class indices) of existing records; on disk on return.

        Args:
            labels: the last one of a record wins.
            client: who gives them; its last word replaces its earlier ones.
            trusted: whether it may label the requests of every client.

        Returns:
            How each label stands beside those of other clients.
        """
        rows = {
            record.seq: GivenLabel(record.seq, label, time.time(), client, trusted)
            for _, record, label in labels
        }
        if not rows:
            return {}
        with self._database.writing() as connection:
            standings = write_labels(connection, self._database.dialect, rows)
        return {key: standings[record.seq] for key, record, _ in labels}

    def check_writable(self) -> None:
        """Raise StoreError where nothing can be written now, for example because of a lock."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(FEEDBACK).where(sa.false()))

    def usable(
        self,
        model: str,
        *,
        since: float = 0.0,
        until: float | None = None,
        version: int | None = None,
        quota: Quota = NO_QUOTA,
        limit: int | None = None,
    ) -> Usable:
        """Choose the labelled rows that a window may use, of requests since `since` (epoch s).

        With `until` only of requests before that.

        Contradicted rows are none of them, and of a client's rows only the latest, up to its quota
        of the latest `limit` rows.
        """
        names = ("seq", "client", "trusted", "contradicted")
        query = (
            sa.select(*(FEEDBACK.c[n] for n in names))
            .join(REQUESTS, FEEDBACK.c.seq == REQUESTS.c.seq)
            .where(REQUESTS.c.model == model, REQUESTS.c.at >= since)
            .order_by(REQUESTS.c.seq)
        )
        if version is not None:
            query = query.where(REQUESTS.c.version == version)
        if until is not None:
            query = query.where(REQUESTS.c.at < until)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return choose_usable(
            seq=np.array([r.seq for r in rows], dtype=np.int64),
            clients=[r.client for r in rows],
            trusted=np.array([r.trusted for r in rows], dtype=np.bool_),
            contradicted=np.array([r.contradicted for r in rows], dtype=np.bool_),
            quota=quota,
            limit=limit,
        )

    def labelled(
        self,
        model: str,
        schema: InputSchema,
        *,
        since: float = 0.0,
        until: float | None = None,
        limit: int = 10_000,
        version: int | None = None,
        quota: Quota = NO_QUOTA,
    ) -> Labelled:
        """Return the rows that `usable` chooses.

        Rows of another shape or dtype than `schema` are left out.
        """
        chosen = self.usable(
            model, since=since, until=until, version=version, quota=quota, limit=limit
        ).seq
        names = ("x", "predicted", "at", "p_value", "perturbation", "version")
        rows: list[sa.Row[Any]] = []
        with self._database.reading() as connection:
            for part in in_parts(chosen.tolist()):
                query = (
                    sa.select(*(REQUESTS.c[n] for n in names))
                    .add_columns(REQUESTS.c.client.label("asker"))
                    .add_columns(*(FEEDBACK.c[n] for n in ("label", "client", "trusted")))
                    .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
                    .where(REQUESTS.c.seq.in_(part))
                    .order_by(REQUESTS.c.seq)
                )
                rows += connection.execute(query).all()
        rows = [r for r in rows if fits(r.x, schema)]
        return Labelled(
            x=raw_inputs([r.x for r in rows], schema),
            y=np.array([r.label for r in rows], dtype=np.int64),
            predicted=np.array([r.predicted for r in rows], dtype=np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            p_value=np.array([r.p_value for r in rows], dtype=np.float64),
            perturbation=np.array([r.perturbation for r in rows], dtype=np.float64),
            versions=np.array([r.version for r in rows], dtype=np.int64),
            clients=tuple(r.client for r in rows),
            askers=tuple(r.asker for r in rows),
            trusted=np.array([r.trusted for r in rows], dtype=np.bool_),
        )

    def observed(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Return whether the latest `last` labelled rows were predicted right, oldest first."""
        query = (
            sa.select(REQUESTS.c.predicted == FEEDBACK.c.label)
            .join(FEEDBACK, FEEDBACK.c.seq == REQUESTS.c.seq)
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .where(REQUESTS.c.at >= since, AGREED)
            .order_by(REQUESTS.c.seq.desc())
            .limit(last)
        )
        with self._database.reading() as connection:
            right = connection.execute(query).scalars().all()
        return np.array(right[::-1], dtype=np.bool_)

    def recent(self, model: str, version: int, last: int) -> Recent:
        """Return the latest `last` requests, labelled or not."""
        query = select_recent(model, version).order_by(REQUESTS.c.seq.desc()).limit(last)
        with self._database.reading() as connection:
            return Recent.of(connection.execute(query).all()[::-1])

    def following(
        self, model: str, version: int, after: int, limit: int, *, since: float = 0.0
    ) -> Recent:
        """Return the first `limit` requests whose `seq` is above `after`, labelled or not.

        Those from before `since` (epoch s) are left out.
        """
        query = select_recent(model, version).where(REQUESTS.c.seq > after, REQUESTS.c.at >= since)
        with self._database.reading() as connection:
            return Recent.of(connection.execute(query.order_by(REQUESTS.c.seq).limit(limit)).all())

    def latest_labels(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the latest `last` labelled requests that came at or after `since` (epoch s)."""
        query = select_answers(model, version, since).order_by(FEEDBACK.c.number.desc()).limit(last)
        with self._database.reading() as connection:
            return LabelledAnswers.of(connection.execute(query).all()[::-1])

    def labels_after(
        self, model: str, version: int, number: int, limit: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the first `limit` labels with a higher number, of requests at or after `since`."""
        query = select_answers(model, version, since).where(FEEDBACK.c.number > number)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(FEEDBACK.c.number).limit(limit)).all()
        return LabelledAnswers.of(rows)

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
            for part in in_parts(sorted(seqs)):
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

    def answered(
        self,
        model: str,
        version: int,
        schema: InputSchema,
        *,
        after: int,
        most: int,
        since: float = 0.0,
    ) -> Answered:
        """Return the latest `most` requests whose `seq` is above `after`, with their inputs.

        Those from before `since` (epoch s), or of another shape or dtype than `schema`, are left
        out.
        """
        query = (
            sa.select(REQUESTS.c.seq, REQUESTS.c.x, REQUESTS.c.predicted)
            .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
            .where(REQUESTS.c.seq > after, REQUESTS.c.at >= since)
            .order_by(REQUESTS.c.seq.desc())
            .limit(most)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        rows = [r for r in reversed(rows) if fits(r.x, schema)]
        return Answered(
            seq=np.array([r.seq for r in rows], dtype=np.int64),
            x=raw_inputs([r.x for r in rows], schema),
            predicted=np.array([r.predicted for r in rows], dtype=np.int64),
        )

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
                for table in (FEEDBACK, FURTHER):
                    connection.execute(sa.delete(table).where(table.c.seq < oldest))
        return int(gone.rowcount)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._database.close()
