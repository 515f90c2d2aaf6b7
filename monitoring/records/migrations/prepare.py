"""A store is opened: made, or brought up to date, or refused where a newer program wrote it.

    no table                           today's tables, at the newest revision
    a row for each instance            moved by hand (`earlier`)
    the tables of the baseline         marked as that, after a look at their columns
    a revision that is older           Alembic's steps up to the newest
    a revision that nobody knows here  refused: its program is newer

All in one transaction, under the lock of who creates tables: of two processes one migrates, and a
migration that fails leaves the store as it was.
"""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from models.base.logs import logger
from monitoring.records.database import StoreError, check_columns
from monitoring.records.migrations import earlier
from monitoring.records.migrations.versions.r0001_baseline import BASELINE
from monitoring.records.migrations.versions.r0001_baseline import revision as FIRST
from monitoring.records.tables import NEWEST, REQUESTS, REVISION, REVISIONS
from monitoring.records.writing import begin_numbers


def prepare(connection: sa.Connection, create: Callable[[], None], folder: Path | None) -> None:
    """Make the tables, or bring them up to date.

    Args:
        connection: in which nothing has been written yet.
        create: creates the tables that are missing, and checks the columns of all.
        folder: of the segments; None where inputs lie in the rows.

    Raises:
        StoreError: a newer program wrote the store, other tables are in it, or a step failed.
    """
    by_hand = earlier.is_earlier(connection)
    known = None if by_hand else _find_revision(connection)
    if by_hand:
        begin(connection)
        earlier.rename(connection)
    elif known is not None and known != NEWEST:
        _upgrade(connection, known)
    create()
    begin_numbers(connection)
    if by_hand:
        earlier.move(connection, folder)
    if not connection.execute(sa.select(REVISION.c.revision)).all():
        connection.execute(sa.insert(REVISION), [{"revision": NEWEST}])


def begin(connection: sa.Connection) -> None:
    """Begin a transaction that holds changes of tables, too; SQLite's driver begins none."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _find_revision(connection: sa.Connection) -> str | None:
    """The revision of a store; None where it is empty. Raises StoreError where it is none of ours.

    What is empty, or was emptied, has no table of requests.
    """
    inspector = sa.inspect(connection)
    if inspector.has_table(REVISION.name):
        found = connection.execute(sa.select(REVISION.c.revision)).scalar()
        if found is not None and found not in REVISIONS:
            raise StoreError(
                f"the store of records is at revision {found!a}, and this program knows those up "
                f"to {NEWEST}: a newer program wrote it. Run that program, or restore a backup of "
                "before its first start; the store was left as it is"
            )
        if found is not None:
            return str(found)
    if not inspector.has_table(REQUESTS.name):
        return None
    for name, columns in BASELINE.items():
        if inspector.has_table(name):
            check_columns(connection, name, columns)
    return FIRST


def _upgrade(connection: sa.Connection, known: str) -> None:
    begin(connection)
    if not sa.inspect(connection).has_table(REVISION.name):
        connection.execute(sa.schema.CreateTable(REVISION))
        connection.execute(sa.insert(REVISION), [{"revision": known}])
    from monitoring.records.migrations.running import upgrade  # Alembic, which is slow to import

    try:
        upgrade(connection, known)
    except Exception as error:  # of any kind: what was begun is rolled back
        raise StoreError(
            f"the store of records cannot be brought from revision {known} to {NEWEST}, and was "
            f"left as it was: {error}"
        ) from error
    logger("records").info("store_migrated", before=known, now=NEWEST)
