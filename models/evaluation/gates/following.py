"""Following changed labels: old rows of the changed classes get the label that they have now.

Only after a person, or a labeller whom a person trusts, has said that the change is meant: a
coordinated flip looks the same (`models.evaluation.gates.changed_labels`). Where a new label
contradicts an old row, the new one wins.
"""

from collections.abc import Sequence

import numpy as np

from models.data import DataSet, Rows
from models.data.lineage import LEFT_OUT, Lineage
from models.evaluation.gates.changed_labels import Change
from models.evaluation.gates.near import Embed
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.versions.schema import InputArray

NEAREST = 5
AGREE = 4  # of the nearest, at least
LEAST_TEST = 50  # rows of other classes, without which the test part is renamed, too
CHUNK = 1 << 22  # distances at once
TRUSTED_PARTS = ("train", "calibration")  # of the data set; the test part is left out instead


def excuse(named: IntArray, y: IntArray, changes: Sequence[Change]) -> IntArray:
    """The labels `(N,)` as they were before the changes, of rows that the changes explain.

    Args:
        named: `(N,)` classes that the referee names.
        y: `(N,)` labels.
        changes: of labels.

    >>> excuse(np.array([3, 3, 8]), np.array([8, 3, 8]), [Change(3, 8, 60, 1.0)]).tolist()
    [3, 3, 8]
    """
    before = y.copy()
    for change in changes:
        before[(named == change.old) & (y == change.new)] = change.old
    return before


def vote(
    queries: FloatArray, known: FloatArray, labels: IntArray, *, itself: bool = False
) -> IntArray:
    """The label `(N,)` on which at least 4 of the 5 nearest known rows agree; else `LEFT_OUT`.

    Distances are Euclidean. With fewer than five known rows nothing is agreed on.

    Args:
        queries: `(N, F)`.
        known: `(M, F)`.
        labels: `(M,)`.
        itself: whether the queries are the known rows: none votes for itself.

    >>> known = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [9.0]])
    >>> vote(np.array([[0.2]]), known, np.array([8, 8, 8, 3, 8, 5])).tolist()
    [8]
    """
    answers = np.full(len(queries), LEFT_OUT, dtype=np.int64)
    if len(known) < NEAREST + itself:
        return answers
    squares = (known**2).sum(axis=1)
    step = max(1, CHUNK // len(known))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        distances = squares - 2 * part @ known.T
        if itself:
            rows = np.arange(len(part))
            distances[rows, start + rows] = np.inf
        nearest = labels[np.argpartition(distances, NEAREST - 1, axis=1)[:, :NEAREST]]
        for k, voters in enumerate(nearest):
            counts = np.bincount(voters)
            if counts.max() >= AGREE:
                answers[start + k] = counts.argmax()
    return answers


def follow(
    lineage: Lineage,
    data: DataSet,
    changes: Sequence[Change],
    embed: Embed,
    voters: Rows,
) -> Lineage:
    """The lineage in which rows of the changed classes are called what window rows are called now.

    Training and calibration rows of an old class take the label of the window rows around them,
    or are left out. The test part and the live test rows judge the other classes only: a
    challenger that knows the new labels would be wrong on the old ones. Where hardly a row of
    another class is there, the test part is renamed as the training part is.

    Args:
        lineage: of the champion.
        data: the data set as it was loaded.
        changes: of labels.
        embed: the referee's features of raw rows.
        voters: rows of the window that the referee names as one of the changed classes.
    """
    old = np.array([change.old for change in changes])
    known = embed(voters.x)

    def renamed(x: InputArray, y: IntArray) -> IntArray:
        labels, those = y.astype(np.int64), np.isin(y, old)
        if those.any():
            labels[those] = vote(embed(x[those]), known, voters.y)
        return labels

    labels = {
        part: renamed(getattr(data, part).x, lineage.labels_of(data, part))
        for part in TRUSTED_PARTS
    }
    tested = lineage.labels_of(data, "test").astype(np.int64)
    labels["test"] = np.where(np.isin(tested, old), LEFT_OUT, tested)
    if (labels["test"] != LEFT_OUT).sum() < LEAST_TEST:  # as where both of two classes change
        labels["test"] = renamed(data.test.x, tested)
    live = dict(lineage.live)
    for side, rows in lineage.live.items():
        if side == "test":
            live[side] = rows.take(~np.isin(rows.rows.y, old))
            continue
        y = renamed(rows.rows.x, rows.rows.y)
        kept = y != LEFT_OUT
        live[side] = rows.take(kept)._replace(rows=Rows(rows.rows.x[kept], y[kept]))
    return lineage.followed(labels, {side: rows for side, rows in live.items() if len(rows.at)})


def outvoted(embed: Embed, rows: Rows) -> Bools:
    """Rows of the changed classes `(N,)` whose own neighbours agree on another label.

    Labels that were still given the old way stand in the window, too.
    """
    features = embed(rows.x) if len(rows) else np.zeros((0, 1))
    answers = vote(features, features, rows.y, itself=True)
    outvoted: Bools = (answers != LEFT_OUT) & (answers != rows.y)
    return outvoted
