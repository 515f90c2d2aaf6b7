"""Parquet by row groups; a group that is larger than memory is read in batches of its rows."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.base.errors import DataError
from models.data.formats.parquet import holds_bytes
from models.data.found import partition_of
from models.data.pieces.piece import Block, Piece, Wanted, block_rows

# A damaged header may also name a column with bytes that are no text.
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
BUFFER = 1 << 20  # bytes of a column that are read at once


def pieces(path: Path, wanted: Wanted) -> Iterator[Piece]:
    """A piece for every row group, counted from 0.

    Raises:
        DataError: no Parquet file, or its footer is damaged.
    """
    try:
        file = pq.ParquetFile(
            path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True
        )
    except DAMAGED as error:
        raise DataError(f"{path}: no Parquet file, or a damaged one ({_line(error)})") from error
    with file:
        schema = file.schema_arrow
        columns = [
            field.name
            for field in schema
            if field.name in wanted.columns or (wanted.pictures and holds_bytes(field.type))
        ]
        beside = {
            name: value
            for name, value in partition_of(path, wanted.root).items()
            if name in wanted.columns and name not in schema.names
        }
        size = block_rows(max(wanted.width, len(columns)))
        first = 1
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            name = f"{path}, row group {group} (rows {first} to {first + rows - 1})"
            read = partial(_blocks, file, group, first, rows, columns, beside, size, name)
            yield Piece(path, group, name, read)
            first += rows


def _blocks(
    file: pq.ParquetFile,
    group: int,
    first: int,
    rows: int,
    columns: list[str],
    beside: dict[str, str | None],
    size: int,
    name: str,
) -> Iterator[Block]:
    done = 0
    try:
        for batch in file.iter_batches(
            size, row_groups=[group], columns=columns, use_threads=False
        ):
            batch.validate(full=True)  # that texts are UTF-8, above all
            table = pa.Table.from_batches([batch])
            for column, value in beside.items():
                fixed = pa.repeat(pa.scalar(value, pa.string()), len(batch))
                table = table.append_column(column, fixed)
            start = first + done
            yield Block(np.arange(start, start + len(batch), dtype=np.int64), table)
            done += len(batch)
    except DAMAGED as error:
        raise DataError(f"{name}: damaged ({_line(error)})") from error
    if done != rows and columns:
        raise DataError(f"{name}: {rows} rows are promised, but {done} are there")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
