"""The cells of a version's channels as one vector: how rows are counted, and which count is whose.

The service counts the rows of its requests this way, and `holdfast score` those of a file.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.versions.runner import Answer
from models.versions.schema import ChannelInfo, Manifest
from monitoring.counting.likelihood_cells import CHANNEL, count_cells, likelihood_cells

Counts = npt.NDArray[np.int64]


class CellLayout:
    """Where the cells of each channel stand among all cells of a version, S in all.

    >>> layout = CellLayout([ChannelInfo("a", "score", ("00", "01")),
    ...                      ChannelInfo("b", "class", ("x", "y", "z"))])
    >>> counts = layout.count(np.array([[0, 2], [1, 2]]))
    >>> counts.tolist()
    [1, 1, 0, 0, 2]
    >>> layout.part(counts)["b"].tolist()
    [0, 0, 2]
    """

    def __init__(self, channels: Sequence[ChannelInfo]) -> None:
        self._sizes = {channel.name: len(channel.labels) for channel in channels}
        sizes = list(self._sizes.values())
        self._first = np.cumsum([0, *sizes[:-1]])
        self.size = sum(sizes)

    def count(self, cells: npt.NDArray[np.integer]) -> Counts:
        """Count rows `(S,)` from the cells `(N, K)` that the graph answered."""
        places = (cells + self._first).ravel()
        counts: Counts = np.bincount(places, minlength=self.size)
        return counts

    def part(self, counts: Counts) -> dict[str, Counts]:
        """Part counts `(S,)` by channel, `(G,)` each."""
        pieces = np.split(counts, self._first[1:])
        return dict(zip(self._sizes, pieces, strict=True))


class RowCounts:
    """What the rows of a version add up to: cells of the channels, and those of the likelihood.

    Args:
        manifest: of the version.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.layout = CellLayout(manifest.channels)
        self._edges = np.asarray(manifest.calibration.suspicion_edges, dtype=np.float32)
        self._likelihoods = count_cells(manifest.calibration)
        self.size = self.layout.size + self._likelihoods

    def count(self, answer: Answer) -> Counts:
        """Count the rows of an answer, `(size,)` int64."""
        counts = self.layout.count(answer.cells)
        if not self._likelihoods:
            return counts
        places = likelihood_cells(answer.suspicion, answer.perturbation_likelihood, self._edges)
        return np.concatenate([counts, np.bincount(places, minlength=self._likelihoods)])

    def part(self, counts: Counts) -> dict[str, Counts]:
        """Part counts `(size,)` by channel; `CHANNEL` is there where the version has its cells."""
        parts = self.layout.part(counts[: self.layout.size])
        return {**parts, CHANNEL: counts[self.layout.size :]} if self._likelihoods else parts
