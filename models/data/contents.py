"""Which rows are equal, and how rows are dealt: by content, label and occurrence number.

Three equal rows with one label are three rows, and each goes its own way. So a part that is held
out has as many equals in training as a row of live traffic has: it is drawn by the law of the
traffic. Had equal rows to stay together, a held-out row would never have an equal in training, and
clean traffic of a table with repeats would be drift.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

Shares = npt.NDArray[np.float64]
Contents = npt.NDArray[np.uint64]

RARE_REPEATS = 0.01  # share of rows with an equal, up to which equal rows are the same thing twice
EXCESS = 0.05  # equals between two parts that repeats inside the first one do not explain
ERRORS = 3.0  # standard errors that are added to it


def content_hashes(x: InputArray) -> Contents:
    """A number for the bytes of every row of `x` `(N, ...)`: equal where the rows are equal.

    The first 64 bits of sha256; among a million rows two different ones meet in 1 of 37 million
    cases.
    """
    if not x.size:
        return np.zeros(len(x), dtype=np.uint64)
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    words = (int.from_bytes(hashlib.sha256(row.data).digest()[:8], "little") for row in rows)
    return np.fromiter(words, dtype=np.uint64, count=len(rows))


def text_hashes(texts: tuple[str, ...]) -> Contents:
    """A number for every text, the same in every data set."""
    words = (hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.array([int.from_bytes(word, "little") for word in words], dtype=np.uint64)


def occurrences(contents: Contents, labels: IntArray) -> npt.NDArray[np.int64]:
    """How many earlier rows have the same content and label, `(N,)`.

    >>> occurrences(np.array([7, 7, 8, 7], np.uint64), np.array([0, 0, 0, 1]))
    array([0, 1, 0, 0])
    """
    assert contents.shape == labels.shape
    order = np.lexsort((labels, contents))  # stable: equal rows stay in their order
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = np.diff(contents[order]) != 0
    first[1:] |= np.diff(labels[order]) != 0
    places = np.arange(len(order))
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return numbers


def deal(contents: Contents, labels: IntArray) -> Shares:
    """A number in [0, 1) for every row: sha256 of its content, its label and its occurrence number.

    The numbers of a source do not depend on the order of its rows, and those of its rows stay when
    others are appended. Given the rows they are independent and uniform, as far as sha256 is.

    Args:
        contents: `(N,)` of `content_hashes`.
        labels: `(N,)` integers that mean the same in every data set (not places among classes that
            another row may move).
    """
    words = np.empty((len(contents), 3), dtype=np.uint64)
    words[:, 0], words[:, 1] = contents, labels.astype(np.uint64)
    words[:, 2] = occurrences(contents, labels)
    rows = words.view(np.uint8)
    digests = (int.from_bytes(hashlib.sha256(row.data).digest()[:6], "big") for row in rows)
    return np.fromiter(digests, dtype=np.float64, count=len(rows)) / 2.0**48


def hash_shares(x: InputArray, y: IntArray | None = None) -> Shares:
    """`deal` of the rows `x` `(N, ...)` with the labels `y` `(N,)`; without labels by the rows."""
    labels = np.zeros(len(x), dtype=np.int64) if y is None else y
    return deal(content_hashes(x), labels)


def repeated_share(contents: Contents) -> float:
    """Share of the rows that have an equal among the others; 0 of no rows.

    >>> repeated_share(np.array([7, 7, 8, 9], np.uint64))
    0.5
    """
    _, places, counts = np.unique(contents, return_inverse=True, return_counts=True)
    return float((counts[places] > 1).mean()) if len(contents) else 0.0


def are_the_same(own: Contents, others: Contents) -> bool:
    """Whether rows of `others` that have an equal in `own` are rows of `own` seen again.

    Where two rows of the first part are hardly ever equal (pictures, measurements), an equal row is
    the same row. Where repeats are natural (a survey with few questions), a fresh row of the same
    law has an equal in the first part as often as one of its own rows has among the others; only
    what exceeds that is a copy.

    Args:
        own: `(N,)` contents of the first part.
        others: `(M,)` contents of the second part.
    """
    natural = repeated_share(own)
    if natural <= RARE_REPEATS or not len(others):
        return True
    met = float(np.isin(others, own).mean())
    error = math.sqrt(natural * (1 - natural) * (1 / len(own) + 1 / len(others)))
    return met > natural + EXCESS + ERRORS * error


def unseen(own: Contents, others: Contents) -> npt.NDArray[np.bool_]:
    """`(M,)`: which of `others` have no equal in `own`."""
    return ~np.isin(others, own)
