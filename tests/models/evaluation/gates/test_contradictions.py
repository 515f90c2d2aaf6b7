"""Laws of the referee's judgement: honest labels pass, poison in every shape does not."""

import numpy as np
import pytest

from models.evaluation.gates.changed_labels import find_changes, judge_changes
from models.evaluation.gates.contradictions import (
    count_confident,
    first_of,
    judge_labels,
    judge_precision,
    number_contents,
)

NAMES = tuple("abcdefghij")
ROWS = 600


def opinion(seed: int, wrong: float = 0.02, sure: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(600, 10)` and true labels; a share is wrong, a share is sure."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, ROWS)
    named = np.where(rng.random(ROWS) < wrong, rng.integers(0, 10, ROWS), y)
    height = np.where(rng.random(ROWS) < sure, 0.95, 0.3)
    p = np.repeat((1 - height)[:, None] / 9, 10, axis=1)
    p[np.arange(ROWS), named] = height
    return p, y


def usual() -> np.ndarray:
    """The confusion on rows whose labels are right."""
    return sum(count_confident(*opinion(1000 + k)) for k in range(4))


@pytest.mark.parametrize("seed", range(20))
def test_honest_labels_pass_and_nearly_all_rows_are_kept(seed: int) -> None:
    p, y = opinion(seed)
    clients = [f"c{k % 10}" for k in range(ROWS)]
    refereed = judge_labels(p, y, NAMES, usual(), clients)
    assert refereed.check.verdict == "pass", refereed.check.detail
    assert refereed.aside == ()
    assert refereed.kept.mean() > 0.95
    assert judge_precision(p, y, NAMES, usual()).verdict == "pass"
    assert find_changes(p, y, clients) == ()


@pytest.mark.parametrize("seed", range(10))
def test_classes_that_overlap_are_no_poison_and_flips_on_top_of_them_are(seed: int) -> None:
    overlapping = sum(count_confident(*opinion(2000 + k, wrong=0.16)) for k in range(4))
    p, y = opinion(seed, wrong=0.16)
    honest = judge_labels(p, y, NAMES, overlapping).check
    assert honest.verdict == "pass", honest.detail
    assert judge_labels(p, y, NAMES, usual()).check.verdict == "fail", "that is not usual there"
    rng = np.random.default_rng(seed)
    flipped = np.where(rng.random(ROWS) < 0.2, rng.integers(0, 10, ROWS), y)
    assert judge_labels(p, flipped, NAMES, overlapping).check.verdict != "pass"


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_rows_of_many_classes_labelled_as_one_look_like_a_trigger(share: float) -> None:
    p, y = opinion(1)
    bad = np.random.default_rng(2).random(ROWS) < share
    y[bad] = 3
    check = judge_labels(p, y, NAMES, usual()).check
    assert check.verdict == "fail"
    assert "labelled 'd'" in check.detail
    assert "a trigger" in check.detail


def test_a_pattern_that_the_referee_always_has_is_no_poison() -> None:
    p, y = opinion(1)
    p2, y2 = opinion(2)
    for q, labels, n in ((p, y, 12), (p2, y2, 60)):  # it mistakes j for others, here and elsewhere
        places = np.flatnonzero((labels != 9) & (q.max(axis=1) > 0.9))[:n]
        labels[places] = 9
    assert judge_labels(p, y, NAMES, usual()).check.verdict == "fail"
    assert judge_labels(p, y, NAMES, count_confident(p2, y2)).check.verdict == "pass"


def test_flips_fail_and_flips_of_a_third_are_beyond_judging() -> None:
    for share, verdict in ((0.15, "fail"), (0.35, "unknown")):
        p, y = opinion(3)
        bad = np.random.default_rng(4).random(ROWS) < share
        y[bad] = (y[bad] + np.random.default_rng(5).integers(1, 10, bad.sum())) % 10
        refereed = judge_labels(p, y, NAMES, usual())
        assert refereed.check.verdict == verdict, refereed.check.detail
        assert (refereed.kept & bad).sum() <= 0.15 * bad.sum()


def test_a_moved_window_is_refused_for_twice_as_many_contradictions_only() -> None:
    for share, verdict in ((0.05, "pass"), (0.13, "unknown"), (0.25, "fail")):
        p, y = opinion(3)
        bad = np.random.default_rng(4).random(ROWS) < share
        y[bad] = (y[bad] + np.random.default_rng(5).integers(1, 10, bad.sum())) % 10
        p[bad] = np.where(p[bad] < 0.1, 0.11, p[bad])  # the filter would drop none of them
        assert judge_labels(p, y, NAMES, usual(), moved=True).check.verdict == verdict


def test_a_bad_client_is_set_aside_and_the_others_pass() -> None:
    p, y = opinion(5)
    clients = np.array([f"c{k % 10}" for k in range(ROWS)])
    bad = clients == "c3"
    y[bad] = (y[bad] + 1 + np.arange(bad.sum()) % 9) % 10
    refereed = judge_labels(p, y, NAMES, usual(), clients)
    assert refereed.aside == ("c3",)
    assert refereed.check.detail.endswith("; 60 rows of 1 of the clients are set aside")
    assert not refereed.kept[bad].any()
    assert refereed.check.verdict == "pass", refereed.check.detail


def test_a_referee_that_is_sure_of_little_says_unknown_and_so_does_one_without_rows() -> None:
    p, y = opinion(6, sure=0.2)
    assert judge_labels(p, y, NAMES, usual()).check.verdict == "unknown"
    assert judge_labels(p[:0], y[:0], NAMES, usual()).check.verdict == "unknown"
    assert judge_changes((), NAMES, 0).verdict == "unknown"


def test_a_class_that_is_labelled_as_another_is_told_and_held_for_a_person() -> None:
    p, y = opinion(7)
    y[y == 4] = 9
    assert judge_labels(p, y, NAMES, usual()).check.verdict == "unknown"
    assert judge_precision(p, y, NAMES, usual()).verdict == "fail"
    assert judge_precision(p, y, NAMES, usual(), excused=[4]).verdict == "pass"
    (change,) = find_changes(p, y)
    assert (change.old, change.new) == (4, 9)
    check = judge_changes((change,), NAMES, ROWS)
    assert check.verdict == "unknown"
    assert "'e' is labelled 'j' now" in check.detail


@pytest.mark.parametrize(("share", "verdict"), [(0.18, "unknown"), (0.5, "fail")])
def test_precision_that_falls_a_little_is_unknown_in_moved_rows(share: float, verdict: str) -> None:
    p, y = opinion(9)
    p, y = np.concatenate([p] * 4), np.concatenate([y] * 4)
    changed = (y == 4) & (np.random.default_rng(1).random(len(y)) < share)
    y[changed] = 9
    assert judge_precision(p, y, NAMES, usual(), moved=True).verdict == verdict
    assert judge_precision(p, y, NAMES, usual()).verdict == "fail", "inputs as ever excuse nothing"


def test_one_loud_client_changes_no_class() -> None:
    p, y = opinion(8)
    clients = np.where(np.arange(ROWS) < 450, "loud", [f"c{k % 10}" for k in range(ROWS)])
    y[(y == 4) & (clients == "loud")] = 9
    assert find_changes(p, y, clients) == ()
    assert len(find_changes(p, y)) == 1, "without clients it would have looked so"


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_are_sent_again_and_again_are_no_pattern(seed: int) -> None:
    """A few inputs that the referee mistakes, each of them sent ten times by one client."""
    p, y = opinion(seed)
    odd = np.flatnonzero(p.max(axis=1) > 0.9)[:3]
    y[odd] = 5
    p[odd] = 0.005
    p[odd, 2] = 0.955
    places = np.concatenate([np.arange(ROWS), np.repeat(odd, 30)])
    contents, clients = number_contents(places[:, None], y[places]), ["one"] * len(places)
    assert judge_labels(p[places], y[places], NAMES, usual(), clients).check.verdict != "pass"
    refereed = judge_labels(p[places], y[places], NAMES, usual(), clients, contents)
    assert refereed.check.verdict == "pass", refereed.check.detail
    assert refereed.counted.sum() == ROWS
    assert not refereed.kept[ROWS:].any(), "and none of them is trained on"
    others = ["one" if k % 4 == 0 else f"c{k % 9}" for k in range(ROWS)] + clients[ROWS:]
    assert judge_labels(p[places], y[places], NAMES, usual(), others, contents).aside == ()


def test_a_window_without_rows_has_no_contents() -> None:
    contents = number_contents(np.zeros((0, 1, 8, 8)), np.zeros(0, np.int64))
    assert contents.shape == first_of(contents, ()).shape == first_of(contents).shape == (0,)
