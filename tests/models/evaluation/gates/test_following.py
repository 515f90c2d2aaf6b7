"""Laws of following changed labels: neighbours decide, doubt leaves out, the test part waits."""

import numpy as np

from models.data import DataSet, Rows
from models.data.lineage import LEFT_OUT, NO_LINEAGE, LiveRows
from models.evaluation.gates.changed_labels import Change
from models.evaluation.gates.following import excuse, follow, outvoted, vote
from models.statistics.arrays import FloatArray
from models.versions.schema import InputArray

SWAP = (Change(3, 8, 60, 1.0), Change(8, 3, 60, 1.0))


def swapped(y: np.ndarray) -> np.ndarray:
    return np.where(y == 3, 8, np.where(y == 8, 3, y))


def by_class(digits: DataSet) -> dict[bytes, int]:
    """The old label of every row of the digits, by its bytes."""
    parts = (digits.train, digits.calibration, digits.test)
    return {x.tobytes(): int(y) for rows in parts for x, y in zip(rows.x, rows.y, strict=True)}


def perfect(digits: DataSet) -> object:
    """An embedding in which rows of an old class lie together."""
    known, rng = by_class(digits), np.random.default_rng(0)

    def embed(x: InputArray) -> FloatArray:
        place = np.array([known[row.tobytes()] for row in x], dtype=np.float64)[:, None]
        return 10 * place + rng.normal(size=(len(x), 1))

    return embed


def test_four_of_five_decide_and_three_do_not() -> None:
    known = np.array([[0.0], [0.1], [0.2], [0.3], [0.4]])
    query = np.array([[0.2]])
    assert vote(query, known, np.array([8, 8, 8, 8, 3])).tolist() == [8]
    assert vote(query, known, np.array([8, 8, 8, 3, 3])).tolist() == [LEFT_OUT]
    assert vote(query, known[:4], np.array([8, 8, 8, 8])).tolist() == [LEFT_OUT], "too few voters"
    assert vote(known, known, np.array([8, 8, 8, 8, 3]), itself=True).tolist() == [LEFT_OUT] * 5


def test_a_swap_is_undone_for_the_filter_and_nothing_else_is() -> None:
    named, y = np.array([3, 8, 3, 5, 8]), np.array([8, 3, 3, 8, 5])
    assert excuse(named, y, SWAP).tolist() == [3, 8, 3, 8, 5]
    assert excuse(named, y, ()).tolist() == y.tolist()


def test_old_rows_get_the_new_labels_and_the_test_part_judges_the_other_classes(
    digits: DataSet,
) -> None:
    embed = perfect(digits)
    concerned = np.isin(digits.test.y, [3, 8])
    voters = Rows(digits.test.x[concerned], swapped(digits.test.y[concerned]))
    at = np.zeros(20)
    live = LiveRows(digits.train.take(np.arange(20)), at, at.astype(np.int64))
    lineage = NO_LINEAGE.with_window({"train": live, "test": live})
    now = follow(lineage, digits, SWAP, embed, voters)
    data = now.relabelled(digits)
    for part in ("train", "calibration"):
        assert np.array_equal(getattr(data, part).y, swapped(getattr(digits, part).y))
    assert not np.isin(data.test.y, [3, 8]).any()
    others = ~np.isin(digits.test.y, [3, 8])
    assert np.array_equal(data.test.x, digits.test.x[others])
    assert np.array_equal(now.live["train"].rows.y, swapped(live.rows.y))
    assert not np.isin(now.live["test"].rows.y, [3, 8]).any()


def test_a_second_change_begins_where_the_first_one_ended(digits: DataSet) -> None:
    embed = perfect(digits)
    concerned = np.isin(digits.test.y, [3, 8])
    there = Rows(digits.test.x[concerned], swapped(digits.test.y[concerned]))
    once = follow(NO_LINEAGE, digits, SWAP, embed, there)
    back = follow(once, digits, SWAP, embed, digits.test.take(concerned))
    assert np.array_equal(back.relabelled(digits).train.y, digits.train.y)
    gone = back.labels_of(digits, "test") == LEFT_OUT
    assert np.array_equal(gone, concerned), "what once was left out is not judged by again"


def test_labels_that_were_still_given_the_old_way_are_outvoted(digits: DataSet) -> None:
    rows = digits.test.take(np.isin(digits.test.y, [3, 8]))
    y = swapped(rows.y)
    y[0] = rows.y[0]
    assert np.flatnonzero(outvoted(perfect(digits), Rows(rows.x, y))).tolist() == [0]
    assert len(outvoted(perfect(digits), rows.take(np.arange(0)))) == 0
