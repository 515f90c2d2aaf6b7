"""Splitting by hash: what stands where follows from the rows alone, never from their order.

Every row has a share in [0, 1) that follows from its content, its label and its occurrence number
(`models.data.contents`). Rows are sorted by their share within each class and cut by rank, so every
part has every class in its proportion. When rows are appended, those near a cut may change sides;
an equal source never does. Rows of a group have one share in common and stand in one part.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.contents import (
    Contents,
    Shares,
    are_the_same,
    content_hashes,
    hash_shares,
)
from models.data.records import Rows
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray

Index = npt.NDArray[np.intp]

TRAIN_SHARE, CALIBRATION_SHARE = 0.6, 0.2
MOST_CALIBRATION = 5000  # beside a test part that came with the data
FEWEST_OF_CLASS = 5  # rows (or groups), so that each part gets one
MOST_NAMED = 100  # classes in one message


@dataclass(frozen=True)
class Division:
    """Places of the rows of each part, each in hash order; `dropped` stand in the test part."""

    train: Index
    calibration: Index
    test: Index
    dropped: Index


@dataclass(frozen=True)
class Dealt:
    """What decides where the rows of a part go, each `(N,)`.

    `units` are equal for rows that stay together: the shares themselves, or those of the groups.
    """

    contents: Contents
    shares: Shares
    units: Shares

    @classmethod
    def of(cls, rows: Rows) -> "Dealt":
        """Every row for itself."""
        shares = hash_shares(rows.x, rows.y)
        return cls(content_hashes(rows.x), shares, shares)


def split(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """Train, calibration and test rows (60 : 20 : 20 of every class), each in hash order.

    Hash order is a shuffle that does not depend on the order of the source.
    """
    parts = thirds(Dealt.of(rows), rows.y)
    return rows.take(parts.train), rows.take(parts.calibration), rows.take(parts.test)


def thirds(dealt: Dealt, y: IntArray) -> Division:
    """Divide rows 60 : 20 : 20 by their shares, in every class of `y` `(N,)`."""
    units = _Units(dealt.units, y)
    side = np.searchsorted([TRAIN_SHARE, TRAIN_SHARE + CALIBRATION_SHARE], units.ranks(), "right")
    train, calibration, test = (
        _in_hash_order(dealt, np.flatnonzero(side[units.of_row] == part)) for part in range(3)
    )
    return Division(train, calibration, test, dropped=np.zeros(0, dtype=np.intp))


def beside_test(dealt: Dealt, y: IntArray, test: Dealt) -> Division:
    """Divide rows into train and calibration beside a test part that came with the data.

    Rows that stand in the test part, too, are dropped where they are the same rows
    (`contents.are_the_same`); where repeats are natural they stay, for training without them would
    follow another law than the traffic. Groups of the test part are dropped in any case.
    Calibration is a fifth of the rest of every class, at most 5000 rows in all.

    Args:
        dealt: of the rows to divide.
        y: `(N,)` their labels.
        test: of the test part; `Division.test` holds places in it.
    """
    repeated = np.zeros(len(y), dtype=np.bool_)
    if are_the_same(dealt.contents, test.contents):
        repeated |= np.isin(dealt.contents, test.contents)
    if dealt.units is not dealt.shares:
        repeated |= np.isin(dealt.units, test.units)
    rest = np.flatnonzero(~repeated)
    units = _Units(dealt.units[rest], y[rest])
    share = min(CALIBRATION_SHARE, MOST_CALIBRATION / max(len(rest), 1))
    held = units.ranks() >= 1 - share
    # Rounding and large groups can make it more than the limit: the last ones stay in training.
    held &= np.cumsum(np.where(held, units.sizes, 0)) <= MOST_CALIBRATION
    side = held[units.of_row]
    return Division(
        train=_in_hash_order(dealt, rest[~side]),
        calibration=_in_hash_order(dealt, rest[side]),
        test=_in_hash_order(test, np.arange(len(test.shares))),
        dropped=np.flatnonzero(repeated),
    )


def check_counts(
    y: IntArray, classes: tuple[str, ...], what: str, units: Shares | None = None
) -> None:
    """Refuse one class only, and classes with too few rows to stand in every part.

    Args:
        y: `(N,)` labels, places in `classes`.
        classes: names of the classes.
        what: the data, for the message.
        units: `(N,)` of groups, which are counted instead of rows; None: rows are counted.

    Raises:
        DataError: names every such class and its count.
    """
    if len(classes) < 2:
        raise DataError(
            f"{what}: every row has the label {classes[0]!r}; a classifier needs two or more"
        )
    each, counts = "row", np.bincount(y, minlength=len(classes))
    if units is not None:
        _, unit = np.unique(units, return_inverse=True)
        each = "group"
        counts = np.bincount(_pairs(unit, y, len(classes))[1], minlength=len(classes))
    few = np.flatnonzero(counts < FEWEST_OF_CLASS)
    if len(few) == 0:
        return
    hint = (
        f" {len(classes)} labels in {len(y)} rows look like identifiers or numbers to predict: "
        "name another label column with --label."
    ) * (len(classes) > 50 and len(few) > len(classes) / 2)
    it = "the class" if len(few) == 1 else "these classes"
    raise DataError(
        f"{what}: {_name_counts(few, counts, classes, each)}; each class needs at least "
        f"{FEWEST_OF_CLASS} {each}s to be trained, calibrated and tested on: add rows, or leave "
        f"{it} out with --drop-rare.{hint}"
    )


def check_parts(division: Division, y: IntArray, classes: tuple[str, ...], what: str) -> None:
    """Refuse groups that leave a part without a class. Raises DataError with every class."""
    parts = {"training": division.train, "calibration": division.calibration}
    sentences = []
    for part, places in parts.items():
        counts = np.bincount(y[places], minlength=len(classes))
        absent = [repr(classes[k]) for k in np.flatnonzero(counts == 0)[:MOST_NAMED]]
        if absent:
            sentences.append(f"no row of {', '.join(absent)} is left for {part}")
    if sentences:
        raise DataError(
            f"{what}: {'; '.join(sentences)}, for rows of a group stand in one part; give more "
            "groups with these classes, leave the classes out, or leave out --group"
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


class _Units:
    """Rows that stay together, in the order of their share.

    The class of a unit is, of its labels, the one that the fewest units have: a rare class is dealt
    first, so that every part gets some of it.
    """

    def __init__(self, shares: Shares, y: IntArray) -> None:
        unique, of_row, sizes = np.unique(shares, return_inverse=True, return_counts=True)
        self.of_row, self.sizes = of_row, sizes
        labels, place = np.unique(y, return_inverse=True)
        unit, label = _pairs(of_row, place, len(labels))
        counts = np.bincount(label, minlength=len(labels))
        order = np.empty(len(labels), dtype=np.int64)
        order[np.argsort(counts, kind="stable")] = np.arange(len(labels))
        self.stratum = np.full(len(unique), np.iinfo(np.int64).max)
        np.minimum.at(self.stratum, unit, order[label])

    def ranks(self) -> Shares:
        """The place of each unit among those of its class, (i + 1/2) / n in (0, 1)."""
        _, stratum, counts = np.unique(self.stratum, return_inverse=True, return_counts=True)
        order = np.argsort(stratum, kind="stable")  # units are in the order of their share already
        first = np.cumsum(counts) - counts
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order)) - first[stratum[order]] + 0.5
        scaled: Shares = ranks / counts[stratum]
        return scaled


def _pairs(unit: Index, label: IntArray, count: int) -> tuple[Index, Index]:
    """The different pairs of a unit and one of `count` labels, as two arrays."""
    different = np.unique(unit * count + label)
    return different // count, different % count


def _in_hash_order(dealt: Dealt, places: Index) -> Index:
    ordered: Index = places[np.argsort(dealt.shares[places], kind="stable")]
    return ordered


def _name_counts(few: Index, counts: IntArray, classes: tuple[str, ...], each: str) -> str:
    """`class 'a' has 2 rows`, or all of several."""

    def count(k: int) -> str:
        return f"{counts[k]} {each}{'s' * int(counts[k] != 1)}"

    if len(few) == 1:
        return f"class {classes[few[0]]!r} has {count(int(few[0]))}"
    names = ", ".join(f"{classes[k]!r} ({count(int(k))})" for k in few[:MOST_NAMED])
    more = f" and {len(few) - MOST_NAMED} more" * (len(few) > MOST_NAMED)
    return f"{len(few)} classes have too few {each}s: {names}{more}"
