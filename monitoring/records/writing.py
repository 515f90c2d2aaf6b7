"""How requests are written: inputs to a segment or into the rows, then a row for each request."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from monitoring.records.database import Database, StoreError
from monitoring.records.requests import Request
from monitoring.records.segments import SegmentWriter
from monitoring.records.tables import REQUESTS, SEGMENTS, WRITTEN

_COLUMNS = tuple(REQUESTS.c.keys())
# SQLite's driver takes the rows as they are; through SQLAlchemy each would cost twice as much.
_PLAIN = f"INSERT INTO requests ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
# As text, because building and caching the same statements costs more than SQLite takes for them.
_NUMBER = sa.text(
    "UPDATE written SET rows = rows + :rows, bytes = bytes + :bytes RETURNING rows, bytes"
)
_NOTE = sa.text(
    "INSERT INTO segments (number, bytes, last) VALUES (:number, :bytes, :last) "
    "ON CONFLICT (number) DO UPDATE SET bytes = excluded.bytes, last = excluded.last"
)


def segment_folder(url: str | sa.URL) -> Path | None:
    """Return the folder of a database's segments; None where inputs lie in its rows.

    >>> segment_folder("sqlite:////state/records.sqlite")
    PosixPath('/state/records.sqlite.segments')
    >>> segment_folder("sqlite://"), segment_folder("postgresql://db/records")
    (None, None)
    """
    file = sqlite_file(url)
    return None if file is None else Path(f"{file}.segments")


def sqlite_file(url: str | sa.URL) -> Path | None:
    """Return the file of an SQLite database; None where it is in memory, or another database."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError:  # the database says so when it is opened
        return None
    file = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or file in ("", ":memory:"):
        return None
    if file.startswith("file:"):  # SQLite's own form, with options; it may be memory
        return None
    return Path(file)


def written_bytes(connection: sa.Connection, number: int) -> int:
    """Return how far the database knows a segment to be written; 0 where it knows nothing."""
    query = sa.select(SEGMENTS.c.bytes).where(SEGMENTS.c.number == number)
    return int(connection.execute(query).scalar() or 0)


class RequestWriter:
    """Writes requests to a database, with inputs in segments where `folder` is given.

    One thread at a time; other processes and writers may write to the same database.
    """

    def __init__(self, database: Database, folder: Path | None) -> None:
        self._database = database
        self._segments = None if folder is None else SegmentWriter(folder, self._written)

    def write(self, requests: Sequence[Request]) -> None:
        """Write requests in one transaction; on disk on return.

        Raises:
            StoreError: they were not written, none of them.
        """
        try:
            self._database.open()
            places = self._place(requests)
            with self._database.writing() as connection:
                insert(connection, requests, places)
        except StoreError:
            self.release()
            raise
        if self._segments is not None:
            self._segments.commit()

    def release(self) -> None:
        """Leave the segment; the next write takes one again."""
        if self._segments is not None:
            self._segments.release()

    def _place(self, requests: Sequence[Request]) -> tuple[int, int] | None:
        """Write the inputs to a segment, where there are segments."""
        if self._segments is None or not any(request.x for request in requests):
            return None  # nor are there any where no inputs are kept
        try:
            return self._segments.append([request.x for request in requests])
        except OSError as error:
            raise StoreError(f"the store of records cannot be written: {error}") from error

    def _written(self, number: int) -> int:
        with self._database.reading() as connection:
            return written_bytes(connection, number)


def insert(
    connection: sa.Connection, requests: Sequence[Request], places: tuple[int, int] | None
) -> None:
    """Insert the rows of requests, whose inputs begin at `places`: segment and first byte."""
    size = sum(request.x.nbytes for request in requests)
    count = sum(request.rows for request in requests)
    last, total = _number(connection, count, size)
    segment, place = places or (None, None)
    rows = []
    for r in requests:
        last, total = last + r.rows, total + r.x.nbytes
        rows.append((
            last, r.rows, r.id, r.row, r.at, r.model, r.version, r.client, r.x.nbytes, total,
            segment, place, r.scores.tobytes(), bytes(r.x) if place is None else None,
        ))  # fmt: skip
        if place is not None:
            place += r.x.nbytes
    _insert_rows(connection, rows)
    if segment is not None:
        connection.execute(_NOTE, {"number": segment, "bytes": place, "last": last})


def begin_numbers(connection: sa.Connection, rows: int = 0, total: int = 0) -> None:
    """Let the numbers of a new store begin after `rows` instances, where they have not begun."""
    if not connection.execute(sa.select(WRITTEN.c.one)).all():
        connection.execute(sa.insert(WRITTEN), [{"one": 1, "rows": rows, "bytes": total}])


def _number(connection: sa.Connection, rows: int, size: int) -> tuple[int, int]:
    """Take numbers: of the last instance before these, and of the bytes before theirs.

    The row stays locked to the end of the transaction: numbers rise in the order of commits.
    """
    found = connection.execute(_NUMBER, {"rows": rows, "bytes": size}).one()
    return found.rows - rows, found.bytes - size


def _insert_rows(connection: sa.Connection, rows: list[tuple[Any, ...]]) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_PLAIN, rows)
    else:
        named: Iterable[dict[str, Any]] = (dict(zip(_COLUMNS, r, strict=True)) for r in rows)
        connection.execute(sa.insert(REQUESTS), list(named))
