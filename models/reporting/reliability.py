"""A reliability diagram with its table: what was stated, and how often it was so."""

from collections.abc import Sequence

import numpy as np

from models.reporting.drawing import charts
from models.reporting.numbers import percent
from models.reporting.parts import Plate, WordTable
from models.statistics.intervals import proportion
from models.statistics.shares import Bin


def reliability_plate(
    ident: str,
    title: str,
    heading: str,
    bins: Sequence[Bin],
    caption: str,
    *,
    words_per_bin: str,
    header: tuple[str, ...],
    **words: tuple[str, str],
) -> Plate:
    """The plate of bins with `n` > 0, as `models.statistics.calibration.reliability` gives them.

    Args:
        ident, title: of the drawing.
        heading: of the plate.
        bins: see `charts.reliability`.
        caption: under the drawing.
        words_per_bin: a sentence with the fields `stated` and `was`, for who cannot see it.
        header: of the table's five columns.
        words: `names` and `axes` of `charts.reliability`.
    """
    sentences = (
        words_per_bin.format(stated=percent(b.confidence), was=percent(b.accuracy)) for b in bins
    )
    drawing = charts.reliability(
        ident, title, "; ".join(sentences) + ".", bins, [_wilson(b) for b in bins], **words
    )
    rows = [
        (
            percent(b.low),
            percent(b.high),
            str(b.n),
            percent(b.confidence),
            percent(b.accuracy),
        )
        for b in bins
    ]
    return Plate(heading, drawing, caption, WordTable(header, rows))


def _wilson(b: Bin) -> tuple[float, float]:
    share = proportion(np.arange(b.n) < round(b.accuracy * b.n))
    return share.low, share.high
