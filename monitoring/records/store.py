"""The store of requests with their answers, and of the true labels that come later.

    requests         one row per request: its instances' predictions and scores, who asked
    segments         files with their raw inputs, beside an SQLite file; else these are in the rows
    feedback         one row per labelled instance: the label that counts, and who gave it
    further_labels   what other clients said of a labelled instance

The label of the client that was first counts, and its last word; nobody else can change it. Where
another client says otherwise the row is contradicted: nothing is trained or judged on it.

SQLite by default, PostgreSQL by URL (`monitoring.records.database`); several processes may write.
A prediction never waits: records are dropped and counted if the queue is full or the store is
locked. A label that was accepted is on disk.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models.versions.schema import InputArray, InputSchema
from monitoring.records import reader
from monitoring.records.database import PATIENCE_SECONDS, Database, StoreError
from monitoring.records.keeping.limits import Kept
from monitoring.records.keeping.prune import Reservoir, find_reservoir, prune
from monitoring.records.labels import GivenLabel, write_labels
from monitoring.records.migrations.prepare import prepare
from monitoring.records.reader import AGREED, LABELLED
from monitoring.records.requests import Request, group_records
from monitoring.records.rows import (
    Answered,
    Counts,
    Key,
    Labelled,
    LabelledAnswers,
    Recent,
    Record,
    Recorded,
    RecordedInput,
    RecordedRow,
    Standing,
    fits,
    in_parts,
    raw_inputs,
)
from monitoring.records.tables import FEEDBACK, METADATA, REQUESTS
from monitoring.records.usable import NO_QUOTA, Quota, Usable, choose_usable
from monitoring.records.writing import RequestWriter, segment_folder

__all__ = [
    "Counts", "Kept", "Key", "Labelled", "LabelledAnswers", "Recent", "Record", "RecordStore",
    "Recorded", "RecordedInput", "RecordedRow", "Request", "Standing", "StoreError", "fits",
    "raw_inputs",
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
        self.folder = segment_folder(url)
        self.database = Database(
            url, METADATA, patience_seconds, partial(prepare, folder=self.folder)
        )
        self._writer = RequestWriter(self.database, self.folder)
        self._writing = threading.Lock()
        if not later:
            self.database.open()

    def open(self) -> None:
        """Create what is missing, where that was not done since the last error."""
        self.database.open()

    def write(self, requests: Sequence[Request]) -> None:
        """Write requests in one transaction."""
        if requests:
            with self._writing:
                self._writer.write(requests)

    def add(self, records: Iterable[Record]) -> None:
        """Write instances in one transaction; for what has no whole requests."""
        self.write(list(group_records(records)))

    def find(self, keys: Iterable[Key], client: str = "") -> dict[Key, RecordedRow]:
        """Return the latest record of each key that has one: of `client`, where it has one.

        Other clients may have used its id, before or since: that takes no record from its client.
        """
        with self.database.reading() as connection:
            rows = reader.find_by_client(connection, set(keys))
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
        with self.database.writing() as connection:
            standings = write_labels(connection, self.database.dialect, rows)
        return {key: standings[record.seq] for key, record, _ in labels}

    def check_writable(self) -> None:
        """Raise StoreError where nothing can be written now, for example because of a lock."""
        with self.database.writing() as connection:
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

        With `until` only of requests before that. Rows that were recorded without their input are
        none of them.

        Contradicted rows are none of them, and of a client's rows only the latest, up to its quota
        of the latest `limit` rows.
        """
        names = ("seq", "client", "trusted", "contradicted")
        query = (
            sa.select(*(FEEDBACK.c[n] for n in names))
            .select_from(LABELLED)
            .where(REQUESTS.c.at >= since, REQUESTS.c.bytes > 0)  # else there is no input to use
            .order_by(FEEDBACK.c.seq)
        )
        if until is not None:
            query = query.where(REQUESTS.c.at < until)
        with self.database.reading() as connection:
            rows = connection.execute(_of(query, model, version)).all()
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
        names = ("last", "rows", "at", "version", "scores")
        query = (
            sa.select(*(REQUESTS.c[n] for n in names), REQUESTS.c.client.label("asker"))
            .add_columns(*(FEEDBACK.c[n] for n in ("seq", "label", "client", "trusted")))
            .select_from(LABELLED)
            .order_by(FEEDBACK.c.seq)
        )
        rows: list[sa.Row[Any]] = []
        with self.database.reading() as connection:
            for part in in_parts(chosen.tolist()):
                rows += connection.execute(query.where(FEEDBACK.c.seq.in_(part))).all()
            seq = np.array([r.seq for r in rows], dtype=np.int64)
            last = np.array([r.last for r in rows], dtype=np.int64)
            inputs = reader.read_inputs(connection, self.folder, seq, last)
        fitting = [(row, x) for row, x in zip(rows, inputs, strict=True) if fits(x, schema)]
        rows = [row for row, _ in fitting]
        scores = reader.scores_of(rows)
        return Labelled(
            x=raw_inputs([x for _, x in fitting], schema),
            y=np.array([r.label for r in rows], dtype=np.int64),
            predicted=scores["predicted"].astype(np.int64),
            at=np.array([r.at for r in rows], dtype=np.float64),
            p_value=scores["p_value"].copy(),
            perturbation=scores["perturbation"].copy(),
            versions=np.array([r.version for r in rows], dtype=np.int64),
            clients=tuple(r.client for r in rows),
            askers=tuple(r.asker for r in rows),
            trusted=np.array([r.trusted for r in rows], dtype=np.bool_),
        )

    def observed(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Return whether the latest `last` labelled rows were predicted right, oldest first."""
        query = _answers(model, version, since).order_by(FEEDBACK.c.seq.desc()).limit(last)
        with self.database.reading() as connection:
            return reader.labelled_answers(connection.execute(query).all()[::-1]).right

    def recent(self, model: str, version: int, last: int) -> Recent:
        """Return the latest `last` requests, labelled or not."""
        query = _instances(model, version).order_by(REQUESTS.c.last.desc())
        with self.database.reading() as connection:
            return reader.with_labels(connection, reader.take(connection, query, last).latest(last))

    def following(
        self, model: str, version: int, after: int, limit: int, *, since: float = 0.0
    ) -> Recent:
        """Return the first `limit` requests whose `seq` is above `after`, labelled or not.

        Those from before `since` (epoch s) are left out.
        """
        query = _instances(model, version).where(REQUESTS.c.last > after, REQUESTS.c.at >= since)
        with self.database.reading() as connection:
            rows = reader.take(connection, query.order_by(REQUESTS.c.last), limit, after)
            return reader.with_labels(connection, rows.cut(slice(limit)))

    def latest_labels(
        self, model: str, version: int, last: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the latest `last` labelled requests that came at or after `since` (epoch s)."""
        query = _answers(model, version, since).order_by(FEEDBACK.c.number.desc()).limit(last)
        with self.database.reading() as connection:
            return reader.labelled_answers(connection.execute(query).all()[::-1])

    def labels_after(
        self, model: str, version: int, number: int, limit: int, *, since: float = 0.0
    ) -> LabelledAnswers:
        """Return the first `limit` labels with a higher number, of requests at or after `since`."""
        query = _answers(model, version, since).where(FEEDBACK.c.number > number)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(FEEDBACK.c.number).limit(limit)).all()
        return reader.labelled_answers(rows)

    def newest(self) -> int:
        """Return the highest `seq` of any request; 0 where there is none."""
        with self.database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(REQUESTS.c.last))).scalar() or 0)

    def inputs(self, seqs: Sequence[int], schema: InputSchema) -> InputArray:
        """Return raw inputs `(N, *shape)` of recorded requests, in the order of `seq`.

        Requests that were pruned, or have another shape or dtype than `schema`, are left out.
        """
        return raw_inputs([r.x for r in self.pick(seqs) if fits(r.x, schema)], schema)

    def pick(self, seqs: Sequence[int]) -> list[RecordedInput]:
        """Return these instances with their inputs, in the order of `seq`; pruned ones are gone."""
        with self.database.reading() as connection:
            return reader.pick(connection, self.folder, np.sort(np.array(seqs, dtype=np.int64)))

    def latest(self, model: str, version: int, last: int, most: int) -> list[Recorded]:
        """Return the first `most` of the latest `last` requests, oldest first, with inputs.

        Those whose input is gone are left out.
        """
        query = _instances(model, version).order_by(REQUESTS.c.last.desc())
        with self.database.reading() as connection:
            rows = reader.take(connection, query, last).latest(last).cut(slice(most))
            inputs = reader.read_inputs(connection, self.folder, rows.seq, rows.last)
        columns = rows.ids.tolist(), rows.row.tolist(), rows.at.tolist(), inputs
        return [Recorded(*each) for each in zip(*columns, strict=True) if each[-1]]

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
        query = _instances(model, version).where(REQUESTS.c.last > after, REQUESTS.c.at >= since)
        with self.database.reading() as connection:
            newest_first = query.order_by(REQUESTS.c.last.desc())
            rows = reader.take(connection, newest_first, most, after).latest(most)
            inputs = reader.read_inputs(connection, self.folder, rows.seq, rows.last)
        rows = rows.cut(np.array([fits(x, schema) for x in inputs], dtype=np.bool_))
        return Answered(
            seq=rows.seq,
            x=raw_inputs([x for x in inputs if fits(x, schema)], schema),
            predicted=rows.scores["predicted"].astype(np.int64),
        )

    def label_delays(self, model: str, version: int, last: int) -> npt.NDArray[np.float64]:
        """Return seconds from request to label of the latest `last` labelled rows, oldest first."""
        with self.database.reading() as connection:
            delays = connection.execute(reader.select_delays(model, version, last)).scalars().all()
        return np.array(delays[::-1], dtype=np.float64)

    def label_times(self, model: str, last: int) -> npt.NDArray[np.float64]:
        """Return when the latest `last` labels of a model came, seconds since 1970, ascending."""
        with self.database.reading() as connection:
            times = connection.execute(reader.select_times(model, last)).scalars().all()
        return np.sort(np.array(times, dtype=np.float64))

    def counts(self, model: str, version: int | None = None) -> Counts:
        """Count the records of a model (or a version), and those with a label; for tests."""
        requests = sa.select(sa.func.coalesce(sa.func.sum(REQUESTS.c.rows), 0))
        labels = sa.select(sa.func.count(FEEDBACK.c.seq)).select_from(LABELLED)
        with self.database.reading() as connection:
            return Counts(
                *(
                    int(connection.execute(_of(query, model, version)).scalar_one())
                    for query in (requests, labels)
                )
            )

    def has_inputs(self, model: str) -> bool | None:
        """Whether the latest request of a model has its input; None where there is no request."""
        query = sa.select(REQUESTS.c.bytes).where(REQUESTS.c.model == model)
        with self.database.reading() as connection:
            latest = query.order_by(REQUESTS.c.last.desc()).limit(1)
            found = connection.execute(latest).scalar()
        return None if found is None else found > 0

    def reservoir(self, model: str) -> Reservoir:
        """Return which share of a model's requests a reservoir keeps."""
        return find_reservoir(self.database, model)

    def prune(self, kept: Kept) -> int:
        """Remove what is beyond the limits, with labels and inputs; returns how many instances."""
        return sum(removed.instances for removed in prune(self.database, self.folder, kept))

    def close(self) -> None:
        """Close the connections that are not in use, and leave the segment."""
        with self._writing:
            self._writer.release()
        self.database.close()


def _of(query: sa.Select[Any], model: str, version: int | None) -> sa.Select[Any]:
    """Only what a model, or one version of it, has answered."""
    query = query.where(REQUESTS.c.model == model)
    return query if version is None else query.where(REQUESTS.c.version == version)


def _instances(model: str, version: int) -> sa.Select[Any]:
    return _of(sa.select(*reader.INSTANCES), model, version)


def _answers(model: str, version: int, since: float) -> sa.Select[Any]:
    query = sa.select(*reader.ANSWERS).select_from(LABELLED)
    query = query.where(REQUESTS.c.at >= since, AGREED)
    return _of(query, model, version)
