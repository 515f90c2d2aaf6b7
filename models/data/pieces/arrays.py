"""Arrays of an .npz file, read row by row as they are unpacked."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.base.errors import DataError
from models.data.formats.arrays import COLUMN_NAMES, DAMAGED, INPUTS
from models.data.pieces.piece import Block, Piece, Wanted, block_rows
from models.data.raw import quote

PIECE_BLOCKS = 8  # of rows in a piece
Array = npt.NDArray[Any]


class _Stream:
    """One array of the file: its shape and type, and its rows, the next ones first."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str, stack: ExitStack) -> None:
        self.path, self.name, self.done = path, name, 0
        try:
            self._stream: IO[bytes] = stack.enter_context(archive.open(f"{name}.npy"))
            version = np.lib.format.read_magic(self._stream)
            read = np.lib.format.read_array_header_1_0
            if version >= (2, 0):
                read = np.lib.format.read_array_header_2_0
            self.shape, fortran, self.dtype = read(self._stream)
        except (ValueError, *DAMAGED) as error:
            raise DataError(f"{path}: array {name!r} is damaged ({error})") from error
        if self.dtype.hasobject:
            raise DataError(
                f"{path}: array {name!r} holds Python objects, which can run code and are not "
                "loaded; save numbers"
            )
        if fortran and len(self.shape) > 1:
            raise DataError(
                f"{path}: array {name!r} lies column by column (Fortran's order) and cannot be "
                "read row by row: save numpy.ascontiguousarray of it"
            )

    def rows(self, start: int, count: int) -> Array:
        """The rows from `start` on; what lies before them is passed over."""
        per_row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        while self.done < start:  # a piece that was not asked for
            step = min(start - self.done, max(1, (1 << 20) // max(1, per_row)))
            self._take(step * per_row)
            self.done += step
        data = self._take(count * per_row)
        self.done += count
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def _take(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except (zlib.error, *DAMAGED) as error:
            raise DataError(
                f"{self.path}: array {self.name!r} is damaged behind row {self.done} ({error})"
            ) from error
        if len(data) < size:
            raise DataError(f"{self.path}: array {self.name!r} ends early, behind row {self.done}")
        return data


def pieces(path: Path, wanted: Wanted) -> Iterator[Piece]:
    """Pieces of the input array, and of further ones of the same length that are wanted.

    Raises:
        DataError: no .npz file, or no array of inputs.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except DAMAGED as error:
            raise DataError(f"{path}: no .npz file, or a damaged one ({error})") from error
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        by_small = {name.lower(): name for name in names}
        found = next((by_small[name] for name in INPUTS if name in by_small), None)
        if found is None:
            raise DataError(f"{path} holds {quote(names)}; expected one of {quote(INPUTS)}")
        x = _Stream(path, archive, found, stack)
        if len(x.shape) < 2 or x.dtype.kind not in "iufb":
            raise DataError(
                f"{path}: {found!r} has shape {list(x.shape)} and type {x.dtype}; expected a table "
                "[N, D] or images of numbers"
            )
        others = {
            name: _Stream(path, archive, by_small[name.lower()], stack)
            for name in wanted.columns
            if name.lower() in by_small and by_small[name.lower()] != found
        }
        others = {name: each for name, each in others.items() if each.shape[:1] == x.shape[:1]}
        titles = _titles(path, by_small, x.shape[1]) if len(x.shape) == 2 else None
        size = block_rows(max(wanted.width, int(np.prod(x.shape[1:]))))
        step = size * PIECE_BLOCKS
        for place, start in enumerate(range(0, x.shape[0], step)):
            stop = min(start + step, x.shape[0])
            name = f"{path}, rows {start + 1} to {stop}"
            yield Piece(path, place, name, partial(_blocks, x, others, titles, start, stop, size))


def _titles(path: Path, by_small: dict[str, str], width: int) -> list[str]:
    """The names of the columns, `x0` and so on where the file has none."""
    name = next((by_small[each] for each in COLUMN_NAMES if each in by_small), None)
    if name is None:
        return [f"x{place}" for place in range(width)]
    try:
        with np.load(path, allow_pickle=False) as file:
            titles = [str(each) for each in file[name].tolist()]
    except (ValueError, *DAMAGED) as error:
        raise DataError(f"{path}: array {name!r} is damaged ({error})") from error
    if len(titles) != width or len(set(titles)) < width:
        raise DataError(f"{path}: {width} columns, but the names {quote(titles)}")
    return titles


def _blocks(
    x: _Stream,
    others: dict[str, _Stream],
    titles: list[str] | None,
    start: int,
    stop: int,
    size: int,
) -> Iterator[Block]:
    for first in range(start, stop, size):
        count = min(size, stop - first)
        values = x.rows(first, count)
        arrays = {name: each.rows(first, count) for name, each in others.items()}
        columns = {name: pa.array(list(a) if a.ndim > 1 else a) for name, a in arrays.items()}
        if titles is not None:
            columns = {**{t: pa.array(values[:, k]) for k, t in enumerate(titles)}, **columns}
        numbers = np.arange(first + 1, first + 1 + count, dtype=np.int64)
        yield Block(numbers, pa.table(columns), values if titles is None else None)
