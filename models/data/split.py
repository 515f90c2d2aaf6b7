"""Splitting by hash: what stands where follows from the rows alone, never from their order.

Rows with the same bytes form a group, and a group never stands on two sides, whatever its labels.
Groups are sorted by hash within each class and cut by rank, so every part has every class in its
proportion. When rows are added, those near a cut may change sides; an equal source never does.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.records import Rows
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

Shares = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

TRAIN_SHARE, CALIBRATION_SHARE = 0.6, 0.2
MOST_CALIBRATION = 5000  # beside a test part that came with the data
FEWEST_OF_CLASS = 5  # distinct inputs, so that each part gets one


def hash_shares(x: InputArray) -> Shares:
    """A number in [0, 1) for every row of `x` `(N, ...)`, from the sha256 of its bytes alone.

    Equal rows get equal numbers, so duplicates never stand on both sides of a split.
    """
    if not x.size:
        return np.zeros(len(x))
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    words = (int.from_bytes(hashlib.sha256(row.data).digest()[:6], "big") for row in rows)
    return np.fromiter(words, dtype=np.float64, count=len(rows)) / 2.0**48


@dataclass(frozen=True)
class Division:
    """Places of the rows of each part, each in hash order; `dropped` stand in the test part."""

    train: Index
    calibration: Index
    test: Index
    dropped: Index


def split(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """Train, calibration and test rows (60 : 20 : 20 of every class), each in hash order.

    Hash order is a shuffle that does not depend on the order of the source.
    """
    parts = thirds(hash_shares(rows.x), rows.y)
    return rows.take(parts.train), rows.take(parts.calibration), rows.take(parts.test)


def thirds(shares: Shares, y: IntArray) -> Division:
    """Divide rows 60 : 20 : 20 by their hash shares `(N,)`, in every class of `y` `(N,)`."""
    groups = _Groups(shares, y)
    side = np.searchsorted([TRAIN_SHARE, TRAIN_SHARE + CALIBRATION_SHARE], groups.ranks(), "right")
    train, calibration, test = (
        _in_hash_order(shares, np.flatnonzero(side[groups.of_row] == part)) for part in range(3)
    )
    return Division(train, calibration, test, dropped=np.zeros(0, dtype=np.intp))


def beside_test(shares: Shares, y: IntArray, test_shares: Shares) -> Division:
    """Divide rows into train and calibration beside a test part that came with the data.

    Rows that stand in the test part, too, are dropped. Calibration is a fifth of the rest of every
    class, at most 5000 rows in all. `test` holds places in the test part.
    """
    repeated = np.isin(shares, test_shares)
    kept = np.flatnonzero(~repeated)
    groups = _Groups(shares[kept], y[kept])
    share = min(CALIBRATION_SHARE, MOST_CALIBRATION / max(len(kept), 1))
    held = groups.ranks() >= 1 - share
    # Repeated rows can make it more than the limit: the last groups by hash go back to training.
    held &= np.cumsum(np.where(held, groups.sizes, 0)) <= MOST_CALIBRATION
    side = held[groups.of_row]
    return Division(
        train=_in_hash_order(shares, kept[~side]),
        calibration=_in_hash_order(shares, kept[side]),
        test=_in_hash_order(test_shares, np.arange(len(test_shares))),
        dropped=np.flatnonzero(repeated),
    )


def check_counts(shares: Shares, y: IntArray, classes: tuple[str, ...], what: str) -> None:
    """Refuse one class only, and classes with too few distinct inputs to stand in every part.

    Raises:
        DataError: names the class and its count.
    """
    if len(classes) < 2:
        raise DataError(
            f"{what}: every row has the label {classes[0]!r}; a classifier needs two or more"
        )
    groups = _Groups(shares, y)
    counts = np.bincount(groups.label, minlength=len(classes))
    few = np.flatnonzero(counts < FEWEST_OF_CLASS)
    if len(few) == 0:
        return
    first, rows = int(few[0]), int(np.count_nonzero(y == few[0]))
    told = f"{rows} rows" + ("" if rows == counts[first] else f" ({counts[first]} different ones)")
    others = f", and {len(few) - 1} more classes like it" * (len(few) > 1)
    hint = (
        f" {len(classes)} labels in {len(y)} rows look like identifiers or numbers to predict: "
        "name another label column with --label."
    ) * (len(classes) > 50 and len(few) > len(classes) / 2)
    raise DataError(
        f"{what}: class {classes[first]!r} has {told}{others}; each class needs at least "
        f"{FEWEST_OF_CLASS} different rows to be trained, calibrated and tested on: add rows, or "
        f"leave the class out.{hint}"
    )


def reorder(x: InputArray, order: Index) -> None:
    """`x[:] = x[order]` for a permutation `order`, in place: no second copy of the rows."""
    done = np.zeros(len(order), dtype=np.bool_)
    for start in range(len(order)):
        if done[start] or order[start] == start:
            continue
        held, place = x[start].copy(), start
        while (origin := int(order[place])) != start:
            x[place] = x[origin]
            done[place], place = True, origin
        x[place] = held
        done[place] = True


class _Groups:
    """Rows of the same bytes, in the order of their hash; a group's class is its least label."""

    def __init__(self, shares: Shares, y: IntArray) -> None:
        unique, of_row, sizes = np.unique(shares, return_inverse=True, return_counts=True)
        self.of_row, self.sizes = of_row, sizes
        label = np.full(len(unique), np.iinfo(np.int64).max)
        np.minimum.at(label, of_row, y.astype(np.int64))
        self.label = label

    def ranks(self) -> Shares:
        """The place of each group among those of its class, (i + 1/2) / n in (0, 1)."""
        _, stratum, counts = np.unique(self.label, return_inverse=True, return_counts=True)
        order = np.argsort(stratum, kind="stable")  # groups are in hash order already
        first = np.cumsum(counts) - counts
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order)) - first[stratum[order]] + 0.5
        scaled: Shares = ranks / counts[stratum]
        return scaled


def _in_hash_order(shares: Shares, places: Index) -> Index:
    ordered: Index = places[np.argsort(shares[places], kind="stable")]
    return ordered
