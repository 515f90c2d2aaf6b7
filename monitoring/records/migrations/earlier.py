"""A store of an earlier version, with a row for each instance and inputs in the rows, made today's.

It happens when the store is opened, in one transaction: whoever is killed in the middle leaves the
store as it was. Numbers of instances stay, and so labels stay with theirs.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from models.base.logs import logger
from monitoring.records.requests import group_records
from monitoring.records.rows import Record
from monitoring.records.segments import SegmentWriter
from monitoring.records.tables import REQUESTS, WRITTEN
from monitoring.records.writing import insert, written_bytes

BEFORE = "requests_before"
AT_ONCE = 500


def rename(connection: sa.Connection) -> None:
    """Put the earlier table aside, so that today's can be made."""
    connection.exec_driver_sql("DROP INDEX requests_by_id")
    connection.exec_driver_sql(f"ALTER TABLE requests RENAME TO {BEFORE}")


def move(connection: sa.Connection, folder: Path | None) -> None:
    """Write what the earlier table holds into today's, and drop it."""
    rows = _move(connection, folder)
    connection.exec_driver_sql(f"DROP TABLE {BEFORE}")
    logger("records").info("store_moved", rows=rows, reason="an earlier version wrote it")


def is_earlier(connection: sa.Connection) -> bool:
    """Whether the store has a row for each instance."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(REQUESTS.name):
        return False
    columns = {column["name"] for column in inspector.get_columns(REQUESTS.name)}
    return columns == {"seq", *Record._fields}


def _move(connection: sa.Connection, folder: Path | None) -> int:
    """Write what the earlier table holds into today's; returns the number of instances."""
    segments = SegmentWriter(folder, partial(written_bytes, connection)) if folder else None
    table = sa.table(BEFORE, *(sa.column(name) for name in ("seq", *Record._fields)))
    query = sa.select(table).order_by(table.c.seq).limit(AT_ONCE)
    moved = after = 0
    try:
        while found := connection.execute(query.where(table.c.seq > after)).all():
            for run in _runs([row.seq for row in found]):
                records = [Record(*found[k][1:]) for k in run]
                before = found[run[0]].seq - 1
                connection.execute(sa.update(WRITTEN).values(rows=before))
                requests = list(group_records(records))
                places = segments.append([request.x for request in requests]) if segments else None
                insert(connection, requests, places)
                if segments:
                    segments.commit()
            moved, after = moved + len(found), found[-1].seq
    finally:
        if segments:
            segments.release()
    return moved


def _runs(numbers: list[int]) -> list[range]:
    """Cut places of rising numbers where one is missing between two.

    >>> _runs([3, 4, 7, 8])
    [range(0, 2), range(2, 4)]
    """
    cuts = [k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1]
    return [range(a, b) for a, b in pairwise([0, *cuts, len(numbers)])]
