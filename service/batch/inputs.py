"""Blocks of a file to the model's input, checked row by row as a request is."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.base.errors import DataError, InputError
from models.data.formats.parquet import holds_bytes
from models.data.pieces import Block
from models.data.raw import quote
from models.versions.schema import InputArray, InputSchema
from service.batch.cells import ColumnReader
from service.decoding.codec import to_input
from service.decoding.images import Upload, decode_images, takes_images

FIELD = "row"


@dataclass(frozen=True)
class Rows:
    """Rows of a block that the model takes, and why it does not take the others.

    Args:
        x: `(M, *shape)` in the schema's dtype.
        places: `(M,)` which rows of the block they are.
        faults: what is wrong, by place in the block.
    """

    x: InputArray
    places: npt.NDArray[np.intp]
    faults: Mapping[int, str]


class InputReader:
    """Reads blocks for one schema.

    Args:
        schema: of the version.
        resize: of pictures of another size, as `/predict?resize=`; None refuses them.
    """

    def __init__(self, schema: InputSchema, resize: str | None = None) -> None:
        self.schema, self._resize = schema, resize
        self._columns = [ColumnReader(column) for column in schema.columns]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the model takes; none of pictures, which are told by their type."""
        return tuple(reader.column.name for reader in self._columns)

    def read(self, block: Block) -> Rows:
        """Read the rows of a block.

        Raises:
            DataError: the file holds something else than the model takes.
        """
        if self.schema.kind == "tabular":
            return self._read_table(block)
        if block.pixels is not None:
            return self._check(self._arrange(block.pixels), {})
        return self._read_pictures(block)

    def _read_table(self, block: Block) -> Rows:
        table = block.table
        self._need(table.column_names)
        x = np.empty((len(table), len(self._columns)), dtype=np.float64)
        faults: dict[int, list[str]] = {}
        types = []
        for place, reader in enumerate(self._columns):
            try:
                cells = reader.read(table.column(reader.column.name))
            except DataError as error:
                types.append(str(error))
                continue
            x[:, place] = cells.values
            for row in np.flatnonzero(cells.wrong).tolist():
                sentence = f"{reader.column.name}: {reader.expected}, got {cells.show(row)}"
                faults.setdefault(row, []).append(sentence)
        if types:
            raise DataError("; ".join(types))
        return self._check(x, {row: "; ".join(each) for row, each in faults.items()})

    def _check(self, numbers: npt.NDArray[Any], faults: Mapping[int, str]) -> Rows:
        """Take the rows without a fault, and look at each where one of them does not fit."""
        places = np.array([k for k in range(len(numbers)) if k not in faults], dtype=np.intp)
        told, numbers = dict(faults), numbers if not faults else numbers[places]
        if not len(places):
            return Rows(np.empty((0, *self.schema.shape)), places, told)
        try:
            return Rows(to_input(numbers.astype(np.float64), self.schema, FIELD), places, told)
        except InputError:
            good, kept = [], []
        for row, place in enumerate(places.tolist()):
            try:
                good.append(to_input(numbers[row : row + 1].astype(float), self.schema, FIELD))
                kept.append(place)
            except InputError as error:
                told[place] = _sentence(error)
        x = np.concatenate(good) if good else np.empty((0, *self.schema.shape))
        return Rows(x, np.array(kept, dtype=np.intp), told)

    def _arrange(self, pixels: InputArray) -> InputArray:
        """Images as `(N, *shape)`, whichever axis their channels are. Raises DataError."""
        wanted, shape = self.schema.shape, pixels.shape[1:]
        if shape == wanted:
            return pixels
        if pixels.ndim == 3 and (1, *shape) == wanted:
            return pixels[:, None]
        if pixels.ndim == 4 and (shape[2], shape[0], shape[1]) == wanted:
            return pixels.transpose(0, 3, 1, 2)
        raise DataError(f"images of shape {list(shape)}; the model takes {list(wanted)}")

    def _read_pictures(self, block: Block) -> Rows:
        """Pictures of a column of encoded files, one by one."""
        names = [f.name for f in block.table.schema if holds_bytes(f.type)]
        if not takes_images(self.schema) or len(names) != 1:
            found = f"columns with files of pictures: {quote(names)}"
            raise DataError(f"expected images of shape {list(self.schema.shape)}; {found}")
        column = block.table.column(names[0])
        if pa.types.is_struct(column.type):
            column = pa.chunked_array([each.field("bytes") for each in column.chunks])
        x, kept, faults = [], [], dict[int, str]()
        for place, data in enumerate(column.to_pylist()):
            try:
                if data is None:
                    raise InputError(FIELD, "a PNG or JPEG file", "a missing value")
                files = [Upload(FIELD, data)]
                x.append(decode_images(files, self.schema, 1, resize=self._resize))
                kept.append(place)
            except InputError as error:
                faults[place] = _sentence(error)
        made = np.concatenate(x) if x else np.empty((0, *self.schema.shape))
        return Rows(made, np.array(kept, dtype=np.intp), faults)

    def _need(self, found: Sequence[str]) -> None:
        """Refuse a file that lacks columns; all of them at once."""
        absent = [name for name in self.columns if name not in found]
        if absent:
            near = difflib.get_close_matches(absent[0], found, 1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise DataError(f"no column {quote(absent)}{hint}; the model takes them")


def _sentence(error: InputError) -> str:
    """What is wrong with a row, without its place in the block."""
    column = error.field.partition("].")[2]
    sentence = f"expected {error.expected}, got {error.got}"
    return f"{column}: {sentence}" if column else sentence
