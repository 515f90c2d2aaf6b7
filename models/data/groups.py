"""Rows that belong together: a column (or an array) whose equal values stand in one part."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data.contents import Contents, Shares, text_hashes
from models.data.raw import Raw, RawPart, quote
from models.statistics.arrays import IntArray

MISSING = "the group is missing; fill it, or leave the row out"


@dataclass(frozen=True)
class Groups:
    """Groups of the rows of both parts, as hashes of their values; None where there are none."""

    train: Contents
    test: Contents | None

    def shares(self) -> tuple[Shares, Shares | None]:
        """A number in [0, 1) for every row of each part, equal within a group."""
        test = None if self.test is None else self.test / 2.0**64
        return self.train / 2.0**64, test

    def note(self) -> str:
        """What holds for data in groups."""
        count = len(np.unique(self.train))
        return (
            f"{len(self.train)} rows in {count} groups: rows of a group stand in one part, and "
            "intervals count groups. Thresholds and the reference of drift rest on rows of the "
            "calibration groups: their promises hold for traffic in which each row comes from "
            "another group"
        )


def take_groups(raw: Raw, name: str) -> tuple[Raw, Groups | None]:
    """The rows without the column of their groups, and the groups; None without a name.

    Raises:
        DataError: there is no such column or array, a group is missing, or no feature is left.
    """
    if not name:
        return raw, None
    train, hashes = _take(raw.train, name, raw.what)
    if raw.test is None:
        return replace(raw, train=train), Groups(hashes, None)
    test, others = _take(raw.test, name, f"the test part of {raw.what}")
    return replace(raw, train=train, test=test), Groups(hashes, others)


def group_numbers(hashes: Contents) -> IntArray:
    """`(N,)` whole numbers from 0, equal within a group."""
    _, numbers = np.unique(hashes, return_inverse=True)
    return numbers.astype(np.int64)


def _take(part: RawPart, name: str, what: str) -> tuple[RawPart, Contents]:
    if part.groups is not None:
        values = part.groups
        missing = np.array([_is_missing(value) for value in values.tolist()], dtype=np.bool_)
        _check_missing(part, missing)
        texts, places = np.unique(values.astype(str), return_inverse=True)
        return replace(part, groups=None), text_hashes(tuple(texts.tolist()))[places]
    column = next((each for each in part.columns if each.name == name), None)
    if column is None:
        names = quote([each.name for each in part.columns])
        raise DataError(f"{what}: no column {name!r}, which --group names; the columns are {names}")
    columns = tuple(each for each in part.columns if each.name != name)
    if not columns:
        raise DataError(f"{what}: there is no column besides the label and the group")
    missing = np.isnan(column.values)
    _check_missing(part, missing)
    if column.texts is None:
        values, places = np.unique(column.values, return_inverse=True)
        texts = values.astype(np.float64).astype(str)
    else:
        texts, places = np.array(column.texts, dtype=object), column.values.astype(np.intp)
    return replace(part, columns=columns), text_hashes(tuple(texts.tolist()))[places]


def _is_missing(value: object) -> bool:
    return value is None or value != value or str(value).strip() == ""


def _check_missing(part: RawPart, missing: npt.NDArray[np.bool_]) -> None:
    if missing.any():
        raise DataError(f"{part.where(int(np.argmax(missing)))}: {MISSING}")
