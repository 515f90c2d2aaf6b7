"""Laws of a lineage: a row stays on its side, the newest label counts, the test part grows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base.errors import BundleError
from models.data import DataSet, Rows
from models.data.lineage import KEPT_ROWS, LEFT_OUT, NO_LINEAGE, TEST_ROWS, Lineage, LiveRows
from models.data.window import Window


def live_rows(numbers: list[int], labels: list[int], at: float = 0.0) -> LiveRows:
    """Rows whose input is a constant picture of the number."""
    x = np.array([np.full((1, 8, 8), n / 64) for n in numbers], np.float32).reshape(-1, 1, 8, 8)
    times = at + np.arange(len(numbers), dtype=np.float64)
    return LiveRows(Rows(x, np.array(labels, dtype=np.int64)), times, np.zeros(len(x), np.int64))


def numbers_of(rows: Rows) -> set[int]:
    return {round(float(row[0, 0, 0]) * 64) for row in rows.x}


windows = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=30), max_size=4
)


@settings(max_examples=40)
@given(windows)
def test_no_content_is_ever_trained_on_and_judged_on(
    digits: DataSet, sent: list[list[tuple[int, int]]]
) -> None:
    lineage, sides, newest = NO_LINEAGE, {}, {}
    for k, rows in enumerate(sent):
        live = live_rows([n for n, _ in rows], [label for _, label in rows], 1000.0 * k)
        window = Window.of(live.rows, digits, live.at, lineage)
        parts = {"train": window.train, "test": window.test}
        for side, part in parts.items():
            for number in numbers_of(part):
                assert sides.setdefault(number, side) == side, "a row has changed sides"
        newest |= dict(rows)
        lineage = lineage.with_window(window.live)
        kept = {side: numbers_of(live.rows) for side, live in lineage.live.items()}
        assert not kept.get("train", set()) & kept.get("test", set())
    for live in lineage.live.values():
        for row, label in zip(live.rows.x, live.rows.y, strict=True):
            assert newest[round(float(row[0, 0, 0]) * 64)] == label, "the newest label counts"


def test_rows_age_by_one_with_every_window_and_the_newest_are_kept() -> None:
    lineage = NO_LINEAGE.with_window({"train": live_rows([1, 2], [0, 0])})
    lineage = lineage.with_window({"train": live_rows([3], [0], 100.0)})
    lineage = lineage.with_window({})
    assert lineage.live["train"].age.tolist() == [2, 2, 1]
    x = np.arange((KEPT_ROWS + 5) * 64, dtype=np.float32).reshape(-1, 1, 8, 8)
    many = LiveRows(Rows(x, np.zeros(len(x), np.int64)), np.arange(len(x), dtype=np.float64),
                    np.zeros(len(x), np.int64))  # fmt: skip
    kept = NO_LINEAGE.with_window({"train": many.take(np.arange(10))}).with_window({"train": many})
    assert len(kept.live["train"].at) == KEPT_ROWS
    assert kept.live["train"].at.min() == 5, "the oldest went"


def test_the_test_part_grows_to_a_thousand_by_the_newest_rows(digits: DataSet) -> None:
    n = len(digits.test)
    x = np.arange(2 * TEST_ROWS * 64, dtype=np.float32).reshape(-1, 1, 8, 8)
    live = LiveRows(Rows(x, np.zeros(len(x), np.int64)), np.arange(len(x), dtype=np.float64),
                    np.zeros(len(x), np.int64))  # fmt: skip
    grown = NO_LINEAGE.with_window({"test": live}).grown_test(digits)
    assert len(grown) == TEST_ROWS
    assert np.array_equal(grown.x[:n], digits.test.x), "its own rows come first"
    assert np.array_equal(grown.x[n:], x[len(x) - (TEST_ROWS - n) :]), "fresh rows first"
    assert NO_LINEAGE.grown_test(digits) is digits.test
    large = dataclasses.replace(digits, test=digits.train)
    assert len(NO_LINEAGE.with_window({"test": live}).grown_test(large)) == len(digits.train)


def test_a_class_that_the_data_set_cannot_judge_is_judged_by_live_rows(digits: DataSet) -> None:
    labels = np.where(digits.train.y == 3, LEFT_OUT, digits.train.y)
    large = dataclasses.replace(digits, test=digits.train)
    live = live_rows(list(range(1, 41)), [3] * 40)
    lineage = NO_LINEAGE.with_window({"test": live}).followed({"test": labels}, {"test": live})
    grown = lineage.grown_test(large)
    assert (grown.y == 3).sum() == 40
    assert len(grown) == (digits.train.y != 3).sum() + 40


def test_followed_labels_hold_for_all_that_is_made_from_the_data_set(digits: DataSet) -> None:
    swapped = np.where(digits.train.y == 3, 8, digits.train.y)
    gone = np.where(digits.test.y == 3, LEFT_OUT, digits.test.y)
    data = dataclasses.replace(digits, test_groups=np.arange(len(digits.test)))
    now = Lineage(labels={"train": swapped, "test": gone}).relabelled(data)
    assert np.array_equal(now.train.y, swapped)
    assert not (now.test.y == 3).any()
    assert len(now.test) == len(now.test_groups) == len(now.unseen_test) < len(digits.test)
    assert now.calibration is digits.calibration or np.array_equal(
        now.calibration.y, digits.calibration.y
    )
    assert NO_LINEAGE.relabelled(data) is data


def test_what_is_written_is_read_again_and_damage_is_told(digits: DataSet) -> None:
    live = {"train": live_rows([1, 2], [3, 4]), "test": live_rows([5], [6], 9.0)}
    lineage = Lineage(live, {"train": digits.train.y})
    again = Lineage.decode(lineage.encode())
    for side, rows in live.items():
        assert np.array_equal(again.live[side].rows.x, rows.rows.x)
        assert np.array_equal(again.live[side].rows.y, rows.rows.y)
        assert np.array_equal(again.live[side].at, rows.at)
    assert np.array_equal(again.labels["train"], digits.train.y)
    assert set(again.labels) == {"train"}
    with pytest.raises(BundleError, match="holds no lineage"):
        Lineage.decode(b"torn")
