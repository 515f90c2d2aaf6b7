"""Which predicted classes have cells of their own, in scores and in the columns of a table.

Per class, a changed mix of classes moves no score and no column: evidence of moved inputs stays
apart from evidence of moved classes. A class needs rows enough to have cells; the others share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import FEW_RANKS, RANKS, rank_edges, score_weights, steady
from models.versions.schema import OTHER_CLASSES, CellGroup, ChannelInfo

LEAST_ROWS = 100  # of the reference that are predicted as a class
MOST_CLASSES = 32  # 25 cells each: every cell is a series of /metrics
MOST_COLUMN_CLASSES = 8  # of the columns of a table: there may be 32, of up to 26 cells a class


@dataclass(frozen=True)
class ScoreCells:
    """The cells of one score channel, one group after the other."""

    info: ChannelInfo
    edges: tuple[npt.NDArray[np.float32], ...]  # falling, by group
    weights: FloatArray  # (G,)


@dataclass(frozen=True)
class ClassRanks:
    """The groups of classes that cells are parted by.

    Args:
        names: of the groups; empty where all classes are one group.
        group_of: `(C,)` group of each class.
    """

    names: tuple[str, ...]
    group_of: IntArray

    @classmethod
    def fit(
        cls, predicted: IntArray, classes: tuple[str, ...], most: int = MOST_CLASSES
    ) -> "ClassRanks":
        """Give each class with 100 of the reference rows a group, the rest one in common.

        Fewer than two such classes: one group.

        Args:
            predicted: `(n,)` classes of the reference rows.
            classes: their C names.
            most: groups of one class; of more such classes the most frequent ones.
        """
        counts = np.bincount(predicted, minlength=len(classes))
        frequent = np.argsort(-counts, kind="stable")[:most]
        own = np.sort(frequent[counts[frequent] >= LEAST_ROWS])
        if len(own) < 2:
            return cls((), np.zeros(len(classes), dtype=np.int64))
        group_of = np.full(len(classes), len(own), dtype=np.int64)
        group_of[own] = np.arange(len(own))
        names = tuple(classes[k] for k in own)
        return cls(names if len(own) == len(classes) else (*names, OTHER_CLASSES), group_of)

    def cells(self, name: str, scores: FloatArray, predicted: IntArray) -> ScoreCells:
        """Cut the scores `(n,)` of the reference rows into the cells of a channel.

        In every group the weights sum to its rows and one more.
        """
        if not self.names:
            whole = steady(rank_edges(scores, RANKS))
            info = ChannelInfo(name, "score", _numbers(len(whole) + 1))
            return ScoreCells(info, (whole,), score_weights(scores, whole))
        rows = self.part(scores, predicted)
        edges = tuple(steady(rank_edges(own, FEW_RANKS)) for own in rows)
        weights = [score_weights(own, cuts) for own, cuts in zip(rows, edges, strict=True)]
        labels = [
            tuple(f"{group}/{cell}" for cell in _numbers(len(own)))
            for group, own in zip(self.names, weights, strict=True)
        ]
        return ScoreCells(self.info(name, "score", labels), edges, np.concatenate(weights))

    def part(self, values: FloatArray, predicted: IntArray) -> list[FloatArray]:
        """The rows `(n, ...)` of each group, of rows that are predicted as these classes `(n,)`."""
        own = self.group_of[predicted]
        return [values[own == group] for group in range(max(1, len(self.names)))]

    def info(
        self, name: str, kind: Literal["score", "category"], labels: Sequence[tuple[str, ...]]
    ) -> ChannelInfo:
        """What the manifest says of a channel whose cells have these labels in each group."""
        groups = tuple(map(CellGroup, self.names, map(len, labels)))
        return ChannelInfo(name, kind, tuple(label for own in labels for label in own), groups)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"{cell:02d}" for cell in range(count))
