"""How a model spells the categories of a column: as texts, as numbers, or as one column for each.

A category travels as its place among the column's categories. A spelling is the table that gives
the model its own word for every place, with two more rows: for a category that the data do not
have, and for a missing value. Likelier spellings come first; `choose` tries them on labelled rows.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.versions.schema import Column
from models.wrapping.feeding.vocabulary import Category
from models.wrapping.graphs.edit import Array

UNSEEN = "(unseen)"  # the text of a category that the data do not have
UNSEEN_NUMBER = -1.0
MISSING = "nan"  # the text of a missing category, as NumPy and pandas write it
MISSING_WORDS = (MISSING, "NaN", "None", "", "<NA>", "NA", "N/A", "null", "missing", "Missing", "?")
EXAMPLES = 2
PAIRS = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("0", "1"))  # no, then yes
AS_IN_FILE = "as in the file"
OF_MODEL = "as the model has them"
AS_NUMBERS = "as numbers"


@dataclass(frozen=True, eq=False)
class Spelling:
    """`values[place]` is what the model gets: `(K + 2, W)` texts or float32, W columns wide."""

    name: str
    values: Array

    @property
    def width(self) -> int:
        """How many columns of the model one column of the data becomes."""
        return int(self.values.shape[1])

    def describe(self, column: Column) -> str:
        """Its name and, where a category becomes one word, two examples.

        >>> zips = Column("zip", "categorical", categories=("00501", "10001"))
        >>> text_spellings(zips, ["501", "10001"])[0].describe(zips)
        "as the model has them ('00501' as '501')"
        """
        if self.width > 1:
            return self.name
        pairs = zip(column.categories, self.values[:-2, 0].tolist(), strict=True)
        changed = [(text, word) for text, word in pairs if text != word]
        words = [word if isinstance(word, str) else float(word) for _, word in changed]
        examples = ", ".join(
            f"{text!r} as {word!r}" if isinstance(word, str) else f"{text!r} as {word:g}"
            for (text, _), word in zip(changed[:EXAMPLES], words, strict=False)
        )
        return f"{self.name} ({examples})"

    def look_up(self, column: Array) -> Array:
        """The model's columns `(N, W)` for places `(N,)`; -1 is unseen, NaN is missing."""
        last = len(self.values) - 1
        missing = np.isnan(column)
        places = np.where(missing, last, np.nan_to_num(column)).astype(np.int64)
        looked_up: Array = self.values[np.where(places < 0, last - 1, places)]
        return looked_up


def text_spellings(column: Column, known: Sequence[Category]) -> list[Spelling]:
    """Spellings for a model that takes texts.

    Args:
        column: with the categories of the data.
        known: the categories that the model's graph holds for this column; empty if it holds none.

    >>> zips = Column("zip", "categorical", categories=("00501", "10001"))
    >>> [s.values[:2, 0].tolist() for s in text_spellings(zips, ["501", "10001"])][0]
    ['501', '10001']
    """
    texts = [word if isinstance(word, str) else _write(word) for word in known]
    missing = next((word for word in MISSING_WORDS if word in texts), MISSING)
    if texts:
        matched = [match(category, texts, column.categories) for category in column.categories]
        spelt = [text if word is None else word for text, word in zip(
            column.categories, matched, strict=True)]  # fmt: skip
        name = AS_IN_FILE if tuple(spelt) == column.categories else OF_MODEL
        return _without_repeats([_texts(name, spelt, missing), _as_given(column, missing)])
    forms = [_texts(name, [form(text) for text in column.categories], missing)
             for name, form in FORMS.items()]  # fmt: skip
    return _without_repeats([_as_given(column, missing), *forms])


def number_spellings(column: Column, known: Sequence[Category]) -> list[Spelling]:
    """Spellings for a model that takes numbers.

    >>> sizes = Column("size", "categorical", categories=("10", "20"))
    >>> [(s.name, s.values[:2, 0].tolist()) for s in number_spellings(sizes, [])][0]
    ('as numbers', [10.0, 20.0])
    """
    categories, spellings = column.categories, []
    numbers = [_number(text) for text in categories]
    there = [number for number in numbers if number is not None]
    if len(there) == len(categories):
        spellings.append(_numbers(AS_NUMBERS, there))
    no_or_yes = [_no_or_yes(text, categories) for text in categories]
    if all(value is not None for value in no_or_yes):
        spellings.append(_numbers("no as 0, yes as 1", [float(value or 0) for value in no_or_yes]))
    rank = {text: float(place) for place, text in enumerate(sorted(categories))}
    spellings.append(_numbers("by alphabet, from 0", [rank[text] for text in categories]))
    spellings.append(_numbers("in order, from 0", [float(k) for k in range(len(categories))]))
    spellings.append(_numbers("by alphabet, from 1", [rank[text] + 1 for text in categories]))
    if len(categories) == 2:
        spellings.append(_numbers("by alphabet, backwards", [1 - rank[t] for t in categories]))
    values = {float(word) for word in known if not isinstance(word, str)}
    if values:  # those that use the model's own numbers come first; the sort is stable
        spellings.sort(key=lambda s: -len(values.intersection(s.values[:-2, 0].tolist())))
    return _without_repeats(spellings)


