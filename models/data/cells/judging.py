"""What a column of texts holds: numbers and how they are written, dates, codes or texts."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from models.base.errors import DataError
from models.data.cells.decimals import decide_decimal
from models.data.cells.numbers import days_of, read_body, read_number, seconds_of, split_number
from models.data.cells.texts import Law, Texts
from models.data.cells.words import TRUTHS, means_missing
from models.versions.schema import PLAIN, Notation

MOSTLY = 0.8  # share of rows, or of different cells, from which a column is meant as numbers
TRUE_WORDS = frozenset(("true", "false"))
CODE = re.compile(r"0[0-9]+")
DIGITS = re.compile(r"[0-9]+")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
OTHER_DATE = re.compile(
    r"(?:[0-9]{1,2}([-/.])(?:[0-9]{1,2}|[a-z]{3})\1(?:[0-9]{4}|[0-9]{2})"
    rf"|[0-9]{{1,2}} {_MONTH},? [0-9]{{4}}|{_MONTH} [0-9]{{1,2}},? [0-9]{{4}})"
    r"(?:,? [0-9]{1,2}:[0-9]{2}.*)?",
    re.IGNORECASE,
)
KINDS = {"plain": "numbers", "date": "dates", "time": "times"}

Meaning = Literal["plain", "date", "time"]


def judge(cells: Texts, words: tuple[str, ...] = (), decimal: str = "") -> Law:
    """What a column is, by all of its different texts.

    Args:
        cells: all of the column.
        words: that mean a missing value, as the user named them.
        decimal: the decimal mark, as the user named it; empty to find it.

    Raises:
        DataError: it is mostly numbers but not all; its numbers can be read in two ways; its dates
            are not written year first.
    """
    notation = Notation(missing=words)
    kept = [p for p, text in enumerate(cells.texts) if not means_missing(text, notation)]
    if not kept:
        return Law("numeric", notation)
    there = cells.pick(kept)
    if _are_truths(there.texts):
        return Law("categorical", msgspec.structs.replace(notation, kind="truth"))
    if any(CODE.fullmatch(text) for text in there.texts):
        digits = all(DIGITS.fullmatch(text) for text in there.texts)
        return Law(
            "categorical", msgspec.structs.replace(notation, kind="code" if digits else "plain")
        )
    _check_dates(there)
    meaning = _meaning(there)
    if meaning is None:
        return Law("categorical", notation)
    if meaning == "plain":
        return Law("numeric", decide_decimal(there, notation, decimal))
    return Law("numeric", msgspec.structs.replace(notation, kind=meaning))


def judge_categories(cells: Texts, words: tuple[str, ...] = (), decimal: str = "") -> Law:
    """How the texts of a column are written that the user wants as categories; never refuses.

    Numbers, dates and times that can be read in one way only are categories by their value, all
    others by text.
    """
    try:
        law = judge(cells, words, decimal)
    except DataError:
        return Law("categorical", Notation(missing=words))
    if law.kind == "categorical":
        return law
    kind = "number" if law.notation.kind == "plain" else law.notation.kind
    return Law("categorical", msgspec.structs.replace(law.notation, kind=kind))


def _are_truths(texts: Sequence[str]) -> bool:
    """Whether all are spellings of true and false; `t` or `f` alone is not enough."""
    words = {text.casefold() for text in texts}
    return words <= TRUTHS.keys() and (bool(words & TRUE_WORDS) or words == {"t", "f"})


def _check_dates(cells: Texts) -> None:
    """Refuse a column of dates of which nobody can say which number is the month."""
    places = [p for p, text in enumerate(cells.texts) if OTHER_DATE.fullmatch(text)]
    if _are_most(cells, places):
        raise DataError(
            f"column {cells.column!r} holds dates such as {cells.name(places[:2])}, which do not "
            "say for certain what is day, month and year; write them as 2024-03-31 (they are "
            "read as a number of days), or name the column in --categorical or --ignore"
        )


def _meaning(cells: Texts) -> Meaning | None:
    """What the cells are if all are the same, None for texts. Raises DataError if most are."""
    readings: dict[Meaning, list[int]] = {
        "date": [p for p, text in enumerate(cells.texts) if days_of(text) is not None],
        "time": [p for p, text in enumerate(cells.texts) if seconds_of(text) is not None],
        "plain": [p for p, text in enumerate(cells.texts) if is_number(text)],
    }
    for meaning, places in readings.items():
        if len(places) == len(cells.texts):
            if meaning == "time":
                _check_times(cells)
            return meaning
        if _are_most(cells, places):
            odd = sorted(set(range(len(cells.texts))) - set(places))
            raise _explain_odd(cells, KINDS[meaning], odd)
    return None


def is_number(text: str) -> bool:
    """Whether a text reads as a finite number under any decimal mark, with a unit or without.

    >>> [is_number(text) for text in ("1,5", "-2e3", "$5", "007", "1_000", "inf", "5 apples")]
    [True, True, True, True, False, False, False]
    """
    if read_number(text, PLAIN) is not None:
        return True
    split = split_number(text)
    return split is not None and any(read_body(split.body, mark) for mark in (".", ","))


def _are_most(cells: Texts, places: Sequence[int]) -> bool:
    rows = sum(cells.rows[p] for p in places)
    return bool(places) and (
        rows >= MOSTLY * sum(cells.rows) or len(places) >= MOSTLY * len(cells.texts)
    )


def _explain_odd(cells: Texts, what: str, odd: Sequence[int]) -> DataError:
    one = len(odd) == 1
    return DataError(
        f"column {cells.column!r} holds {what}, but also {cells.name(odd)}; correct "
        f"{'it' if one else 'them'}, say with --missing {cells.texts[odd[0]]!r} that it stands for "
        f"a missing value, or name the column in --categorical (all cells are texts then) or "
        "--ignore"
    )


def _check_times(cells: Texts) -> None:
    """Refuse `3:45` beside `1:03:45`: the first may be minutes and seconds."""
    short = [p for p, text in enumerate(cells.texts) if text.count(":") == 1]
    lengths = Counter(text.count(":") for text in cells.texts)
    padded = all(text.index(":") == 2 and text[:2] < "24" for text in cells.texts)
    if len(lengths) > 1 and not padded:
        long = next(p for p, text in enumerate(cells.texts) if text.count(":") == 2)
        raise DataError(
            f"column {cells.column!r} holds times of two and of three numbers "
            f"({cells.name([short[0], long])}): the first may be hours and minutes, or minutes "
            "and seconds; write all as 00:03:45"
        )
