"""A cell's text to a number: decimal marks, thousands, units, dates and times."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from models.data.cells.words import means_missing
from models.versions.schema import Notation

Mark = Literal[".", ","]
MARKS: tuple[Mark, ...] = (".", ",")
DAY_SECONDS = 86_400
MICROSECONDS = 10**6
EPOCH = date(1970, 1, 1).toordinal()
CURRENCIES = frozenset(
    ("USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK")
)
SHARES = frozenset("%\u2030")
LONGEST = 64  # characters of a number with marks or a unit
# Each pattern takes time that is linear in the text: a client may send any.
PLAIN_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Minus signs, and the spaces that stand between thousands or before a unit, as plain ones.
_PLAIN_SIGNS = str.maketrans(
    dict.fromkeys("\u2212\u2012\u2013\ufe63\uff0d", "-")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | {"\u2019": "'"}
)
_UNIT = r"[^0-9\s.,'+\-()]{1,3}"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<before>{_UNIT})?\s*(?P<second>[+-]?)"
    r"(?P<body>[0-9.,][0-9.,']*(?: [0-9]{3}(?:[.,][0-9]+)?)*)"
    rf"(?P<exponent>[eE][+-]?[0-9]+)?\s*(?P<behind>{_UNIT})?"
)
_BODIES = {
    mark: re.compile(
        rf"(?P<whole>[0-9]+|[1-9][0-9]{{0,2}}(?:(?P<group>[{other} '])[0-9]{{3}})"
        rf"(?:(?P=group)[0-9]{{3}})*|[1-9][0-9]?(?:{re.escape(other)}[0-9]{{2}})+"
        rf"{re.escape(other)}[0-9]{{3}})?"
        rf"(?:{re.escape(mark)}(?P<fraction>[0-9]*))?"
    )
    for mark, other in ((".", ","), (",", "."))
}
_DATE = re.compile(
    r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r" ?(Z|UTC|[+-][0-9]{2}:?(?:[0-9]{2})?)?)?"
)
_TIME = re.compile(r"([0-9]{1,3}):([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]+))?)?")


class Split(NamedTuple):
    """A number's text in its pieces, without blanks: `-$1,200.50` is `-`, `$`, `1,200.50`."""

    sign: str
    unit: str
    body: str
    exponent: str


class Body(NamedTuple):
    """The digits of a number under one decimal mark, and the mark between thousands."""

    whole: str
    fraction: str | None  # None: no decimal mark
    group: str


def read_number(text: str, notation: Notation) -> float | None:
    """The number that a cell is: NaN where it means a missing value, None where it is neither.

    Args:
        text: of the cell; blanks around it do not count.
        notation: of the column.

    >>> read_number("1.200,5", Notation(decimal=",", grouping=".")), read_number("12 %", Notation())
    (1200.5, None)
    >>> read_number("1970-01-02", Notation("date")), read_number("n/a", Notation("date"))
    (1.0, nan)
    """
    text = text.strip()
    if means_missing(text, notation):
        return math.nan
    number = _READERS[notation.kind](text, notation)
    return math.nan if notation.missing and number in missing_numbers(notation) else number


@lru_cache(maxsize=256)
def missing_numbers(notation: Notation) -> frozenset[float]:
    """The numbers that the user named as words for a missing value.

    >>> missing_numbers(Notation(missing=("-999", "unknown")))
    frozenset({-999.0})
    """
    numbers = (_read_plain(word.strip(), notation) for word in notation.missing)
    return frozenset(number for number in numbers if number is not None)


def split_number(text: str) -> Split | None:
    """A text as the pieces of a number, None where it is none under any decimal mark.

    >>> split_number("\\u2212 5,5\\u00a0%")
    Split(sign='-', unit='%', body='5,5', exponent='')
    >>> split_number("($1,200)")
    Split(sign='-', unit='$', body='1,200', exponent='')
    """
    if len(text) > LONGEST:
        return None
    if text[:1] == "(" and text[-1:] == ")":  # how accountants write a loss
        amount = split_number(text[1:-1])
        return None if amount is None or amount.sign else amount._replace(sign="-")
    match = _NUMBER.fullmatch(text if text.isascii() else text.translate(_PLAIN_SIGNS))
    if match is None:
        return None
    sign, before, second, body, exponent, behind = match.groups(default="")
    if (sign and second) or (before and behind) or not is_unit(before + behind):
        return None
    if before in SHARES:
        return None
    return Split(sign or second, before or behind, body, exponent)


