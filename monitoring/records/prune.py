"""How much a store keeps: the latest instances, within numbers of them, of bytes and of days."""

import time
from typing import NamedTuple

import sqlalchemy as sa

from monitoring.records.tables import FEEDBACK, FURTHER, REQUESTS, SEGMENTS, WRITTEN

AT_ONCE = 2000  # requests of a transaction, so that no writer waits for long
DAY_SECONDS = 86400.0


class Kept(NamedTuple):
    """What pruning leaves: instances that are within all of the limits.

    `bytes` are those of inputs; in segments a file goes when nothing in it is kept, so there may be
    16 MiB more for each worker. `days` of 0 sets no limit.
    """

    rows: int = 200_000
    bytes: int = 1 << 32
    days: float = 0.0


def prune_some(connection: sa.Connection, kept: Kept) -> tuple[int, bool]:
    """Remove the oldest requests that are beyond the limits, with their labels, some at once.

    Returns:
        How many instances were removed, and whether there may be more.
    """
    written = connection.execute(sa.select(WRITTEN.c.bytes)).scalar() or 0
    newest = connection.execute(sa.select(sa.func.max(REQUESTS.c.last))).scalar() or 0
    oldest = time.time() - kept.days * DAY_SECONDS if kept.days else float("-inf")
    query = sa.select(*(REQUESTS.c[n] for n in ("last", "rows", "total", "at")))
    found = connection.execute(query.order_by(REQUESTS.c.last).limit(AT_ONCE)).all()
    gone = []
    for request in found:
        beyond = request.last <= newest - kept.rows or request.total <= written - kept.bytes
        if not beyond and request.at >= oldest:
            break
        gone.append(request)
    if not gone:
        return 0, False
    cut = gone[-1].last
    connection.execute(sa.delete(REQUESTS).where(REQUESTS.c.last <= cut))
    for table in (FEEDBACK, FURTHER):
        connection.execute(sa.delete(table).where(table.c.seq <= cut))
    connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.last <= cut))
    return sum(request.rows for request in gone), len(gone) == AT_ONCE
