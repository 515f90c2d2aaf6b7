"""From a path to the pieces of all its files, by format."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.base.errors import DataError
from models.data.catalogue import CATALOGUE
from models.data.found import format_of, walk
from models.data.pieces.piece import Piece, Wanted
from models.data.records import Format

# The formats that are read in pieces, and the module that does it.
READ: dict[Format, str] = {"parquet": "parquet", "csv": "delimited", "npz": "arrays"}


def files_in(path: Path, form: Format = "auto") -> tuple[Format, tuple[Path, ...]]:
    """The format of what lies at a path, and all its files of that format in a fixed order.

    Raises:
        DataError: nothing is there, or a format that is not read in pieces.
    """
    form = format_of(path) if form == "auto" else form
    if form not in READ:
        raise DataError(
            f"{path}: {form} is not read in pieces; expected {', '.join(READ)} (pyarrow writes "
            "Parquet from anything)"
        )
    if not path.exists():
        raise DataError(f"no such file or folder: {str(path)!r}")
    if path.is_file():
        return form, (path,)
    ends = CATALOGUE[form].suffixes
    files = tuple(file for file in walk(path) if file.name.lower().endswith(ends))
    if not files:
        raise DataError(f"{path}: no file ends in {' or '.join(ends)}")
    return form, files


def open_pieces(file: Path, form: Format, wanted: Wanted) -> Iterator[Piece]:
    """The pieces of one file, in their order; what cannot be opened is one piece that fails.

    Args:
        file: of the format.
        form: one of `READ`.
        wanted: what is read of it.
    """
    reader: Any = importlib.import_module(f"models.data.pieces.{READ[form]}")
    try:
        yield from reader.pieces(file, wanted)
    except DataError as error:
        yield _failing(file, str(error))


def _failing(file: Path, why: str) -> Piece:
    """A file that cannot be opened, as a piece."""

    def blocks() -> Iterator[Any]:
        raise DataError(why)
        yield

    return Piece(file, 0, str(file), blocks)
