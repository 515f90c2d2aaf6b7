"""Columns of Arrow tables to numbers and categories, by the law of cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.base.errors import DataError
from models.data import tables
from models.data.cells.columns import (
    Places,
    categories_of_texts,
    describe_law,
    missing_words,
    numbers_of,
)
from models.data.cells.judging import judge, judge_categories
from models.data.cells.texts import Kind, Law, Texts
from models.data.formats.arrow_casts import DAY_MICROSECONDS, cast_texts
from models.data.raw import RawColumn, Where
from models.data.records import Source
from models.versions.schema import PLAIN, Notation

SECOND_MICROSECONDS = 10**6


@dataclass(frozen=True)
class Cells:
    """A column as it lies in a file, whose rows `where` names.

    `like` is the column of the training part, where this is one of the test part.
    """

    name: str
    column: pa.ChunkedArray
    source: Source
    where: Where
    like: RawColumn | None = None

    @property
    def file(self) -> str:
        """What to call the file in a message."""
        if len(self.column) == 0:
            return Path(self.source.path).name
        return self.where(0).rpartition(", row ")[0]

    @property
    def law(self) -> Law | None:
        """The law by which the column of the training part was read."""
        if self.like is None:
            return None
        kind: Kind = "numeric" if self.like.texts is None else "categorical"
        return Law(kind, self.like.notation)

    @property
    def forced(self) -> bool:
        """Whether they are categories whatever they hold."""
        law = self.law
        return self.name in self.source.categorical if law is None else law.kind == "categorical"


@dataclass(frozen=True)
class Reading:
    """A column, a note on how it is read, and the words in it that are missing values."""

    column: RawColumn
    note: str = ""
    words: tuple[str, ...] = ()


def empty_column(cells: Cells) -> RawColumn:
    """A column without any value, as that of the training part is."""
    texts = None if cells.like is None else cells.like.texts
    notation = PLAIN if cells.like is None else cells.like.notation
    nothing = np.full(len(cells.column), np.nan, dtype=np.float32)
    return RawColumn(cells.name, nothing, texts, notation)


def read_column(cells: Cells) -> Reading:
    """A column of any type that a table may have.

    Raises:
        DataError: a type that is neither number, text, truth value, date nor time, or cells that
            cannot be used.
    """
    column = plain_column(cells.column)
    kind = column.type
    if is_text(kind):
        return _read_texts(cells, column)
    if pa.types.is_boolean(kind):
        law = cells.law or Law("categorical", Notation("truth", missing=cells.source.missing))
        return _read_by_law(cells, column.cast(pa.large_string()), law)
    if pa.types.is_decimal(kind):
        return _read_texts(cells, column.cast(pa.large_string()))
    if pa.types.is_temporal(kind):
        return _read_moments(cells, column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return Reading(_read_numbers(cells, column))
    raise DataError(
        f"{cells.file}: column {cells.name!r} holds {kind}; a table takes numbers, texts, "
        "true/false, dates and times: convert it, or name it in --ignore"
    )


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without the coding of a dictionary, and texts of one type."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if is_text(column.type) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of texts."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _read_texts(cells: Cells, column: pa.ChunkedArray) -> Reading:
    if not cells.forced:
        cast = cast_texts(column, cells.source)
        law = None if cast is None else Law("numeric", cast.notation)
        if cast is not None and law is not None and cells.law in (None, law):
            made = tables.numbers(cells.name, cast.numbers, cells.where, cast.notation)
            example = Texts(cells.name, (cast.example,), (1,), str)
            return Reading(made, describe_law(example, law), cast.words)
    return _read_by_law(cells, column, cells.law)


def _read_by_law(cells: Cells, column: pa.ChunkedArray, law: Law | None) -> Reading:
    texts, places = _encode(cells, column)
    source = cells.source
    try:
        if law is None:
            find = judge_categories if cells.forced else judge
            law = find(texts, source.missing, source.decimal)
        if law.kind == "numeric":
            numbers, categories = numbers_of(texts, law.notation).astype(np.float32), None
        else:
            numbers, categories = categories_of_texts(texts, law.notation)
    except DataError as error:
        raise DataError(f"{cells.file}: {error}") from None
    values = np.append(numbers + np.float32(0), np.float32(np.nan))[places]  # -0.0 is 0.0
    made = RawColumn(cells.name, values, categories, law.notation)
    return Reading(made, describe_law(texts, law), missing_words(texts, law))


def _encode(cells: Cells, column: pa.ChunkedArray) -> tuple[Texts, Places]:
    """The different texts, trimmed, and the place of each row's text; -1 where it is empty."""
    coded = pc.dictionary_encode(column.combine_chunks())
    spelled: list[str] = [text.strip() for text in coded.dictionary.to_pylist()]
    distinct = {text: place for place, text in enumerate(dict.fromkeys(filter(None, spelled)))}
    trimmed = np.array([*(distinct.get(text, -1) for text in spelled), -1], dtype=np.intp)
    places = trimmed[coded.indices.fill_null(len(spelled)).to_numpy(zero_copy_only=False)]
    rows = np.bincount(places[places >= 0], minlength=len(distinct))
    first = np.zeros(len(distinct) + 1, dtype=np.intp)
    first[places[::-1]] = np.arange(len(places))[::-1]

    def where(place: int) -> str:
        return cells.where(int(first[place])).rpartition("/")[2]

    return Texts(cells.name, tuple(distinct), rows.tolist(), where), places


