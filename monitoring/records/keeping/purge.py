"""Records of one request, client or model, or of before a time, removed for good.

The hashes of their inputs are noted first, for the search for copies; then the inputs are wiped and
synced, then the rows go: whoever is killed in between repeats it.
On SQLite the pages of the rows are overwritten (`secure_delete`), and its log is emptied.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from monitoring.records import reader
from monitoring.records.database import Database
from monitoring.records.keeping.hashes import Purging, hash_input
from monitoring.records.keeping.prune import AT_ONCE, add_up, remove_unused, wipe
from monitoring.records.keeping.removal import (
    VICTIM,
    Removed,
    forget_segments,
    remove_requests,
    tell_removed,
)
from monitoring.records.tables import FEEDBACK, FURTHER, REQUESTS


class Which(NamedTuple):
    """Which requests: those to which all that is given applies; times in seconds since 1970."""

    id: str | None = None
    client: str | None = None  # who asked
    model: str | None = None
    since: float | None = None
    until: float | None = None  # before that
    last: int | None = None  # written up to this number

    def narrow(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query of REQUESTS for these requests only."""
        for name in ("id", "client", "model"):
            if (value := getattr(self, name)) is not None:
                query = query.where(REQUESTS.c[name] == value)
        if self.last is not None:
            query = query.where(REQUESTS.c.last <= self.last)
        if self.since is not None:
            query = query.where(REQUESTS.c.at >= self.since)
        return query if self.until is None else query.where(REQUESTS.c.at < self.until)


class Chosen(NamedTuple):
    """How much of a model a purge would remove."""

    model: str
    requests: int
    instances: int
    labels: int


class Purged(NamedTuple):
    """What a purge has removed, by model.

    `emptied` says that no old page is left in SQLite's log; not where somebody read meanwhile.
    """

    removed: list[Removed]
    emptied: bool


def newest_number(database: Database) -> int:
    """The number of what was written last: a purge up to it ends, whatever is written meanwhile."""
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.max(REQUESTS.c.last))).scalar() or 0)


def count_chosen(database: Database, which: Which) -> list[Chosen]:
    """Count what a purge would remove, by model."""
    counts = sa.select(REQUESTS.c.model, sa.func.count(), sa.func.sum(REQUESTS.c.rows))
    labels = sa.select(REQUESTS.c.model, sa.func.count()).select_from(reader.LABELLED)
    with database.reading() as connection:
        grouped = which.narrow(counts).group_by(REQUESTS.c.model).order_by(REQUESTS.c.model)
        rows = connection.execute(grouped).all()
        given = dict(
            tuple(row)
            for row in connection.execute(which.narrow(labels).group_by(REQUESTS.c.model))
        )
    return [Chosen(m, int(n), int(rows_), int(given.get(m, 0))) for m, n, rows_ in rows]


def labels_of_client(database: Database, client: str) -> int:
    """How many labels a client gave, to whomever's requests, whether they count or not."""
    with database.reading() as connection:
        return sum(
            int(
                connection.execute(
                    sa.select(sa.func.count()).select_from(table).where(table.c.client == client)
                ).scalar_one()
            )
            for table in (FEEDBACK, FURTHER)
        )


def purge(
    database: Database,
    folder: Path | None,
    which: Which,
    note: Callable[[list[Purging]], None],
) -> Purged:
    """Remove requests with their labels and inputs.

    Args:
        database: of the records.
        folder: of the segments; None where inputs lie in the rows.
        which: the requests.
        note: keeps what copies are found by, on disk on return, before anything is wiped.

    Returns:
        What was removed.

    Raises:
        StoreError: not all could be removed; the same call goes on.
    """
    removed: list[Removed] = []
    which = which._replace(last=which.last or newest_number(database))
    query = which.narrow(sa.select(*VICTIM)).order_by(REQUESTS.c.last).limit(AT_ONCE)
    with database.removing(wait=True):
        while True:
            with database.reading() as connection:
                victims = list(connection.execute(query))
                purging = [_purging(connection, folder, victim) for victim in victims]
            if not victims:
                break
            note(purging)
            wipe(folder, victims, sync=True)
            with database.writing() as connection:
                if database.dialect == "sqlite":
                    connection.exec_driver_sql("PRAGMA secure_delete = ON")
                removed += remove_requests(connection, victims, "purge")
        with database.writing() as connection:
            forget_segments(connection)
        emptied = database.give_back(all_of_it=True)
        if folder is not None:
            remove_unused(database, folder)
    removed = add_up(removed)
    tell_removed(removed)
    return Purged(removed, emptied)


def _purging(connection: sa.Connection, folder: Path | None, victim: sa.Row[Any]) -> Purging:
    seq = np.arange(victim.last - victim.rows + 1, victim.last + 1)
    inputs = reader.read_inputs(connection, folder, seq, np.full(len(seq), victim.last))
    hashes = tuple(hash_input(x) for x in inputs if x)
    lost = len(inputs) - len(hashes) if victim.bytes else 0
    return Purging(victim.model, victim.last, hashes, lost)