def one_hot(column: Column, *, drop_first: bool) -> Spelling:
    """A column of 0 and 1 for each category, as `pandas.get_dummies` makes them.

    Args:
        column: with the categories of the data.
        drop_first: whether the first category has no column.
    """
    order = sorted(column.categories, key=_by_number_or_text)[int(drop_first) :]
    values = np.zeros((len(column.categories) + 2, len(order)), np.float32)
    for place, text in enumerate(column.categories):
        if text in order:
            values[place, order.index(text)] = 1
    return Spelling("one column each" + ", the first left out" * drop_first, values)


def match(text: str, known: Sequence[str], categories: Sequence[str]) -> str | None:
    """The model's word for a category of the data; None if no word, or more than one, is alike.

    Args:
        text: a category as it stands in the data.
        known: the model's words.
        categories: all categories of the column, which say whether it is one of yes and no.

    >>> match("00501", ["501", "10001"], ["00501"]), match("Bonn", [" Bonn"], ["Bonn"])
    ('501', ' Bonn')
    >>> match("true", ["0", "1"], ["false", "true"]), match("x", ["a"], ["x"])
    ('1', None)
    """
    for alike in _ways_to_be_alike(categories):
        wanted = alike(text)
        words = [word for word in known if alike(word) == wanted] if wanted is not None else []
        if len(words) == 1:
            return words[0]
    return None


def _ways_to_be_alike(
    categories: Sequence[str],
) -> Iterator[Callable[[str], object]]:
    """Keys under which two texts are the same category, the strictest first."""
    yield lambda text: text
    yield lambda text: text.strip()
    yield lambda text: text.strip().casefold()
    yield _number
    if all(_no_or_yes(text, categories) is not None for text in categories):
        yield lambda text: _no_or_yes(text)
    yield lambda text: re.sub(r"[^0-9a-z]+", " ", text.casefold()).strip() or None


def _no_or_yes(text: str, categories: Iterable[str] = ()) -> int | None:
    """0 for no and false, 1 for yes and true; None for others, or if `categories` mix pairs."""
    number = _number(text)
    word = text.strip().casefold() if number is None else _write(number)
    for pair in PAIRS:
        if word in pair and {c.strip().casefold() for c in categories} <= set(pair):
            return pair.index(word)
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _write(number: float) -> str:
    """A number as a category is written: without a point if it is whole."""
    return str(int(number)) if number.is_integer() else repr(number)


def _by_number_or_text(text: str) -> tuple[int, float, str]:
    number = _number(text)
    return (1, 0.0, text) if number is None else (0, number, text)


def _without_zeros(text: str) -> str:
    number = _number(text)
    return text if number is None or "." in text else _write(number)


def _as_float(text: str) -> str:
    number = _number(text)
    return text if number is None else str(number)


def _as_digit(text: str) -> str:
    value = _no_or_yes(text)
    return text if value is None else str(value)


# What models may have been fitted on where the graph does not say, besides what the file holds.
FORMS: dict[str, Callable[[str], str]] = {
    "without leading zeros": _without_zeros,
    "with a decimal point": _as_float,
    "with a capital letter": str.capitalize,
    "in capital letters": str.upper,
    "in small letters": str.lower,
    "with a space before": lambda text: f" {text}",
    "no as 0, yes as 1": _as_digit,
}


def _as_given(column: Column, missing: str) -> Spelling:
    return _texts(AS_IN_FILE, list(column.categories), missing)


def _texts(name: str, words: Sequence[str], missing: str) -> Spelling:
    return Spelling(name, np.array([*words, UNSEEN, missing], dtype=object)[:, None])


def _numbers(name: str, values: Sequence[float]) -> Spelling:
    return Spelling(name, np.array([*values, UNSEEN_NUMBER, np.nan], dtype=np.float32)[:, None])


def _without_repeats(spellings: Sequence[Spelling]) -> list[Spelling]:
    """The first of those that give the model the same words."""
    different: dict[tuple[object, ...], Spelling] = {}
    for spelling in spellings:
        different.setdefault(tuple(spelling.values[:-2].ravel().tolist()), spelling)
    return list(different.values())
