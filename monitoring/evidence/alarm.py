"""An alarm of the stream and the promise of its threshold, in words and bins for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import MISSING, Direction, FloatArray, IntArray
from monitoring.evidence.onset import Onset

BIN_RANKS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
MOST_BINS = 10
REST = "all others"
CONDITION = "if requests come independently from one distribution"
SPANS = (("year", 31_557_600.0), ("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0))


@dataclass(frozen=True)
class Alarm:
    """What moved, as it stood when the alarm was raised.

    Args:
        channel: the channel with the most evidence.
        direction: "higher", "lower", "tails", "middle", "share up" or "share down".
        words: the winning bet as a sentence for people.
        log10_r: log10 of the evidence at the alarm, >= log10(C c).
        requests: requests seen in all when it was raised.
        onset: the requests after which the drift may have begun.
        before: (G,) cell shares that the urn expected.
        after: (G,) cell shares of the requests since the likely onset.
        gains: (G,) ln tau of the winning bet: what a request in each cell adds to its evidence.
    """

    channel: str
    direction: Direction
    words: str
    log10_r: float
    requests: int
    onset: Onset
    before: tuple[float, ...]
    after: tuple[float, ...]
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Bin:
    """A few cells of a channel together; shares of the requests before and after."""

    label: str
    before: float
    after: float


def bins(
    labels: tuple[str, ...],
    edges: npt.NDArray[np.floating[Any]] | None,
    before: FloatArray,
    after: FloatArray,
    groups: tuple[int, ...] = (),
) -> tuple[Bin, ...]:
    """Merge the cells of a channel into at most ten bins.

    Args:
        labels: (G,) names of the cells; they name the bins of a channel without scores.
        edges: (G - 1,) falling scores between the cells of a score channel, else None.
        before: (G,) shares that sum to 1.
        after: (G,) shares.
        groups: numbers of neighbouring cells that are ranks of their own, "missing" the last cell
            of each or of none; empty: one group. See `merge_groups` for categories.

    Returns:
        Scores: from the lowest to the highest, cut at fixed ranks of `before`, the tails finer; of
        several groups together, named by their ranks, missing values first.
        Else: the nine cells that moved most by |after - before|, in their order, and the rest.

    >>> half = np.array([0.5, 0.5])
    >>> bins(("00", "01"), np.array([2.0]), half, np.array([1.0, 0.0]))
    (Bin(label='below 2', before=0.5, after=0.0), Bin(label='2 and above', before=0.5, after=1.0))
    """
    if groups:
        return _rank_bins(labels, groups, before, after)
    if edges is not None:
        return _score_bins(edges, before, after)
    if len(labels) <= MOST_BINS:
        cells = list(range(len(labels)))
    else:
        cells = sorted(np.argsort(-np.abs(after - before), kind="stable")[: MOST_BINS - 1].tolist())
    merged = [Bin(labels[g], float(before[g]), float(after[g])) for g in cells]
    if len(cells) < len(labels):
        merged.append(Bin(REST, *(float(1 - s[cells].sum()) for s in (before, after))))
    return tuple(merged)


def _score_bins(
    edges: npt.NDArray[np.floating[Any]], before: FloatArray, after: FloatArray
) -> tuple[Bin, ...]:
    ranks = np.cumsum(before)[:-1]  # upper-tail rank of each edge
    cuts = sorted({int(np.abs(ranks - rank).argmin()) for rank in BIN_RANKS})
    merged = []
    for above, below in zip([None, *cuts], [*cuts, None], strict=True):
        cells = slice(0 if above is None else above + 1, None if below is None else below + 1)
        high = None if above is None else f"{edges[above]:.4g}"
        low = None if below is None else f"{edges[below]:.4g}"
        merged.append(Bin(_range(low, high), float(before[cells].sum()), float(after[cells].sum())))
    return tuple(reversed(merged))


def merge_groups(groups: int, shares: FloatArray) -> FloatArray:
    """Add up the shares (groups * G,) of the same category in all groups, (G,)."""
    merged: FloatArray = shares.reshape(groups, -1).sum(axis=0)
    return merged


def rank_bins(labels: tuple[str, ...], groups: tuple[int, ...], before: FloatArray) -> IntArray:
    """Return the bin (G,) of every cell by the rank of its middle within its group, 0 the highest.

    "missing" has a bin of its own, after those of the ranks.

    >>> rank_bins(("00", "00", "01"), (1, 2), np.array([0.5, 0.1, 0.4])).tolist()
    [5, 2, 5]
    """
    ends = np.cumsum(groups)
    parts = []
    for part in np.split(before, ends[:-1]):
        part = part if part.any() else np.ones_like(part)  # a class without requests
        middle = (np.cumsum(part) - part / 2) / part.sum()
        parts.append(np.searchsorted(BIN_RANKS, middle, side="right"))
    result: IntArray = np.concatenate(parts)
    if labels[-1] == MISSING:
        result[ends - 1] = len(BIN_RANKS) + 1
    return result


def rank_label(number: int) -> str:
    """Name a bin of ranks.

    >>> rank_label(0), rank_label(1), rank_label(9), rank_label(10)
    ('the highest 1 %', 'the highest 1 to 5 %', 'the lowest 1 %', 'missing')
    """
    cuts = [round(100 * rank) for rank in BIN_RANKS]
    if number > len(cuts):
        return MISSING
    if number == 0:
        return f"the highest {cuts[0]} %"
    if number == len(cuts):
        return f"the lowest {100 - cuts[-1]} %"
    return f"the highest {cuts[number - 1]} to {cuts[number]} %"


def _rank_bins(
    labels: tuple[str, ...], groups: tuple[int, ...], before: FloatArray, after: FloatArray
) -> tuple[Bin, ...]:
    numbers = rank_bins(labels, groups, before)
    return tuple(
        Bin(rank_label(k), float(before[numbers == k].sum()), float(after[numbers == k].sum()))
        for k in sorted(set(numbers.tolist()), reverse=True)
    )


def cell_label(
    labels: tuple[str, ...], edges: npt.NDArray[np.floating[Any]] | None, cell: int
) -> str:
    """Describe the scores of one cell; without scores, return its name.

    >>> cell_label(("00", "01"), np.array([2.0]), 0)
    '2 and above'
    """
    if edges is None:
        return labels[cell]
    high = f"{edges[cell - 1]:.4g}" if cell > 0 else None
    low = f"{edges[cell]:.4g}" if cell < len(edges) else None
    return _range(low, high)


def _range(low: str | None, high: str | None) -> str:
    if low is None:
        return "any" if high is None else f"below {high}"
    return f"{low} and above" if high is None else f"{low} to {high}"


def promise(c: float, per_second: float | None) -> str:
    """Say what the threshold promises, and on which condition.

    P(a false alarm within T requests) <= T / c, so the mean number of requests to a false alarm is
    at least c. For scores and columns within each predicted class the requests of a class have to
    be independent and of one distribution; the mix of the classes may do what it likes.

    Args:
        c: requests per false alarm.
        per_second: requests a second of late; None or 0 where it is not known.

    >>> promise(1e6, 10.0)
    'at most one false alarm in 1,000,000 requests on average if requests come independently from \
one distribution: in 28 hours at 10 requests a second'
    """
    sentence = f"at most one false alarm in {c:,.0f} requests on average {CONDITION}"
    if not per_second:
        return f"{sentence} (the rate of requests is not known yet)"
    return (
        f"{sentence}: in {span(c / per_second)} at {_render_number(per_second)} requests a second"
    )


def span(seconds: float) -> str:
    """Render a length of time in the largest unit of which it has at least two.

    >>> span(7200), span(90), span(3e6), span(4e9)
    ('2 hours', '90 seconds', '35 days', '127 years')
    """
    for unit, length in SPANS:
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}s"
    return f"{seconds:,.0f} seconds"


def _render_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
