"""What is beyond the limits is removed: the oldest of all, the oldest of a model, or at random."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from monitoring.records.database import Database, StoreError
from monitoring.records.keeping.limits import Kept, ModelLimits
from monitoring.records.keeping.removal import (
    VICTIM,
    Removed,
    Why,
    forget_segments,
    remove_requests,
    tell_removed,
    wipe_inputs,
)
from monitoring.records.segments import remove_segments
from monitoring.records.tables import REQUESTS, RESERVOIRS
from monitoring.records.writing import written_bytes

AT_ONCE = 2000  # requests of a transaction, so that no writer waits for long
DAY_SECONDS = 86400.0
ROOM = 0.9  # of a reservoir that is left when it was thinned out, so that it is not at once again
Found = tuple[list[sa.Row[Any]], Why, bool]  # requests to remove, and whether there may be more


class Reservoir(NamedTuple):
    """Which share of a model's requests is kept: those whose salted hash lies below it."""

    share: float
    salt: bytes

    def keeps(self, request_id: str) -> bool:
        """Whether it keeps a request. Clients choose ids, and do not know the salt."""
        hashed = hashlib.blake2b(request_id.encode(), digest_size=8, key=self.salt).digest()
        return int.from_bytes(hashed) < self.share * 2**64


def prune(database: Database, folder: Path | None, kept: Kept) -> list[Removed]:
    """Remove what is beyond the limits, and give its room back.

    Args:
        database: of the records.
        folder: of the segments; None where inputs lie in the rows.
        kept: the limits.

    Returns:
        What was removed, by model and reason; nothing where another one prunes or purges.

    Raises:
        StoreError: it could not be removed, or not all.
    """
    with database.removing(wait=False) as alone:
        removed = _prune(database, folder, kept) if alone else []
    tell_removed(removed)
    return removed


def _prune(database: Database, folder: Path | None, kept: Kept) -> list[Removed]:
    """Prune, while nobody else removes anything."""
    removed: list[Removed] = []
    scattered = False
    for find, apart in _searches(database, kept):
        more = True
        while more:
            with database.writing() as connection:
                victims, why, more = find(connection)
                removed += remove_requests(connection, victims, why) if victims else []
            scattered |= apart and bool(victims)
            wipe(folder, victims)
    if removed:
        with database.writing() as connection:
            forget_segments(connection)
        database.give_back(all_of_it=scattered)
    if folder is not None:
        remove_unused(database, folder)
    return add_up(removed)


def _searches(database: Database, kept: Kept) -> Iterator[tuple[Any, bool]]:
    """Ways to find what is beyond; whether it lies scattered among what is kept."""
    for model, limits in kept.models.items():
        yield partial(_find_oldest_of, model=model, limits=limits), True
    if kept.sample.kind == "reservoir":
        with database.reading() as connection:
            models = connection.execute(sa.select(REQUESTS.c.model).distinct()).scalars().all()
        for model in models:
            # By the share of now first: a writer may have had an earlier one, and a pruner that
            # was killed may have lowered it and left what it was to remove.
            reservoir = find_reservoir(database, model)
            yield partial(_find_beyond_share, model=model, reservoir=reservoir, at=[0]), True
            if lower := lower_share(database, model, kept.sample.value):
                yield partial(_find_beyond_share, model=model, reservoir=lower, at=[0]), True
    # Last: what a model has beyond its own limits drives out no other.
    yield partial(_find_oldest, kept=kept, sums=[]), False


def _find_oldest(connection: sa.Connection, kept: Kept, sums: list[int]) -> Found:
    """The oldest of all that are beyond the limits of all.

    `sums` are the instances and bytes that are kept; they are filled at the first call.
    """
    if not sums:
        names = ("rows", "bytes")
        query = sa.select(*(sa.func.coalesce(sa.func.sum(REQUESTS.c[n]), 0) for n in names))
        sums[:] = map(int, connection.execute(query).one())
    oldest = time.time() - kept.days * DAY_SECONDS if kept.days else float("-inf")
    found = connection.execute(sa.select(*VICTIM).order_by(REQUESTS.c.last).limit(AT_ONCE)).all()
    gone: list[sa.Row[Any]] = []
    reasons = Counter[Why]()
    for request in found:
        why: Why | None = None
        if request.rows <= sums[0] - kept.rows:  # what stays is not less than the limit
            why = "rows"
        elif 0 < sums[1] - kept.bytes >= request.bytes:
            why = "bytes"
        elif request.at < oldest:
            why = "age"
        if why is None or (gone and why not in reasons):
            break  # each reason is counted for itself
        reasons[why] += 1
        gone.append(request)
        sums[:] = sums[0] - request.rows, sums[1] - request.bytes
    if not gone:
        return [], "rows", False
    return gone, next(iter(reasons)), True


