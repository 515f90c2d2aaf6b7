"""An alarm of the stream and the promise of its threshold, in words and bins for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import Direction, FloatArray

BIN_RANKS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
MOST_BINS = 10
REST = "all others"
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
        change_at: the request after which the winning bet began to win, an estimate of the start.
        before: (G,) cell shares that the urn expected.
        after: (G,) cell shares of the requests since about `change_at`.
        gains: (G,) ln tau of the winning bet: what a request in each cell adds to its evidence.
    """

    channel: str
    direction: Direction
    words: str
    log10_r: float
    requests: int
    change_at: int
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
) -> tuple[Bin, ...]:
    """Merge the cells of a channel into at most ten bins.

    Args:
        labels: (G,) names of the cells; they name the bins of a channel without scores.
        edges: (G - 1,) falling scores between the cells of a score channel, else None.
        before: (G,) shares that sum to 1.
        after: (G,) shares.

    Returns:
        Scores: from the lowest to the highest, cut at fixed ranks of `before`, the tails finer.
        Else: the nine cells that moved most by |after - before|, in their order, and the rest.

    >>> half = np.array([0.5, 0.5])
    >>> bins(("00", "01"), np.array([2.0]), half, np.array([1.0, 0.0]))
    (Bin(label='below 2', before=0.5, after=0.0), Bin(label='2 and above', before=0.5, after=1.0))
    """
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
    """Say what the threshold promises about traffic that does not change.

    P(a false alarm within T requests) <= T / c, so the mean number of requests to a false alarm is
    at least c.

    Args:
        c: requests per false alarm.
        per_second: requests a second of late; None or 0 where it is not known.

    >>> promise(1e6, 10.0)
    'at most one false alarm in 1,000,000 requests on average: in 28 hours at 10 requests a second'
    """
    sentence = f"at most one false alarm in {c:,.0f} requests on average"
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
