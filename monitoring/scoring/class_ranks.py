"""Which predicted classes have score ranks of their own.

Per class, a changed mix of classes moves no score: evidence of moved inputs stays apart from
evidence of moved classes. A class needs rows enough to have ranks; the others share theirs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import FEW_RANKS, RANKS, rank_edges, score_weights, steady
from models.versions.schema import OTHER_CLASSES, CellGroup, ChannelInfo

LEAST_ROWS = 100  # of the reference that are predicted as a class
MOST_CLASSES = 32  # 25 cells each: every cell is a series of /metrics


@dataclass(frozen=True)
class ScoreCells:
    """The cells of one score channel, one group after the other."""

    info: ChannelInfo
    edges: tuple[npt.NDArray[np.float32], ...]  # falling, by group
    weights: FloatArray  # (G,)


@dataclass(frozen=True)
class ClassRanks:
    """The groups of classes that score ranks are taken in.

    Args:
        names: of the groups; empty where all classes are one group.
        group_of: `(C,)` group of each class.
    """

    names: tuple[str, ...]
    group_of: IntArray

    @classmethod
    def fit(cls, predicted: IntArray, classes: tuple[str, ...]) -> "ClassRanks":
        """Give each class with 100 of the reference rows a group, the rest one in common.

        Of more than 32 such classes the most frequent ones. Fewer than two: one group.

        Args:
            predicted: `(n,)` classes of the reference rows.
            classes: their C names.
        """
        counts = np.bincount(predicted, minlength=len(classes))
        frequent = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
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
        rows = [scores[self.group_of[predicted] == k] for k in range(len(self.names))]
        edges = tuple(steady(rank_edges(own, FEW_RANKS)) for own in rows)
        weights = [score_weights(own, cuts) for own, cuts in zip(rows, edges, strict=True)]
        groups = tuple(map(CellGroup, self.names, map(len, weights)))
        labels = [f"{group.name}/{cell}" for group in groups for cell in _numbers(group.cells)]
        info = ChannelInfo(name, "score", tuple(labels), groups)
        return ScoreCells(info, edges, np.concatenate(weights))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"{cell:02d}" for cell in range(count))
