"""Where the values of a table's columns are cut for channels that look at columns together.

A number is cut at quantiles and at the ends of its range, a category between its codes; so one
comparison per cut finds the bin of both, and unseen or far values have bins of their own.
"""

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.versions.schema import Column, InputSchema

FEWEST_BINS, MOST_BINS, GROWTH = 4, 12, 0.4  # n^.4 bins of a number, within these
MOST_CATEGORIES = 24  # runs of rarer ones share a bin
MOST_TOGETHER = 64  # columns that are looked at together
LOWEST = np.float32(-3e38)  # below it lie only missing values
END = 1e-6  # of a number, or of 1: rounding beside it is the same number


def count_bins(rows: int) -> int:
    """Bins inside the range of a number, n^.4 within 4 to 12.

    >>> count_bins(10), count_bins(200), count_bins(10_000)
    (4, 8, 12)
    """
    return int(np.clip(round(rows**GROWTH), FEWEST_BINS, MOST_BINS))


def cut_column(column: Column, values: FloatArray) -> npt.NDArray[np.float32]:
    """Rising cuts of a column; the bin of a value is how many of them are at most that value.

    Bin 0 is a missing value, bin 1 lies below the range (or is an unseen category), the last bin
    above it.

    Args:
        column: of the schema.
        values: `(n,)` training values, NaN where missing.
    """
    known = values[np.isfinite(values)].astype(np.float32)
    if column.kind == "categorical":
        inner = _between_categories(known, len(column.categories))
    else:
        inner = _between_numbers(known, count_bins(len(values)))
    return np.concatenate([[LOWEST], inner]).astype(np.float32)


def few_values(known: FloatArray) -> FloatArray | None:
    """The different ones of numbers `(n,)`, rising, where they are few; else None.

    Few: at most 12, a fifth of the rows, and apart by more than rounding.
    """
    different = np.unique(known.astype(np.float64))
    few = len(different) <= min(MOST_BINS, max(1, len(known) // 5))
    return different if few and (np.diff(different) > 4 * _room(different[1:])).all() else None


def find_bins(values: FloatArray, cuts: npt.NDArray[np.float32]) -> IntArray:
    """Bins `(n,)` of values `(n,)`; a missing one, and -inf, are in bin 0."""
    with np.errstate(invalid="ignore"):
        bins: IntArray = (values.astype(np.float32)[:, None] >= cuts).sum(axis=1)
    return bins


def choose_together(schema: InputSchema, x_unit: FloatArray) -> list[int]:
    """Columns that tell something, in their order; of more than 64 those of most entropy.

    Args:
        schema: a table's.
        x_unit: `(n, D)` training rows.
    """
    entropies = []
    for index, column in enumerate(schema.columns):
        bins = find_bins(x_unit[:, index], cut_column(column, x_unit[:, index]))
        share = np.bincount(bins) / len(bins)
        share = share[share > 0]
        entropies.append(-float((share * np.log(share)).sum()))
    order = np.argsort(-np.array(entropies), kind="stable")[:MOST_TOGETHER]
    return sorted(int(k) for k in order)


def _between_categories(codes: FloatArray, count: int) -> FloatArray:
    """Cuts at -.5, between categories, and above the last: frequent ones are by themselves."""
    counts = np.bincount(codes[(codes >= 0) & (codes < count)].astype(int), minlength=count)
    own = np.zeros(count + 1, dtype=bool)
    own[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]] = True
    own[-1] = True
    # Between two rare ones there is no cut.
    places = [k for k in range(count + 1) if k in (0, count) or own[k] or own[k - 1]]
    return np.array(places) - 0.5


def _between_numbers(known: FloatArray, bins: int) -> FloatArray:
    """Cuts below the lowest, between quantiles, and above the highest of `(n,)` numbers."""
    if len(known) == 0:
        return np.zeros(1)
    few = few_values(known)
    if few is not None:  # what lies between them was never seen
        return np.ravel([few - _room(few), few + _room(few)], order="F")
    different = np.unique(known.astype(np.float64))
    inner = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
    # A cut lies halfway to the value below, so that rounding parts no equal values.
    place = np.searchsorted(different, inner)
    inner = np.unique((different[place] + different[np.maximum(place - 1, 0)]) / 2)
    inner = inner[inner > different[0]]
    ends = different[[0, -1]] + _room(different[[0, -1]]) * (-1, 1)
    return np.concatenate([ends[:1], inner, ends[1:]])


def _room(numbers: FloatArray) -> FloatArray:
    """How far rounding may move numbers `(n,)`."""
    room: FloatArray = END * np.maximum(1, np.abs(numbers))
    return room
