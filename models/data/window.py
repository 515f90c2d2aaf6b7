"""Labelled traffic as material: distinct rows, split by hash."""

from dataclasses import dataclass

import numpy as np

from models.data import DataSet, Rows, hash_shares

SHARES = (0.5, 0.25)  # train, calibration; the rest tests


@dataclass(frozen=True)
class Window:
    """Labelled traffic, distinct rows only, split by hash; nothing held out elsewhere is in it."""

    train: Rows
    calibration: Rows
    test: Rows

    @classmethod
    def of(cls, rows: Rows, data: DataSet) -> "Window":
        """Split `rows`, dropping repeats (the last label wins) and the data set's own rows."""
        shares = hash_shares(rows.x)
        _, last = np.unique(shares[::-1], return_index=True)
        keep = np.sort(len(shares) - 1 - last)
        own = np.concatenate([hash_shares(p.x) for p in (data.train, data.calibration, data.test)])
        keep = keep[~np.isin(shares[keep], own)]
        rows, shares = rows.take(keep), shares[keep]
        first, second = SHARES[0], sum(SHARES)
        return cls(
            rows.take(shares < first),
            rows.take((shares >= first) & (shares < second)),
            rows.take(shares >= second),
        )
