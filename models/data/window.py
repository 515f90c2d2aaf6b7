"""Labelled traffic as material, dealt like the rows of a data set."""

from dataclasses import dataclass

import numpy as np

from models.data.contents import (
    RARE_REPEATS,
    Contents,
    are_the_same,
    content_hashes,
    deal,
    repeated_share,
)
from models.data.records import PARTS, DataSet, Rows

SHARES = (0.5, 0.25)  # train, calibration; the rest tests


@dataclass(frozen=True)
class Window:
    """Labelled traffic in three parts; no row stands in two, and none is one of the data set's.

    Where repeats are natural in the data set (a survey with few questions), all rows stay, and the
    parts follow the law of the traffic. Where they are not (pictures, measurements), equal rows are
    one row sent again: the last one counts, and rows of the data set are left out.
    """

    train: Rows
    calibration: Rows
    test: Rows

    @classmethod
    def of(cls, rows: Rows, data: DataSet) -> "Window":
        """Deal `rows` 50 : 25 : 25 by content, label and occurrence number.

        A row stays where it is when others come later.
        """
        contents = content_hashes(rows.x)
        own = np.concatenate([content_hashes(getattr(data, part).x) for part in PARTS])
        rest = np.arange(len(contents))
        if repeated_share(own) <= RARE_REPEATS:
            rest = _last_of_each(contents)
        if are_the_same(own, contents):
            rest = rest[~np.isin(contents[rest], own)]
        rows, shares = rows.take(rest), deal(contents[rest], rows.y[rest])
        first, second = SHARES[0], sum(SHARES)
        return cls(
            rows.take(shares < first),
            rows.take((shares >= first) & (shares < second)),
            rows.take(shares >= second),
        )


def _last_of_each(contents: Contents) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Places of the last row of each content, in rising order."""
    _, last = np.unique(contents[::-1], return_index=True)
    places: np.ndarray[tuple[int], np.dtype[np.intp]] = np.sort(len(contents) - 1 - last)
    return places
