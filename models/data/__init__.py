"""Data sets: the user's own or bundled ones, dealt by hash, with a schema and a fingerprint.

`load` tells the format, a reader of `models.data.formats` (or `bundled`)
gives `Raw` rows, and `build` numbers the labels, divides the rows and makes the schema.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import msgspec

from models.base.errors import DataError
from models.data.build import build
from models.data.bundled import BUNDLED, load_digits
from models.data.catalogue import CATALOGUE, formats_with
from models.data.contents import hash_shares
from models.data.found import format_of, name_of, note_hidden
from models.data.raw import Raw
from models.data.records import PARTS, DataSet, Rows, Source
from models.data.split import split

__all__ = [
    "BUNDLED",
    "PARTS",
    "DataSet",
    "Rows",
    "Source",
    "hash_shares",
    "load",
    "load_digits",
    "split",
]

OPTIONS = sorted({option for each in CATALOGUE.values() for option in each.options})


def load(source: Source | str) -> DataSet:
    """Load a bundled data set by name, or the user's own data from a path.

    A bundled name wins over a file of that name; `./digits` is the file.

    Args:
        source: where the data lies and how to read it, or only the path.

    Raises:
        DataError: says which file and row cannot be used, what was expected and what to do.
    """
    source = resolve(Source(source) if isinstance(source, str) else source)
    name = name_of(source)
    if source.format == "bundled":
        made = BUNDLED[source.path]()
        return dataclasses.replace(made, name=name, source=source)
    return build(read(_with_groups(source)), source, name)


def _with_groups(source: Source) -> Source:
    """The column of groups is read as categories, however many there are: it is no number."""
    if not source.group or source.group in source.categorical:
        return source
    if source.format == "npz" or "categorical" not in CATALOGUE[source.format].options:
        return source  # a group of `npz` is an array beside the others, or a column of numbers
    return msgspec.structs.replace(source, categorical=(*source.categorical, source.group))


def read(source: Source) -> Raw:
    """The rows of the user's own data as they stand there; `source` is `resolve`d, not bundled.

    Raises:
        DataError: they cannot be read, or what reads them is not installed.
    """
    try:
        reader: Any = importlib.import_module(
            f"models.data.formats.{CATALOGUE[source.format].reader}"
        )
    except ModuleNotFoundError as error:
        raise DataError(
            f"reading {source.format} needs {error.name}: pip install 'holdfast[train]'"
        ) from error
    raw: Raw = reader.read(source)
    folders = {Path(each) for each in (source.path, source.test) if each and Path(each).is_dir()}
    hidden = tuple(note for folder in sorted(folders) for note in note_hidden(folder))
    return dataclasses.replace(raw, notes=(*raw.notes, *hidden))


def resolve(source: Source) -> Source:
    """With the format told and paths absolute, so that it means the same from anywhere.

    Raises:
        DataError: an unknown name, a missing path, or an option that the format does not have.
    """
    if not source.path:
        raise DataError("a data set that was made in memory cannot be loaded again")
    if source.format == "bundled" or (source.format == "auto" and source.path in BUNDLED):
        if source.path not in BUNDLED:
            raise DataError(f"unknown data set {source.path!r}: bundled are {', '.join(BUNDLED)}")
        source = msgspec.structs.replace(source, format="bundled")
    else:
        path = Path(source.path).expanduser().absolute()
        if not path.exists():
            known = ", ".join(BUNDLED)
            raise DataError(f"no such file or folder: {source.path!r} (bundled sets: {known})")
        form = format_of(path) if source.format == "auto" else source.format
        test = str(Path(source.test).expanduser().absolute()) if source.test else ""
        if test and not Path(test).exists():
            raise DataError(f"no such file or folder: {source.test!r}, named as the test part")
        source = msgspec.structs.replace(source, path=str(path), format=form, test=test)
    for option in OPTIONS:
        formats = formats_with(option)
        if getattr(source, option) and source.format not in formats:
            raise DataError(
                f"--{option.replace('_', '-')} is for {', '.join(formats)}; "
                f"{source.path!r} is {source.format}"
            )
    return source
