"""How much a store holds of each model, how old it is, and the room that it takes."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from monitoring.records import reader
from monitoring.records.database import Database
from monitoring.records.keeping.removal import Removed
from monitoring.records.tables import FEEDBACK, REMOVED, REQUESTS, RESERVOIRS

BLOCK_BYTES = 512  # of st_blocks (stat(2))


class ModelFigures(NamedTuple):
    """What is kept of a model; times in seconds since 1970, `bytes` of inputs.

    `share` is what a reservoir keeps of the requests; None: there is no reservoir.
    """

    model: str
    requests: int
    instances: int
    labels: int
    contradicted: int
    without_input: int
    bytes: int
    oldest: float
    newest: float
    share: float | None
    removed: list[Removed]


class Room(NamedTuple):
    """Bytes on disk; None where the database is not a file of ours.

    `free` are pages of the file that later rows take, or that it gives back.
    """

    database: int | None
    log: int | None
    free: int | None
    segments: int | None


def measure_models(database: Database) -> list[ModelFigures]:
    """Measure what is kept of each model, and what was removed."""
    c = REQUESTS.c
    counts = sa.select(
        c.model, sa.func.count(), sa.func.sum(c.rows), sa.func.sum(c.bytes), sa.func.min(c.at),
        sa.func.max(c.at), sa.func.sum(sa.case((c.bytes == 0, c.rows), else_=0)),
    ).group_by(c.model)  # fmt: skip
    labels = (
        sa.select(
            c.model, sa.func.count(), sa.func.sum(sa.cast(FEEDBACK.c.contradicted, sa.Integer))
        )
        .select_from(reader.LABELLED)
        .group_by(c.model)
    )
    with database.reading() as connection:
        kept = {row[0]: row for row in connection.execute(counts)}
        given = {row[0]: row for row in connection.execute(labels)}
        shares = {r.model: float(r.share) for r in connection.execute(sa.select(RESERVOIRS))}
        gone: dict[str, list[Removed]] = {}
        for r in connection.execute(sa.select(REMOVED).order_by(REMOVED.c.why)):
            numbers = (int(n) for n in (r.requests, r.instances, r.labels, r.bytes))
            gone.setdefault(r.model, []).append(Removed(r.model, r.why, *numbers))
    figures = []
    for model in sorted({*kept, *gone}):
        row = kept.get(model) or (model, 0, 0, 0, 0.0, 0.0, 0)
        _, came, contradicted = given.get(model) or (model, 0, 0)
        figures.append(
            ModelFigures(
                model, int(row[1]), int(row[2]), int(came), int(contradicted), int(row[6]),
                int(row[3]), float(row[4]), float(row[5]), shares.get(model), gone.get(model, []),
            )
        )  # fmt: skip
    return figures


def measure_room(folder: Path | None) -> Room:
    """Measure the files of a store.

    Args:
        folder: of the segments; None where the store is no file of ours.
    """
    if folder is None:
        return Room(None, None, None, None)
    file = folder.with_suffix("")
    with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as connection:
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        page = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    log = file.with_name(f"{file.name}-wal")
    segments = folder.iterdir() if folder.is_dir() else ()
    return Room(on_disk(file), on_disk(log), free * page, sum(on_disk(path) for path in segments))


def on_disk(path: Path) -> int:
    """Bytes that a file takes on disk, without holes; 0 where it is gone."""
    try:
        return path.stat().st_blocks * BLOCK_BYTES
    except FileNotFoundError:
        return 0