def is_unit(sign: str) -> bool:
    """Whether a sign beside a number is known: nothing, a currency, or a share of hundred."""
    if len(sign) == 1:
        return sign in SHARES or unicodedata.category(sign) == "Sc"
    return not sign or sign in CURRENCIES


def read_body(body: str, decimal: Mark) -> Body | None:
    """The digits under a decimal mark, None where they do not stand in it.

    >>> read_body("1,200", "."), read_body("1,200", ",")
    (Body(whole='1200', fraction=None, group=','), Body(whole='1', fraction='200', group=''))
    """
    match = _BODIES[decimal].fullmatch(body)
    if match is None or not (match["whole"] or match["fraction"]):
        return None
    whole = match["whole"] or ""
    if whole.isdigit() or not whole:
        return Body(whole, match["fraction"], "")
    group = next(sign for sign in whole if not sign.isdigit())
    return Body(whole.replace(group, ""), match["fraction"], group)


def days_of(text: str) -> float | None:
    """Days since 1970-01-01 of `2024-03-04` or `2024-03-04T05:06:07Z`; without a zone it is UTC.

    >>> days_of("1970-01-02 06:00"), days_of("1970-01-01T00:00:00-06:00"), days_of("04/03/2024")
    (1.25, 0.25, None)
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, _, month, day, hour, minute, second, fraction, zone = match.groups()
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59:
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - EPOCH
    except ValueError:
        return None
    seconds = _seconds(*clock) - _offset_seconds(zone)
    return _exact_days(days * DAY_SECONDS + seconds, fraction)


def seconds_of(text: str) -> float | None:
    """Seconds of `08:30` (hours and minutes) or `08:30:15.5`.

    >>> seconds_of("08:30"), seconds_of("0:00:01.5"), seconds_of("8:75")
    (30600.0, 1.5, None)
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = _seconds(int(hours), int(minutes), int(seconds or 0))
    return (whole * MICROSECONDS + _microseconds(fraction)) / MICROSECONDS


def _read_plain(text: str, notation: Notation) -> float | None:
    simple = notation.decimal == "." and PLAIN_NUMBER.fullmatch(text)
    number = float(text) if simple else _read_marked(text, notation)
    return number if number is not None and math.isfinite(number) else None


def _read_marked(text: str, notation: Notation) -> float | None:
    split = split_number(text)
    if split is None or (split.unit and split.unit != notation.unit):
        return None
    body = read_body(split.body, notation.decimal)
    if body is None or (body.group and body.group not in notation.grouping):
        return None
    return float(f"{split.sign}{body.whole or 0}.{body.fraction or 0}{split.exponent}")


def _exact_days(seconds: int, fraction: str | None) -> float:
    # Rounded as NumPy divides the integers of a typed column.
    return float(seconds * MICROSECONDS + _microseconds(fraction)) / (DAY_SECONDS * MICROSECONDS)


def _microseconds(fraction: str | None) -> int:
    return int((fraction or "0")[:6].ljust(6, "0"))


def _seconds(hours: int, minutes: int, seconds: int) -> int:
    return (hours * 60 + minutes) * 60 + seconds


def _offset_seconds(zone: str | None) -> int:
    if zone in (None, "Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = _seconds(int(digits[:2]), int(digits[2:]), 0)
    return -seconds if zone[0] == "-" else seconds


_READERS: Mapping[str, Callable[[str, Notation], float | None]] = MappingProxyType(
    {
        "plain": _read_plain,
        "number": _read_plain,
        "date": lambda text, _: days_of(text),
        "time": lambda text, _: seconds_of(text),
    }
)
