"""Columns of texts that are all written alike become numbers at once, without a look at each cell.

What comes out is what the law of cells says (`models.data.cells`), only faster: a column that
needs weighing is left to it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.data.cells.columns import FLOAT64_WHOLE
from models.data.cells.words import MISSING_WORDS
from models.data.records import Source
from models.versions.schema import PLAIN, Notation

CODE = "^0[0-9]+$"
THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"
COMMA = "^[+-]?[0-9]+(,[0-9]+)?$"
COMMA_THOUSANDS = "^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
PADDED = ",[0-9][0-9]0$"
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?$"
DAY_MICROSECONDS = 86_400 * 10**6
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CastColumn:
    """Numbers `(N,)`, NaN where missing, how they are written, an example, words for missing."""

    numbers: Numbers
    notation: Notation = PLAIN
    example: str = ""
    words: tuple[str, ...] = ()


def cast_texts(column: pa.ChunkedArray, source: Source) -> CastColumn | None:
    """The numbers of a column of texts, None where its cells have to be looked at one by one.

    Args:
        column: large_string; an empty text is a missing value.
        source: where the user names a decimal comma or words, each cell is looked at.
    """
    if source.missing or source.decimal == ",":
        return None
    column, words = pc.if_else(pc.equal(column, ""), None, column), list[str]()
    numbers = _cast_numbers(column)
    if numbers is None:
        usual = pa.array(sorted(MISSING_WORDS), pa.large_string())
        missing = pc.is_in(pc.utf8_lower(column), value_set=usual)
        words = pc.unique(column.filter(missing)).to_pylist()
        column = pc.if_else(missing, None, column)
        numbers = _cast_numbers(column)
    if _any_match(column, CODE):
        return None
    if numbers is not None:
        thousands = _count_matches(column, THOUSANDS)
        if thousands and thousands == pc.sum(pc.match_substring(column, ".")).as_py():
            return None  # 1.200 beside 3 may be 1200
        return CastColumn(numbers, words=tuple(words))
    for cast in (_cast_commas, _cast_dates):
        made = None if source.decimal else cast(column)
        if made is not None:
            return CastColumn(made.numbers, made.notation, made.example, tuple(words))
    return None


def _cast_numbers(column: pa.ChunkedArray) -> Numbers | None:
    try:
        cast = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    numbers: Numbers = cast.to_numpy()
    there = numbers[~np.isnan(numbers)]
    if len(there) < len(numbers) - cast.null_count:
        return None  # what Arrow takes for NaN need not be a word of ours
    return None if len(there) and np.abs(there).max() >= FLOAT64_WHOLE else numbers


def _cast_commas(column: pa.ChunkedArray) -> CastColumn | None:
    """Numbers with a decimal comma, where none of them can be thousands."""
    count = len(column) - column.null_count
    if count == 0 or _count_matches(column, COMMA) < count:
        return None
    commas = pc.sum(pc.match_substring(column, ",")).as_py()
    if _any_match(column, PADDED) or _count_matches(column, COMMA_THOUSANDS) == commas:
        return None  # 1,200 beside 3 may be 1200
    numbers = _cast_numbers(pc.replace_substring(column, ",", "."))
    if numbers is None:
        return None
    example = column.filter(pc.match_substring(column, ","))[0].as_py()
    return CastColumn(numbers, Notation(decimal=","), example)


def _cast_dates(column: pa.ChunkedArray) -> CastColumn | None:
    """Dates, with a time or without, none with a zone."""
    count = len(column) - column.null_count
    if count == 0 or _count_matches(column, DATE) < count:
        return None
    try:
        moments = column.cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    days: Numbers = moments.fill_null(0).to_numpy() / DAY_MICROSECONDS
    days[np.asarray(moments.is_null().to_numpy(), dtype=np.bool_)] = np.nan
    return CastColumn(days, Notation("date"), column.drop_null()[0].as_py())


def _any_match(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, pattern)).as_py())


def _count_matches(column: pa.ChunkedArray, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(column, pattern)).as_py() or 0)
