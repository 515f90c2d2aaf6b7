"""Labels that have changed: rows that look as before, and are called something else.

A coordinated flip looks the same, so a person, or a labeller whom a person trusts, must say that
the change is meant before anything is trained (`models.evaluation.gates.following`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.gates.checks import Check
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.statistics.comparing import wilson_low

SURE = 0.8
CLIENT_ROWS = 3


@dataclass(frozen=True)
class Change:
    """Labels that have changed: rows that look like class `old` are labelled `new` now."""

    old: int
    new: int
    n: int  # rows that the referee is sure are of the old class
    share: float  # of them that are labelled new


def find_changes(
    probabilities: FloatArray, y: IntArray, clients: Sequence[str] | None = None
) -> tuple[Change, ...]:
    """Classes whose labels have changed, by the referee, which knows the old ones.

    Of the rows that it is sure (>= .8) are of class a, a share q_ab is labelled b: changed where
    the lower end of Wilson's interval lies above 1/2, and most clients (of at least three such rows
    each) agree.

    Args:
        probabilities: `(N, C)` of the referee.
        y: `(N,)` labels.
        clients: `(N,)` who sent the label of each row; None where that is not known.
    """
    changes = []
    sure = probabilities.max(axis=1, initial=0.0) >= SURE
    predicted = probabilities.argmax(axis=1) if len(y) else np.zeros(0, dtype=np.int64)
    who: npt.NDArray[np.str_] | None = None if clients is None else np.asarray(clients)
    for old in np.unique(predicted[sure]):
        those = sure & (predicted == old)
        counts = np.bincount(y[those], minlength=probabilities.shape[1])
        counts[old] = 0
        new, n = int(counts.argmax()), int(those.sum())
        if wilson_low(int(counts[new]), n) <= 0.5:
            continue
        if who is not None and not _most_agree(who[those], y[those] == new):
            continue
        changes.append(Change(int(old), new, n, float(counts[new] / n)))
    return tuple(changes)


def _most_agree(who: npt.NDArray[np.str_], new: Bools) -> bool:
    votes = [
        new[who == name].mean() > 0.5
        for name in np.unique(who)
        if (who == name).sum() >= CLIENT_ROWS
    ]
    return not votes or sum(votes) > len(votes) / 2


def judge_changes(changes: Sequence[Change], classes: Sequence[str], n: int) -> Check:
    """The check `labels`: whether labels mean what they meant.

    Unknown where they have changed (a person must say that this is meant) or without rows.
    """
    if not n:
        return Check("labels", "unknown", None, 0.0, "no labelled rows to look at", 0)
    if not changes:
        return Check("labels", "pass", 0.0, 0.0, "no class is labelled as another one", n)
    words = ", ".join(
        f"{classes[c.old]!r} is labelled {classes[c.new]!r} now ({c.share:.0%} of {c.n} sure rows)"
        for c in changes
    )
    detail = (
        f"{words}; people who poison labels together look the same, so a person must say whether "
        "the change is meant"
    )
    return Check("labels", "unknown", float(len(changes)), 0.0, detail, n)
