"""A cell to its category: spellings that mean the same have one key, whoever writes them.

A key is a text. Numbers as JSON may write them have the key of their value (`1`, `1.0` and `1e0`
of a client are `1`), whole numbers of any size keep their digits, `True` is `true`. A code with a
leading zero, and any other text, is its own key.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from models.data.cells.numbers import read_number
from models.data.cells.words import TRUTHS, means_missing
from models.versions.schema import Notation

WHOLE = re.compile(r"(-?)([0-9]+)(?:\.0*)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
SIGNED_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
NUMERIC = frozenset(("number", "date", "time"))  # categories by the number that a text is
TRUE_WORDS = frozenset(("true", "false"))


def key_of(text: str, notation: Notation) -> str | None:
    """The key of a cell's text, None where it means a missing value.

    >>> [key_of(text, Notation()) for text in ("00501", "501.0", "TRUE", "yes", "NA", " ")]
    ['00501', '501', 'true', 'yes', 'NA', None]
    >>> key_of("f", Notation("truth")), key_of("1,200", Notation("number", grouping=","))
    ('false', '1200')
    """
    text = text.strip()
    if means_missing(text, notation, texts=notation.kind == "plain"):
        return None
    key = _key(text, notation)
    return None if notation.missing and key in missing_keys(notation) else key


@lru_cache(maxsize=256)
def missing_keys(notation: Notation) -> frozenset[str]:
    """The keys of what the user named as words for a missing value."""
    return frozenset(_key(word.strip(), notation) for word in notation.missing)


def _key(text: str, notation: Notation) -> str:
    if notation.kind in NUMERIC:
        return _key_of_notated(text, notation)
    if notation.kind == "truth":
        return TRUTHS.get(text.casefold(), text)
    if _JSON_NUMBER.fullmatch(text):
        return _key_of_digits(text)
    folded = text.casefold()
    return folded if folded in TRUE_WORDS else text


def key_of_number(number: float) -> str | None:
    """The key of a number of JSON or of a typed file, None for NaN.

    >>> key_of_number(9007199254740993), key_of_number(-0.0), key_of_number(1e-05)
    ('9007199254740993', '0', '0.00001')
    """
    if isinstance(number, int):
        return str(number)
    if math.isnan(number):
        return None
    if math.isinf(number):
        return repr(number)
    if number == math.floor(number):
        return str(int(number))
    return format(Decimal(repr(number)), "f")


def spell_key(texts: Sequence[str], notation: Notation) -> str:
    """How a category is written of which a file has these spellings: the shortest, then the first.

    Truth values are written as their key, and numbers that are written as everywhere.
    """
    usual = notation.kind == "number" and not (notation.grouping or notation.unit)
    if notation.kind == "truth" or (usual and notation.decimal == "."):
        return key_of(texts[0], notation) or ""
    return min(texts, key=lambda text: (len(text), text))


def rank_of(key: str, notation: Notation) -> tuple[bool, Decimal, str]:
    """By which categories are sorted: numbers by their value, texts by their letters."""
    number = notation.kind in NUMERIC and SIGNED_NUMBER.fullmatch(key) is not None
    return not number, Decimal(key) if number else Decimal(0), key


def places_of(categories: Sequence[str], notation: Notation) -> dict[str, int]:
    """From the key of each category to its place."""
    return {key_of(text, notation) or text: place for place, text in enumerate(categories)}


def _key_of_notated(text: str, notation: Notation) -> str:
    if WHOLE.fullmatch(text):
        return _key_of_digits(text)
    number = read_number(text, notation)
    if number is None:
        return text
    return key_of_number(number) or text


def _key_of_digits(text: str) -> str:
    """Of a number without exponent; digits of a whole one are exact."""
    match = WHOLE.fullmatch(text)
    if match is None:
        return key_of_number(float(text)) or text
    digits = match[2].lstrip("0") or "0"
    return digits if digits == "0" else match[1] + digits
