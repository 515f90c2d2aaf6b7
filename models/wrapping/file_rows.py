"""Rows of a table as they stand in its file, before anything was read into them."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data import DataSet, Source
from models.data.catalogue import CATALOGUE
from models.data.cells import key_of, places_of, read_number
from models.data.found import files_of
from models.data.labels import number_labels
from models.data.raw import Raw, RawPart
from models.statistics.arrays import IntArray
from models.versions.schema import PLAIN, Column
from models.wrapping.graphs.edit import Array

Cells = Sequence[Any]  # of a column: texts of a CSV, values of their own type of a Parquet file


@dataclass(frozen=True)
class FileRows:
    """Some rows of a file: the cells of every column, and the class of each row `(N,)`."""

    cells: Mapping[str, Cells]
    y: IntArray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, places: npt.NDArray[np.intp]) -> "FileRows":
        """The rows at `places`."""
        cells = {name: [column[i] for i in places] for name, column in self.cells.items()}
        return FileRows(cells, self.y[places])


def read_file_rows(data: DataSet, count: int) -> FileRows:
    """Up to `count` rows of the first file of a table, always the same ones.

    Raises:
        DataError: the data are no table in a CSV or Parquet file, or cannot be read again.
    """
    source = data.source
    read = READERS.get(source.format)
    if read is None:
        raise DataError(f"{source.format} files do not hold cells that a client could send")
    path = files_of(source, CATALOGUE[source.format].suffixes).train[0]
    table = read(path, source)
    arrow = importlib.import_module("models.data.formats.arrow")
    label = arrow.label_of(table.column_names, source, str(path))
    rows = np.random.default_rng(0).permutation(len(table))[:count]
    table = table.take(np.sort(rows))
    labels = arrow.labels_of(table.column(label), lambda row: f"{path}, row {row}")
    names = arrow.class_names(table.schema, label)
    numbered = number_labels(Raw(path.name, RawPart(labels, lambda row: str(row)), None, names))
    y = np.array([_place(name, data.classes) for name in numbered.classes])[numbered.train]
    known = np.flatnonzero(y >= 0)
    table = table.take(known)
    cells = {name: table.column(name).to_pylist() for name in table.column_names if name != label}
    missing = [column.name for column in data.schema.columns if column.name not in cells]
    if missing:
        raise DataError(f"{path}: the columns {', '.join(missing)} do not stand there as such")
    return FileRows(MappingProxyType(cells), y[known])


def read_cells(cells: Cells, column: Column) -> Array:
    """What a client's cells mean to the schema, float32 `(N,)`: the way of a prediction.

    >>> read_cells(["00501", "?", ""], Column("zip", "categorical", categories=("00501",)))
    array([ 0., -1., nan], dtype=float32)
    """
    if column.kind == "categorical":
        places = places_of(column.categories, column.notation)
        keys = (key_of(_text(cell), column.notation) for cell in cells)
        codes = [np.nan if key is None else places.get(key, -1) for key in keys]
        return np.array(codes, dtype=np.float32)
    return np.array([_number(cell, column) for cell in cells], dtype=np.float32)


def number_of(cell: Any, column: Column) -> float:
    """A cell as a number, as a person would feed it; NaN if it is missing or no number."""
    if isinstance(cell, bool):
        return float(cell)
    text = _text(cell).strip()
    if text.casefold() in ("true", "false"):
        return float(text.casefold() == "true")
    return _number(cell, column)


def _number(cell: Any, column: Column) -> float:
    if isinstance(cell, int | float):
        return float(cell)
    notation = column.notation if column.kind == "numeric" else PLAIN
    number = read_number(_text(cell).strip(), notation)
    return np.nan if number is None else number


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _place(name: str, classes: Sequence[str]) -> int:
    return classes.index(name) if name in classes else -1


def _read_csv(path: Path, source: Source) -> Any:
    delimiter = "\t" if source.delimiter in ("\\t", "tab") else source.delimiter
    reader = importlib.import_module("models.data.formats.delimited")
    return reader.read_csv(path, delimiter).table


def _read_parquet(path: Path, source: Source) -> Any:
    del source  # it says nothing of such a file
    return importlib.import_module("pyarrow.parquet").read_table(path, partitioning=None)


READERS: Mapping[str, Callable[[Path, Source], Any]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
}
