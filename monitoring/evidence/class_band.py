"""The band of class shares that a whole cycle of traffic showed, and bets on leaving it.

Where the class mix has a daily cycle no fixed share is right at all hours. The band has a lowest
and a highest share per class, and its null is any process of shares inside it: steady or moving,
known beforehand or not.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import Bet, ChannelReference, FloatArray, IntArray
from monitoring.evidence.tilts import ShareTilts

LEAST_BLOCKS = 20
BLOCK = 1000  # requests, at least
ABOVE = {1.25: "1.25 times", 1.5: "1.5 times"}  # beyond, a few bursts of a class win the bet
BELOW = {0.8: "four fifths of", 0.5: "half", 0.2: "a fifth of"}
MOST_SHARE = 0.95


class ClassBand(msgspec.Struct, frozen=True):
    """The lowest and highest share of every class, (C,) each, over so many blocks of traffic.

    Learn it from a whole cycle: what the traffic has not shown yet lies outside.
    """

    low: list[float]
    high: list[float]
    blocks: int

    @classmethod
    def learn(cls, blocks: npt.ArrayLike) -> ClassBand:
        """Return the extremes over blocks of traffic.

        The lowest share is min D / (m + 1), the highest max (D + 1) / (m + 1): one more request of
        the class, or one fewer, never leaves the band.

        Args:
            blocks: (B, C) whole class counts, B >= 20, each block of 1000 requests or more.

        Raises:
            ValueError: fewer or smaller blocks, or fewer than two classes.

        >>> band = ClassBand.learn([[600, 400], [500, 500]] * 10)
        >>> np.round([band.low, band.high], 3).tolist()
        [[0.5, 0.4], [0.6, 0.5]]
        """
        counts = np.asarray(blocks, dtype=np.float64)
        if counts.ndim != 2 or counts.shape[1] < 2 or len(counts) < LEAST_BLOCKS:
            raise ValueError(
                f"expected counts of {LEAST_BLOCKS} or more blocks and two or more classes, "
                f"got shape {counts.shape}"
            )
        if (counts < 0).any() or counts.sum(axis=1).min() < BLOCK:
            raise ValueError(
                f"expected counts >= 0 and {BLOCK} or more requests in each block, got a least "
                f"count of {counts.min():g} and a least block of {counts.sum(axis=1).min():g}"
            )
        sizes = counts.sum(axis=1) + 1
        low = (counts / sizes[:, None]).min(axis=0)
        high = ((counts + 1) / sizes[:, None]).max(axis=0)
        return cls(low.tolist(), high.tolist(), len(counts))

    def unbounded(self) -> list[int]:
        """Return the classes that no bet is about: their shares may be next to none, or all.

        >>> ClassBand.learn([[1000, 0, 0], [0, 500, 500]] * 10).unbounded()
        [0]
        """
        least = min(ABOVE)
        pairs = enumerate(zip(self.low, self.high, strict=True))
        return [cell for cell, (low, high) in pairs if not low and least * high > MOST_SHARE]


class BandBets:
    """Bets that a class has left the band, as e-values of counts.

    A bet takes q = f high (f > 1) or f low (f < 1) for the share of its class. A request of that
    class gains ln q/limit, any other ln (1 - q)/(1 - limit), so that its mean is

        1 + (p - limit) (q/limit - (1 - q)/(1 - limit)) <= 1

    for every share p inside the band: E is a supermartingale under any process of such shares, also
    one that answers to the bets. (It has copies and `absorb` as an urn does, and needs neither.)

    Args:
        band: of as many classes as the reference has cells.
        reference: the class channel; its weights are the shares that an alarm compares with.

    Raises:
        ValueError: the band is of another number of classes, or its limits are no shares.

    References:
        Waudby-Smith & Ramdas (2023), *Estimating means of bounded random variables by betting*.
    """

    copies = 1
    lags: tuple[int, ...] = ()

    def __init__(self, band: ClassBand, reference: ChannelReference) -> None:
        self.reference = reference
        self.alpha: FloatArray = reference.alpha.copy()
        self.lagged_at: FloatArray = np.zeros(1)
        low, high = np.array(band.low), np.array(band.high)
        right = low.shape == high.shape == self.alpha.shape and (low >= 0).all()
        if not right or (low > high).any() or (high > 1).any():
            raise ValueError(f"expected a band of {self.alpha.size} classes, 0 <= low <= high <= 1")
        chosen: list[tuple[Bet, float, float]] = []  # with its share and the limit it leaves
        for cell, name in enumerate(reference.labels):
            for factor, words in ABOVE.items():
                bet = Bet("share up", f"class {name} at {words} the most of a cycle", cell)
                chosen.append((bet, factor * high[cell], high[cell]))
            for factor, words in BELOW.items():
                bet = Bet("share down", f"class {name} at {words} the least of a cycle", cell)
                chosen.append((bet, factor * low[cell], low[cell]))
        chosen = [(bet, q, limit) for bet, q, limit in chosen if 0 < q <= MOST_SHARE]
        self.bets = tuple(bet for bet, _, _ in chosen)
        self._cells = np.array([bet.cell for bet in self.bets], dtype=np.int64)
        q, limit = np.array([[q, limit] for _, q, limit in chosen]).reshape(-1, 2).T
        self._inside, self._outside = np.log(q / limit), np.log((1 - q) / (1 - limit))

    @property
    def tilts(self) -> ShareTilts:
        """The likelihood ratios of a request, by class."""
        inside, outside = np.exp(self._inside), np.exp(self._outside)
        return ShareTilts(self.alpha.size, self._cells, inside, outside)

    def ln_e(self, increments: IntArray) -> FloatArray:
        """Return the log e-values (1, J) of one piece of class counts (C,)."""
        hits = increments[self._cells]
        result: FloatArray = hits * self._inside + (increments.sum() - hits) * self._outside
        return result[None]

    def absorb(self, increments: IntArray) -> None:
        """Learn nothing: the band is fixed."""

    def expected(self, came: FloatArray) -> FloatArray:
        """Return the shares (C,) of the accepted period."""
        shares: FloatArray = self.alpha / self.alpha.sum()
        return shares

    def load(self, alpha: FloatArray, lagged_at: FloatArray) -> None:
        """Take over nothing: all of it follows from the band and the reference."""
