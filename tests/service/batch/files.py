"""A version of a table with a champion, and files of its rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.versions.bundle import NO_KEYS as NO_KEYS
from models.versions.bundle import Bundle
from models.versions.registry import Registry
from models.versions.schema import InputSchema
from service.batch.facts import Job, Options
from service.batch.report import BatchReport
from service.batch.run import begin, finish, score_batch
from tests import bundles

MODEL = "table"


def make_registry(root: Path) -> None:
    """The version of `bundles.table`, and one of digits with certificates and sets."""
    bundles.publish(root, "digits", name="certified")
    bundles.publish(root, MODEL, name="asked")


def schema() -> InputSchema:
    """What the model takes."""
    return bundles.table().schema


def rows(count: int = 300, *, seed: int = 0) -> pa.Table:
    """Rows of the test part, drawn with replacement: texts for categories, null where missing."""
    data = bundles.table()
    index = np.random.default_rng(seed).integers(0, len(data.test), count)
    columns: dict[str, Any] = {"id": np.arange(count)}
    for place, column in enumerate(data.schema.columns):
        values = data.test.x[index, place].astype(np.float64)
        if column.categories:
            columns[column.name] = [
                None if np.isnan(value) else column.categories[int(value)] for value in values
            ]
        else:
            columns[column.name] = pa.array(values, from_pandas=True)
    columns["truth"] = [data.classes[place] for place in data.test.y[index]]
    return pa.table(columns)


def write(folder: Path, table: pa.Table, name: str = "rows.parquet", *, group: int = 60) -> Path:
    """A Parquet file with row groups of so many rows, its pages with checksums."""
    path = folder / name
    pq.write_table(table, path, row_group_size=group, write_page_checksum=True)
    return path


def damage(path: Path, group: int, column: int = 1) -> None:
    """Turn over bytes of a column of a row group."""
    told = pq.ParquetFile(path).metadata.row_group(group).column(column)
    start = told.dictionary_page_offset or told.data_page_offset
    content = bytearray(path.read_bytes())
    for place in range(start + 20, start + told.total_compressed_size):
        content[place] ^= 0xFF
    path.write_bytes(content)


def job_of(registry: Path, data: Path, model: str = MODEL, **options: Any) -> tuple[Job, Bundle]:
    """A job for the champion."""
    bundle = Registry(registry).open(model, "champion")
    return begin(str(data), "auto", bundle, Options(**options), lambda *_: None), bundle


def score(registry: Path, data: Path, out: Path, **named: Any) -> BatchReport:
    """Score a file with the champion; names that `score_batch` does not know are options."""
    own = {name: named.pop(name) for name in ("overwrite", "anew", "engine") if name in named}
    job, bundle = job_of(registry, data, **named)
    report = score_batch(job, bundle, out, requests_per_alarm=1e6, progress=lambda *_: None, **own)
    finish(out)
    return report