def _read_numbers(cells: Cells, column: pa.ChunkedArray) -> RawColumn:
    missing = np.asarray(column.is_null().to_numpy(), dtype=np.bool_)
    if pa.types.is_null(column.type):
        values: npt.NDArray[np.generic] = np.zeros(len(column))
    else:
        values = pc.fill_null(column, 0).to_numpy()
    return tables.from_numbers(
        cells.name, values, cells.forced, cells.where, missing, cells.source.missing
    )


def _read_moments(cells: Cells, column: pa.ChunkedArray) -> Reading:
    """Dates as days since 1970-01-01, UTC; times of day and durations as seconds."""
    kind = column.type
    dated = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    exact = pa.timestamp("us") if dated else pa.time64("us")
    exact = pa.duration("us") if pa.types.is_duration(kind) else exact
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    column = column.cast(exact, safe=False)
    missing = np.asarray(column.is_null().to_numpy(), dtype=np.bool_)
    if cells.forced and not pa.types.is_duration(kind):
        return _read_moments_as_categories(cells, column, "date" if dated else "time")
    whole = column.cast(pa.int64()).fill_null(0).to_numpy()
    numbers = whole / (DAY_MICROSECONDS if dated else SECOND_MICROSECONDS)
    if cells.forced:
        made = tables.from_numbers(cells.name, numbers, cells.forced, cells.where, missing)
        return Reading(made)
    notation = Notation("date" if dated else "plain" if pa.types.is_duration(kind) else "time")
    made = tables.numbers(cells.name, numbers, cells.where, notation, missing=missing)
    unit = "days since 1970-01-01" if dated else "seconds"
    return Reading(made, f"column {cells.name!r}: {kind} is read as {unit}")


def _read_moments_as_categories(
    cells: Cells, column: pa.ChunkedArray, kind: Literal["date", "time"]
) -> Reading:
    texts = ["" if moment is None else _spell_moment(str(moment)) for moment in column.to_pylist()]
    law = cells.law or Law("categorical", Notation(kind, missing=cells.source.missing))
    return _read_by_law(cells, pa.chunked_array([pa.array(texts, pa.large_string())]), law)


def _spell_moment(text: str) -> str:
    """A date without the midnight that stands behind it."""
    return text.removesuffix(" 00:00:00")
