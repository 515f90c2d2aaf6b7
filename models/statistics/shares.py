"""Shares as records: a proportion with its interval, and how confidence compares with it.

Plain data, so that what serves reads a manifest without the libraries that make such figures.
"""

import math

import msgspec


class Proportion(msgspec.Struct, frozen=True):
    """A share with its 95 % interval and the number of rows it rests on.

    The share of no rows is None in JSON, which knows no NaN; `value` is NaN then.

    >>> msgspec.json.encode(Proportion(None, 0.0, 1.0, 0))
    b'{"value":null,"low":0.0,"high":1.0,"n":0}'
    """

    share: float | None = msgspec.field(name="value")
    low: float
    high: float
    n: int  # rows, also where they are in groups

    @property
    def value(self) -> float:
        """The share; NaN where there are no rows."""
        return math.nan if self.share is None else self.share

    @property
    def parts(self) -> tuple[float | None, float, float, int]:
        """All four, for a record that says more of the same share."""
        return self.share, self.low, self.high, self.n


class Bin(msgspec.Struct, frozen=True):
    """Rows of like confidence: its range, their number, its mean, and the share of right answers.

    Of another probability than confidence, `accuracy` is how often it was so.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Reliability(msgspec.Struct, frozen=True):
    """The calibration error (its share is the mean distance) and the bins that it rests on."""

    ece: Proportion
    bins: tuple[Bin, ...] = ()
