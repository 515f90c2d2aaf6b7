"""The cells of a column as numbers or categories, by the law that was found for it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.cells.categories import NUMERIC, WHOLE, key_of, rank_of, spell_key
from models.data.cells.judging import CODE
from models.data.cells.numbers import PLAIN_NUMBER, read_number
from models.data.cells.precision import merging_pair
from models.data.cells.texts import Law, Texts
from models.data.cells.words import means_missing
from models.versions.schema import Notation

Places = npt.NDArray[np.intp]
FLOAT64_WHOLE = 2.0**53  # up to here every whole number is a float64
LARGEST = float(np.finfo(np.float32).max)


def numbers_of(cells: Texts, notation: Notation) -> npt.NDArray[np.float64]:
    """The number of each different text, float64 `(K,)`; NaN where it is missing.

    Raises:
        DataError: texts that are no numbers in the column's notation, or beyond float32, or that
            float32 would merge.
    """
    readings = [read_number(text, notation) for text in cells.texts]
    odd = [place for place, number in enumerate(readings) if number is None]
    if odd:
        raise DataError(
            f"column {cells.column!r} holds numbers in training, but here {cells.name(odd)}"
        )
    numbers = np.array(readings, dtype=np.float64)
    large = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(large):
        raise DataError(
            f"column {cells.column!r} holds {cells.name(large.tolist())}; expected finite numbers "
            f"of at most {LARGEST:.3g} in size"
        )
    there = np.flatnonzero(~np.isnan(numbers)).tolist()
    exact: npt.NDArray[Any] = numbers[there]
    if len(there) and np.abs(exact).max() > FLOAT64_WHOLE:
        exact = np.array([_exact(cells.texts[p], numbers[p]) for p in there], dtype=object)
    texts = {value: cells.texts[p] for value, p in zip(exact.tolist(), there, strict=True)}
    check_merging(cells.column, exact, lambda value: texts[value])
    return numbers


def categories_of_texts(
    cells: Texts, notation: Notation
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """The place of each different text among the categories, `(K,)`, and the categories.

    Numbers are in rising order, texts in alphabetical order; NaN is the place of a missing one.
    """
    spellings: dict[str, list[str]] = {}
    keys = [key_of(text, notation) for text in cells.texts]
    for key, text in zip(keys, cells.texts, strict=True):
        if key is not None:
            spellings.setdefault(key, []).append(text)
    names = {key: spell_key(texts, notation) for key, texts in spellings.items()}
    number = notation.kind in NUMERIC
    order = sorted(names, key=lambda key: rank_of(key if number else names[key], notation))
    place_of = {key: place for place, key in enumerate(order)}
    places = [np.nan if key is None else place_of[key] for key in keys]
    return np.array(places, dtype=np.float32), tuple(names[key] for key in order)


def check_merging(column: str, values: npt.NDArray[Any], spell: Callable[[Any], str] = str) -> None:
    """Refuse numbers that float32 would make one though they differ. Raises DataError."""
    pair = merging_pair(values)
    if pair is None:
        return
    first, second = (value.item() if hasattr(value, "item") else value for value in pair)
    raise DataError(
        f"column {column!r}: {spell(first)} and {spell(second)} would be one number to a model, "
        "which computes in float32 (seven digits): subtract an origin from all (such as the least "
        "value), take each as a category by itself (--categorical), or leave the column out "
        "(--ignore)"
    )


def describe_law(cells: Texts, law: Law) -> str:
    """What the owner should know of how a column is read, empty for plain numbers and texts."""
    notation, name = law.notation, f"column {cells.column!r}"
    if notation.kind == "code":
        code = next((text for text in cells.texts if CODE.fullmatch(text)), "")
        return f"{name}: codes such as {code!r} are categories, for they begin with 0"
    if law.kind == "categorical":
        return ""
    for text in cells.texts:
        number = read_number(text, notation)
        if number is not None and not math.isnan(number) and not PLAIN_NUMBER.fullmatch(text):
            return f"{name}: {text!r} is read as {number:.15g}{_UNITS.get(notation.kind, '')}"
    return ""


def missing_words(cells: Texts, law: Law) -> tuple[str, ...]:
    """The words of a column that are read as missing values."""
    texts = law.kind == "categorical" and law.notation.kind == "plain"
    return tuple(t for t in cells.texts if means_missing(t, law.notation, texts=texts))


def _exact(text: str, number: float) -> int | float:
    """Every digit of a whole number."""
    match = WHOLE.fullmatch(text)
    return int(match[1] + match[2]) if match else number


_UNITS: Mapping[str, str] = {"date": " days since 1970-01-01", "time": " seconds"}
