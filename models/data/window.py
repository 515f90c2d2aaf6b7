"""Labelled traffic as material, dealt like the rows of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.data.contents import (
    RARE_REPEATS,
    Contents,
    Shares,
    are_the_same,
    content_hashes,
    deal,
    repeated_share,
)
from models.data.lineage import NO_LINEAGE, SIDES, Lineage, LiveRows
from models.data.records import PARTS, DataSet, Rows
from models.statistics.arrays import FloatArray

SHARES = (0.5, 0.25)  # train, calibration; the rest tests
SHARE_OF_SIDE = {"train": 0.0, "test": 1.0}


@dataclass(frozen=True)
class Window:
    """Labelled traffic in three parts; no row stands in two, and none is one of the data set's.

    Where repeats are natural in the data set (a survey with few questions), all rows stay, and the
    parts follow the law of the traffic. Where they are not (pictures, measurements), equal rows are
    one row sent again: the last one counts, rows of the data set are left out, and a row of an
    earlier window stays on its side.

    Args:
        train, calibration, test: the rows.
        live: the sides that are kept with the version, with times.
    """

    train: Rows
    calibration: Rows
    test: Rows
    live: Mapping[str, LiveRows] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Rows,
        data: DataSet,
        at: FloatArray | None = None,
        lineage: Lineage = NO_LINEAGE,
    ) -> "Window":
        """Deal `rows` 50 : 25 : 25 by content, label and occurrence number.

        A row stays where it is when others come later.

        Args:
            rows: N of live traffic.
            data: the version's.
            at: `(N,)` seconds since 1970; None: not known.
            lineage: of the version: what earlier windows had.
        """
        contents = content_hashes(rows.x)
        own = np.concatenate([content_hashes(getattr(data, part).x) for part in PARTS])
        rest, rare = np.arange(len(contents)), repeated_share(own) <= RARE_REPEATS
        if rare:
            rest = _last_of_each(contents)
        if are_the_same(own, contents):
            rest = rest[~np.isin(contents[rest], own)]
        shares = deal(contents[rest], rows.y[rest])
        if rare:
            shares = _on_their_sides(shares, contents[rest], lineage)
        times = np.zeros(len(contents)) if at is None else at
        dealt = LiveRows(rows.take(rest), times[rest], np.zeros(len(rest), dtype=np.int64))
        first, second = SHARES[0], sum(SHARES)
        live = {"train": dealt.take(shares < first), "test": dealt.take(shares >= second)}
        calibration = dealt.rows.take((shares >= first) & (shares < second))
        return cls(live["train"].rows, calibration, live["test"].rows, live)


def _on_their_sides(shares: Shares, contents: Contents, lineage: Lineage) -> Shares:
    """The shares `(N,)`, moved to the side on which an earlier window had the row."""
    shares = shares.copy()
    for side in SIDES:
        if (live := lineage.live.get(side)) is not None:
            shares[np.isin(contents, content_hashes(live.rows.x))] = SHARE_OF_SIDE[side]
    return shares


def _last_of_each(contents: Contents) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Places of the last row of each content, in rising order."""
    _, last = np.unique(contents[::-1], return_index=True)
    places: np.ndarray[tuple[int], np.dtype[np.intp]] = np.sort(len(contents) - 1 - last)
    return places
