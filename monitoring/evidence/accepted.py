"""A period of traffic that a person accepted as normal, as the reference of the channels."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.class_band import ClassBand

LEAST_ROWS = 100  # in a group of cells, before they replace the reference's


class Accepted(msgspec.Struct, frozen=True):
    """Counts (G,) of the accepted period by channel, and the band of class shares in it.

    The band is None where the period was no whole cycle.
    """

    counts: dict[str, list[int]]
    band: ClassBand | None = None


def accepted_reference(reference: ChannelReference, accepted: Accepted) -> ChannelReference:
    """Return the reference of a channel after its traffic was accepted, on the same edges.

    alpha = counts of the period + 1/G_c in each of the G_c cells of a group: the prior is one
    request. A group with fewer than 100 accepted requests keeps what it had, and adds them: 25
    cells of a rare class say nothing where ten requests fell into them.

    Raises:
        ValueError: the period has no counts of this channel, or they do not fit its cells.
    """
    counts = np.array(accepted.counts.get(reference.name, ()), dtype=np.float64)
    possible = reference.alpha > 0
    fits = counts.shape == possible.shape and (counts >= 0).all() and not counts[~possible].any()
    if not fits:
        raise ValueError(
            f"channel {reference.name!r}: expected accepted counts of its {possible.size} cells, "
            f"got shape {counts.shape}, or requests in a cell that cannot have any"
        )
    alpha = reference.alpha + counts
    for span in reference.spans:
        if counts[span].sum() >= LEAST_ROWS:
            alpha[span] = np.where(possible[span], counts[span] + 1 / possible[span].sum(), 0.0)
    return replace(reference, alpha=alpha)
