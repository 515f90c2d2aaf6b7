"""Numbers that float32, in which a model computes, would make one though they are not.

Rounding is harmless where it is small against the column's own resolution: a float64 whose last
digits are noise, a time in a column that spans years. It is not where the values lie close
together and far from zero: seconds since 1970 within an hour are one or two float32 numbers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

NOISE_STEPS = 16  # float64 steps that values may differ by and be the same number
NEIGHBOURS = 10  # at least; a tenth of the distinct values where that is more
FEWEST_LEVELS = 100  # that float32 must leave in the neighbourhood of merging values


def merging_pair(values: npt.NDArray[Any]) -> tuple[Any, Any] | None:
    """Two values that become one float32 number and should not, None where there are none.

    Values a < b of the same float32 merge harmfully if b - a is more than a hundredth of what the
    tenth of the distinct values around them spans, and more than rounding of float64.

    Args:
        values: `(N,)` float64, integers, or objects (whole numbers of any size); no NaN.

    >>> seconds = 1_700_000_000 + np.arange(100)
    >>> [int(second) for second in merging_pair(seconds) or ()]
    [1700000000, 1700000001]
    >>> merging_pair(seconds - 1_700_000_000)
    >>> merging_pair(np.array([0.3, 0.1 + 0.2]))
    """
    wide = values.astype(np.float64)
    narrow = wide.astype(np.float32)
    if values.dtype.kind == "f" and np.array_equal(narrow, wide):
        return None
    distinct = np.unique(values)
    wide = distinct.astype(np.float64)
    same = np.flatnonzero(np.diff(wide.astype(np.float32)) == 0)
    if len(same) == 0:
        return None
    gaps = (distinct[same + 1] - distinct[same]).astype(np.float64)
    reach = max(NEIGHBOURS, len(distinct) // 10) // 2
    first = np.maximum(same - reach, 0)
    last = np.minimum(same + 1 + reach, len(distinct) - 1)
    around = (distinct[last] - distinct[first]).astype(np.float64)
    noise = NOISE_STEPS * np.spacing(np.abs(wide[same])) if values.dtype.kind == "f" else 0.0
    harmful = np.flatnonzero((gaps > around / FEWEST_LEVELS) & (gaps > noise))
    if len(harmful) == 0:
        return None
    place = same[harmful[0]]
    return distinct[place], distinct[place + 1]
