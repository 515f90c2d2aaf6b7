"""Requests are removed with their labels and inputs, wherever they lie, and counted by model."""

import ctypes
import errno
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from models.base.logs import logger
from monitoring.records.segments import segment_path
from monitoring.records.tables import FEEDBACK, FURTHER, REMOVED, REQUESTS, SEGMENTS

Why = Literal["rows", "bytes", "age", "sample", "purge"]
VICTIM = tuple(
    REQUESTS.c[n] for n in ("last", "rows", "at", "model", "bytes", "total", "segment", "place")
)
ZEROS = bytes(1 << 16)
_PUNCH = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h)


class Removed(NamedTuple):
    """What was removed of a model, and why."""

    model: str
    why: str
    requests: int
    instances: int
    labels: int
    bytes: int


class _Span(NamedTuple):
    """Requests of one model without another one between; numbers of instances."""

    model: str
    first: int
    last: int
    requests: int
    bytes: int


def remove_requests(
    connection: sa.Connection, victims: Sequence[sa.Row[Any]], why: Why
) -> list[Removed]:
    """Remove rows of VICTIM, in rising order of `last`, with their labels, and count them.

    Their inputs in segments stay: `wipe_inputs` takes them.
    """
    counts: dict[str, Removed] = {}
    for span in _spans(victims):
        between = FEEDBACK.c.seq.between(span.first, span.last)
        query = sa.select(sa.func.count()).select_from(FEEDBACK).where(between)
        labels = int(connection.execute(query).scalar_one())
        connection.execute(
            sa.delete(REQUESTS).where(REQUESTS.c.last.between(span.first, span.last))
        )
        connection.execute(sa.delete(FEEDBACK).where(between))
        connection.execute(sa.delete(FURTHER).where(FURTHER.c.seq.between(span.first, span.last)))
        so_far = counts.get(span.model, Removed(span.model, why, 0, 0, 0, 0))
        counts[span.model] = Removed(
            span.model,
            why,
            so_far.requests + span.requests,
            so_far.instances + span.last - span.first + 1,
            so_far.labels + labels,
            so_far.bytes + span.bytes,
        )
    for removed in counts.values():
        _count(connection, removed)
    return list(counts.values())


def _spans(victims: Iterable[sa.Row[Any]]) -> list[_Span]:
    spans: list[_Span] = []
    for v in victims:
        first = v.last - v.rows + 1
        if spans and spans[-1].model == v.model and spans[-1].last + 1 == first:
            before = spans.pop()
            spans.append(
                _Span(v.model, before.first, v.last, before.requests + 1, before.bytes + v.bytes)
            )
        else:
            spans.append(_Span(v.model, first, v.last, 1, v.bytes))
    return spans


def _count(connection: sa.Connection, removed: Removed) -> None:
    key = sa.and_(REMOVED.c.model == removed.model, REMOVED.c.why == removed.why)
    names = ("requests", "instances", "labels", "bytes")
    sums = {n: REMOVED.c[n] + getattr(removed, n) for n in names}
    now = time.time()
    changed = connection.execute(sa.update(REMOVED).where(key).values(at=now, **sums))
    if not changed.rowcount:
        connection.execute(sa.insert(REMOVED), [{**removed._asdict(), "at": now}])


def forget_segments(connection: sa.Connection) -> None:
    """Forget the segments of which no request is kept; their files can be removed then."""
    used = sa.select(REQUESTS.c.segment).where(REQUESTS.c.segment.is_not(None)).distinct()
    connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.number.not_in(used)))


def wipe_inputs(folder: Path, victims: Iterable[sa.Row[Any]], *, sync: bool = False) -> None:
    """Give the room of inputs in segments back to the disk; they read as zeros from now on.

    A file system that cannot do so gets zeros written. A segment that is gone is none to wipe.

    Args:
        folder: of the segments.
        victims: rows of VICTIM.
        sync: let it be on disk on return.

    Raises:
        OSError: an input could not be wiped.
    """
    places = sorted((v.segment, v.place, v.bytes) for v in victims if v.segment and v.bytes)
    ranges: list[tuple[int, int, int]] = []
    for segment, place, size in places:
        if ranges and ranges[-1][0] == segment and sum(ranges[-1][1:]) == place:
            ranges[-1] = (segment, ranges[-1][1], ranges[-1][2] + size)
        else:
            ranges.append((segment, place, size))
    for number in {segment for segment, _, _ in ranges}:
        with suppress(FileNotFoundError):
            file = os.open(segment_path(folder, number), os.O_WRONLY | os.O_CLOEXEC)
            try:
                for segment, place, size in ranges:
                    if segment == number:
                        _wipe(file, place, size)
                if sync:
                    os.fdatasync(file)
            finally:
                os.close(file)


def _wipe(file: int, place: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = ctypes.c_int(file), ctypes.c_int(_PUNCH), ctypes.c_int64(place)
    if libc.fallocate64(*arguments, ctypes.c_int64(size)) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        raise OSError(code, os.strerror(code))
    for begin in range(place, place + size, len(ZEROS)):
        os.pwrite(file, ZEROS[: place + size - begin], begin)


def tell_removed(removed: Sequence[Removed]) -> None:
    """Log what was removed: no label goes without a word."""
    for each in removed:
        logger("records").info("records_removed", **each._asdict())
