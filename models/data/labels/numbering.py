"""Labels as they stand in a source become numbered classes, and classes with few rows may go."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.data.faults import Faults
from models.data.raw import Raw, RawPart, Values, count, list_rows, quote
from models.statistics.arrays import IntArray

Mask = npt.NDArray[np.bool_]

MISSING = "the label is missing; fill it, or leave the row out"
FRACTION = (
    "label {!r}: expected a whole number or a text; numbers to predict need ranges with names first"
)
WHOLE = re.compile(r"-?(0|[1-9][0-9]*)(\.0*)?")  # a whole number; `01` is a code, no number
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
NOTHING = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>"})  # among numbers
LOGICAL = {"false": "false", "true": "true"}
LARGEST = 2.0**53  # beyond it a floating-point number is no exact whole number


@dataclass(frozen=True)
class Labels:
    """Labels as int64 `(N,)` places in `classes`, of the training and of the test part."""

    train: IntArray
    test: IntArray | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Spelled:
    """Labels of a part: the distinct ones as texts in their order, every row's place among them.

    A row without a label that can be used has the place -1.
    """

    texts: tuple[str, ...]
    places: IntArray


def number_labels(raw: Raw) -> Labels:
    """Number the classes of `raw`.

    Classes are those that training has: in the order of `raw.names`, else whole numbers in rising
    order and texts in alphabetical order. Spellings of one whole number (`1`, `1.0`) are one class,
    and so are those of true and false; a code such as `01` is a text.

    Raises:
        DataError: labels are missing, no whole numbers, beyond the names, not one-hot, or only in
            the test part; names the rows.
    """
    faults = Faults(raw.what)
    labels = _number(raw, faults)
    faults.check()
    return labels


def label_rows(raw: Raw, faults: Faults) -> tuple[Raw, Labels]:
    """The rows whose label can be used, and their labels; `faults` gets what is wrong with others.

    So what is wrong with the rest of a source can be told in the same run.
    """
    labels = _number(raw, faults)
    train = np.flatnonzero(labels.train >= 0)
    if len(train) < len(labels.train):
        raw = replace(raw, train=raw.train.take(train))
    y_test = labels.test
    if raw.test is not None and y_test is not None and (y_test < 0).any():
        raw = replace(raw, test=raw.test.take(np.flatnonzero(y_test >= 0)))
        y_test = y_test[y_test >= 0]
    return raw, replace(labels, train=labels.train[train], test=y_test)


def _number(raw: Raw, faults: Faults) -> Labels:
    """Numbered labels, -1 for those that cannot be used, which `faults` name."""
    train = _spell(raw.train, raw.names, faults)
    used = np.bincount(train.places[train.places >= 0], minlength=len(train.texts)) > 0
    classes = tuple(text for text, there in zip(train.texts, used, strict=True) if there)
    y = _renumber(used, train.places)
    y_test = None
    if raw.test is not None:
        test = _spell(raw.test, raw.names, faults)
        known = {name: place for place, name in enumerate(classes)}
        lookup = np.array([known.get(text, -1) for text in (*test.texts, "")], dtype=np.int64)
        y_test = lookup[test.places]
        reason = f"does not occur in the training part; expected one of {quote(classes)}"
        for place in np.unique(test.places[(test.places >= 0) & (y_test < 0)]):
            _note(raw.test, test.places == place, f"label {test.texts[place]!r} {reason}", faults)
    return Labels(y, y_test, classes, _notes(classes, raw.names))


def _renumber(used: Mask, places: IntArray) -> IntArray:
    """Places among all texts as places among those that are used; -1 stays."""
    numbers: IntArray = np.where(used, np.cumsum(used) - 1, -1).astype(np.int64)
    return np.append(numbers, -1)[places]


def drop_rare(raw: Raw, fewest: int) -> Raw:
    """`raw` without the classes that have fewer than `fewest` rows of training, with a note.

    Rows whose label cannot be used stay, for `number_labels` to name them.
    """
    train = _spell(raw.train, raw.names, Faults(raw.what))
    counts = np.bincount(train.places[train.places >= 0], minlength=len(train.texts))
    rare = [text for text, n in zip(train.texts, counts, strict=True) if 0 < n < fewest]
    if not rare:
        return raw
    left_out = f"classes with fewer than {fewest} rows were left out: {quote(rare, 20)}"
    rows = int(counts[(counts > 0) & (counts < fewest)].sum())
    notes = (*raw.notes, f"{left_out} ({count(rows, 'row')})")
    test = None if raw.test is None else _without(raw.test, rare, raw.names)
    return replace(raw, train=_without(raw.train, rare, raw.names), test=test, notes=notes)


def _without(part: RawPart, classes: Sequence[str], names: tuple[str, ...]) -> RawPart:
    spelled = _spell(part, names, Faults(""))
    drop = np.array([*(text in classes for text in spelled.texts), False])
    return part.take(np.flatnonzero(~drop[spelled.places]))


def _spell(part: RawPart, names: tuple[str, ...], faults: Faults) -> _Spelled:
    """The labels of a part as texts, and what is wrong with them."""
    values = part.labels
    if values.ndim == 2:
        return _from_one_hot(part, names, faults)
    if values.dtype == object or values.dtype.kind == "U":
        return _from_texts(part, names, faults)
    if values.dtype.kind == "b":
        return _Spelled(("false", "true"), values.astype(np.int64))
    return _from_numbers(part, values, names, faults)


def _from_numbers(
    part: RawPart, values: Values, names: tuple[str, ...], faults: Faults
) -> _Spelled:
    wrong = np.zeros(len(values), dtype=np.bool_)
    if values.dtype.kind == "f":
        wrong = _note(part, np.isnan(values), MISSING, faults)
        split = ~wrong & ((values != np.floor(values)) | np.isinf(values))
        wrong |= _note(part, split, FRACTION, faults)
        large = ~wrong & (np.abs(values) >= LARGEST)
        wrong |= _note(part, large, "label {!r} is too large to be a class", faults)
        values = np.where(wrong, 0, values).astype(np.int64)
    if names:
        expected = f"expected 0 to {len(names) - 1}, for there are {len(names)} class names"
        beyond = ~wrong & ((values < 0) | (values >= len(names)))
        wrong |= _note(part, beyond, "label {!r} is out of range; " + expected, faults)
        return _Spelled(names, np.where(wrong, -1, values).astype(np.int64))
    unique, places = np.unique(values[~wrong], return_inverse=True)
    every = np.full(len(values), -1, dtype=np.int64)
    every[~wrong] = places
    return _Spelled(tuple(str(int(value)) for value in unique), every)


def _from_texts(part: RawPart, names: tuple[str, ...], faults: Faults) -> _Spelled:
    cells = ["" if value is None else str(value).strip() for value in part.labels.tolist()]
    distinct = sorted(set(cells))
    words = [text for text in distinct if text.lower() not in NOTHING]
    numbers = bool(words) and all(_is_whole(text) for text in words)
    if numbers or (words and all(NUMBER.fullmatch(t) for t in words) and _split(words)):
        values = [float("nan") if c.lower() in NOTHING else _number_of(c) for c in cells]
        return _from_numbers(part, np.array(values), names, faults)
    spelled = {text: text for text in distinct}
    if words and all(text.lower() in LOGICAL for text in words):
        spelled = {text: LOGICAL.get(text.lower(), "") for text in distinct}
    elif not words:
        spelled = dict.fromkeys(distinct, "")
    texts = tuple(sorted({text for text in spelled.values() if text}))
    order = {text: place for place, text in enumerate(texts)}
    lookup = {text: order.get(name, -1) for text, name in spelled.items()}
    places = np.array([lookup[cell] for cell in cells], dtype=np.int64)
    _note(part, places < 0, MISSING, faults)
    return _Spelled(texts, places)


def _from_one_hot(part: RawPart, names: tuple[str, ...], faults: Faults) -> _Spelled:
    """The place of the single 1 in every row of `(N, C)`."""
    values, width = part.labels, part.labels.shape[1]
    if names and len(names) != width:
        faults.add(f"{part.where(0)}: labels of {width} columns, but {len(names)} class names")
        names = ()
    number = values.dtype.kind in "iufb"
    ones = (values == 1) if number else np.zeros(values.shape, dtype=np.bool_)
    rest = (values == 0) if number else np.zeros(values.shape, dtype=np.bool_)
    wrong = (ones.sum(axis=1) != 1) | (rest.sum(axis=1) != width - 1)
    reason = "label {!r} is not one-hot; expected a single 1 beside zeros, or one label a row"
    _note(part, wrong, reason, faults)
    texts = names or tuple(str(place) for place in range(width))
    return _Spelled(texts, np.where(wrong, -1, ones.argmax(axis=1)).astype(np.int64))


def _is_whole(text: str) -> bool:
    return WHOLE.fullmatch(text) is not None and abs(float(text)) < LARGEST


def _split(words: Sequence[str]) -> bool:
    """Whether a number among `words` has a part behind the point: something to predict as such."""
    return any(float(text) != np.floor(float(text)) for text in words)


def _number_of(text: str) -> int | float:
    return int(text.partition(".")[0]) if WHOLE.fullmatch(text) else float(text)


def _note(part: RawPart, wrong: Mask, sentence: str, faults: Faults) -> Mask:
    """Add a fault for the rows that are wrong: the first by name, how many more there are."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        value = part.labels[rows[0] : rows[0] + 1].tolist()[0]
        others = [part.where(int(row)).rpartition(" ")[2] for row in rows[1:]]
        faults.add(f"{part.where(int(rows[0]))}: {sentence.format(value)}{list_rows(others)}")
    return wrong


def _notes(classes: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """What the owner of the labels should know of the classes."""
    notes, alike = [], dict[str, list[str]]()
    for name in () if names else classes:
        key = " ".join(name.casefold().split())
        alike.setdefault(key.lstrip("0") or key, []).append(name)
    for group in alike.values():
        if len(group) > 1:
            notes.append(
                f"labels {quote(group)} are {len(group)} classes, for they are spelled differently"
            )
    words = [name for name in classes if name.lower() in NOTHING and not names]
    if words:
        notes.append(f"label {quote(words)} was taken as a class, not as a missing label")
    if "-1" in classes and len(classes) > 2 and not names:
        notes.append("label -1 was taken as a class; leave rows out that have no label")
    return tuple(notes)
