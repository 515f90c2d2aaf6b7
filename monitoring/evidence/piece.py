"""Counts of one interval as they come in, checked against the cells that they are said to be of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitoring.evidence.bets import IntArray
from monitoring.evidence.channel_evidence import ChannelEvidence


class IncrementError(ValueError):
    """Counter increments that no stream of requests can have produced."""


def whole_counts(channel: ChannelEvidence, counts: npt.ArrayLike) -> IntArray:
    """Return increments as (G,) int64, or raise an `IncrementError` that says what is wrong."""
    name, cells = channel.reference.name, channel.alpha.size
    try:
        values = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise IncrementError(f"channel {name!r}: expected ({cells},) numbers") from error
    if values.shape != (cells,):
        raise IncrementError(f"channel {name!r}: expected shape ({cells},), got {values.shape}")
    if not (np.isfinite(values).all() and (values >= 0).all() and (values == values.round()).all()):
        raise IncrementError(f"channel {name!r}: expected whole counts >= 0, got {values}")
    impossible = np.flatnonzero((values > 0) & (channel.alpha == 0))
    if impossible.size:
        raise IncrementError(
            f"channel {name!r}: cell {channel.reference.labels[impossible[0]]!r} has requests but "
            "no reference weight; the edges and the reference come from different versions"
        )
    return values.astype(np.int64)
