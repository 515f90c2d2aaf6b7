"""Records as a Parquet file: a row for each instance, with its label and its input."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from models.base.errors import HoldfastError
from monitoring.records import reader
from monitoring.records.database import Database
from monitoring.records.keeping.purge import Which
from monitoring.records.requests import SCORES
from monitoring.records.tables import FEEDBACK, REQUESTS

AT_ONCE = 500  # requests that are in memory
SCORE_NAMES = [name for name in SCORES.names or () if name != "check"]


def export_parquet(
    database: Database, folder: Path | None, which: Which, file: Path, *, inputs: bool = True
) -> int:
    """Write instances to a Parquet file, oldest first; only its owner can read it.

    Columns: `seq`, `id`, `row`, `at` (UTC), `model`, `version`, `client`, `predicted`, `p_value`,
    `perturbation`, `confidence`, `entropy`, `label` (class index; null: none came), `labelled_by`,
    `contradicted`, and `x`: the raw input in the model's dtype, null where it is gone or left out.

    Args:
        database: of the records.
        folder: of the segments; None where inputs lie in the rows.
        which: the requests.
        file: is replaced when all is written.
        inputs: write `x`, too.

    Returns:
        How many instances were written.

    Raises:
        HoldfastError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise HoldfastError(
            "Parquet needs pyarrow, which comes with training: pip install 'holdfast[train]'"
        ) from error
    score_types = {"predicted": pa.int32()}
    fields = [
        ("seq", pa.int64()), ("id", pa.string()), ("row", pa.int32()),
        ("at", pa.timestamp("us", tz="UTC")), ("model", pa.string()), ("version", pa.int32()),
        ("client", pa.string()),
        *((name, score_types.get(name, pa.float64())) for name in SCORE_NAMES),
        ("label", pa.int32()), ("labelled_by", pa.string()), ("contradicted", pa.bool_()),
    ]  # fmt: skip
    schema = pa.schema([*fields, *([("x", pa.binary())] if inputs else [])])
    temporary = file.with_name(f".{file.name}.part")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    count = 0
    try:
        with database.reading() as connection, pq.ParquetWriter(temporary, schema) as writer:
            for columns in _parts(connection, folder, which, inputs):
                writer.write_table(pa.table(columns, schema=schema))
                count += len(columns["seq"])
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _parts(
    connection: sa.Connection, folder: Path | None, which: Which, inputs: bool
) -> Iterator[dict[str, Any]]:
    names = ("model", "version", "client")
    query = sa.select(*reader.INSTANCES, *(REQUESTS.c[n] for n in names)).order_by(REQUESTS.c.last)
    after = 0
    while True:
        part = which.narrow(query).where(REQUESTS.c.last > after).limit(AT_ONCE)
        requests = connection.execute(part).all()
        if not requests:
            return
        after = requests[-1].last
        yield _columns(connection, folder, requests, inputs)


def _columns(
    connection: sa.Connection, folder: Path | None, requests: Any, inputs: bool
) -> dict[str, Any]:
    rows = reader.Instances.of(requests)
    seq = rows.seq.tolist()
    columns: dict[str, Any] = {
        "seq": seq,
        "id": rows.ids.tolist(),
        "row": rows.row.tolist(),
        "at": np.round(rows.at * 1e6).astype("datetime64[us]"),
    }
    for name in ("model", "version", "client"):
        columns[name] = [getattr(r, name) for r in requests for _ in range(r.rows)]
    columns |= {name: rows.scores[name].copy() for name in SCORE_NAMES}
    c = FEEDBACK.c
    query = sa.select(c.seq, c.label, c.client, c.contradicted)
    found = connection.execute(query.where(c.seq.between(seq[0], seq[-1])))
    labels = {r.seq: r for r in found}
    given = [labels.get(number) for number in seq]
    columns["label"] = [None if g is None else g.label for g in given]
    columns["labelled_by"] = [None if g is None else g.client for g in given]
    columns["contradicted"] = [None if g is None else bool(g.contradicted) for g in given]
    if inputs:
        read = reader.read_inputs(connection, folder, rows.seq, rows.last)
        columns["x"] = [x or None for x in read]
    return columns