def _find_oldest_of(connection: sa.Connection, model: str, limits: ModelLimits) -> Found:
    """The oldest of a model that are beyond its own limits."""
    of = REQUESTS.c.model == model
    sums = sa.select(*(sa.func.coalesce(sa.func.sum(REQUESTS.c[n]), 0) for n in ("rows", "bytes")))
    rows, size = connection.execute(sums.where(of)).one()
    over_rows = 0 if limits.rows is None else rows - limits.rows
    over_bytes = 0 if limits.bytes is None else size - limits.bytes
    oldest = time.time() - limits.days * DAY_SECONDS if limits.days else float("-inf")
    query = sa.select(*VICTIM).where(of).order_by(REQUESTS.c.last).limit(AT_ONCE)
    gone: list[sa.Row[Any]] = []
    first: Why | None = None
    for request in connection.execute(query):
        why: Why | None = "rows" if over_rows > 0 else "bytes" if over_bytes > 0 else None
        why = why or ("age" if request.at < oldest else None)
        if why is None or first not in (None, why):
            break
        first = why
        over_rows, over_bytes = over_rows - request.rows, over_bytes - request.bytes
        gone.append(request)
    return gone, first or "rows", bool(gone)


def _find_beyond_share(
    connection: sa.Connection, model: str, reservoir: Reservoir, at: list[int]
) -> Found:
    """Requests of a model that its reservoir no longer keeps, from the number `at[0]` on."""
    query = sa.select(*VICTIM, REQUESTS.c.id).where(REQUESTS.c.model == model)
    query = query.where(REQUESTS.c.last > at[0]).order_by(REQUESTS.c.last).limit(AT_ONCE)
    found: list[Any] = list(connection.execute(query).all())
    at[0] = found[-1].last if found else at[0]
    return [r for r in found if not reservoir.keeps(r.id)], "sample", len(found) == AT_ONCE


def find_reservoir(database: Database, model: str) -> Reservoir:
    """The reservoir of a model; a new one keeps all."""
    query = sa.select(RESERVOIRS.c.share, RESERVOIRS.c.salt).where(RESERVOIRS.c.model == model)
    with database.reading() as connection:
        found = connection.execute(query).one_or_none()
    if found is not None:
        return Reservoir(found.share, bytes(found.salt))
    with suppress(StoreError, IntegrityError), database.writing() as connection:
        new = {"model": model, "share": 1.0, "salt": os.urandom(16)}
        connection.execute(sa.insert(RESERVOIRS), [new])
    with database.reading() as connection:  # another process may have been first
        found = connection.execute(query).one()
    return Reservoir(found.share, bytes(found.salt))


def lower_share(database: Database, model: str, most: float) -> Reservoir | None:
    """Let the reservoir of a model keep a smaller share, where it has more than `most` instances.

    What is stored is thinned out by the share of now; the caller is the only one who removes.
    """
    reservoir = find_reservoir(database, model)
    count = sa.select(sa.func.coalesce(sa.func.sum(REQUESTS.c.rows), 0))
    own = RESERVOIRS.c.model == model
    with database.writing() as connection:
        rows = int(connection.execute(count.where(REQUESTS.c.model == model)).scalar_one())
        if rows <= most:
            return None
        share = reservoir.share * ROOM * most / rows
        connection.execute(sa.update(RESERVOIRS).where(own).values(share=share))
    return Reservoir(share, reservoir.salt)


def wipe(folder: Path | None, victims: list[sa.Row[Any]], *, sync: bool = False) -> None:
    """Give back the room of the inputs of removed requests. Raises StoreError where it cannot."""
    if folder is None:
        return
    try:
        wipe_inputs(folder, victims, sync=sync)
    except OSError as error:
        raise StoreError(f"inputs of removed records cannot be wiped: {error}") from error


def remove_unused(database: Database, folder: Path) -> None:
    """Remove the files that nothing is kept of; one that cannot be removed now may be later."""
    with database.reading() as connection:
        try:
            remove_segments(folder, partial(written_bytes, connection))
        except OSError as error:
            raise StoreError(f"the store of records cannot be pruned: {error}") from error


def add_up(removed: list[Removed]) -> list[Removed]:
    """One for each model and reason."""
    sums: dict[tuple[str, str], Removed] = {}
    for each in removed:
        before = sums.get(each[:2])
        counts = each[2:] if before is None else map(sum, zip(before[2:], each[2:], strict=True))
        sums[each[:2]] = Removed(*each[:2], *counts)
    return list(sums.values())
