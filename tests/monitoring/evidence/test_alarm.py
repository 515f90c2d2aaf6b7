"""Laws of what an alarm tells: bins keep every request, words keep the figure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.alarm import (
    MOST_BINS,
    REST,
    bins,
    cell_label,
    merge_groups,
    promise,
    span,
)

weights = st.lists(st.integers(0, 50), min_size=2, max_size=90).filter(lambda w: sum(w) > 0)


@given(weights, st.randoms(use_true_random=False), st.booleans())
def test_bins_are_few_and_keep_every_request(
    counts: list[int], random: object, scores: bool
) -> None:
    before = np.array(counts) / sum(counts)
    after = before[::-1]
    edges = np.linspace(9, -9, len(counts) - 1) if scores else None
    labels = tuple(f"{g:02}" for g in range(len(counts)))
    told = bins(labels, edges, before, after)
    assert 1 <= len(told) <= MOST_BINS
    assert sum(b.before for b in told) == pytest.approx(1)
    assert sum(b.after for b in told) == pytest.approx(1)
    assert len({b.label for b in told}) == len(told)


def test_bins_of_scores_rise_and_show_the_tails() -> None:
    before = np.full(100, 0.01)
    told = bins(("",) * 100, np.arange(99, 0, -1.0), before, before)
    assert [b.label for b in told][:2] == ["below 1", "1 to 5"]
    assert told[-1].label == "99 and above"
    assert told[-1].before == pytest.approx(0.01)


def test_bins_of_many_classes_name_those_that_moved() -> None:
    before = np.full(50, 0.02)
    after = before.copy()
    after[[7, 30]] = 0.0, 0.04
    labels = tuple(f"class {k}" for k in range(50))
    told = {b.label: b for b in bins(labels, None, before, after)}
    assert {"class 7", "class 30", REST} < set(told)
    assert told["class 7"].after == 0


def test_bins_of_ranks_within_classes_merge_the_classes() -> None:
    before = np.concatenate([np.full(100, 0.007), np.full(50, 0.006)])
    after = np.zeros(150)
    after[[0, 100]] = 0.7, 0.3  # the highest cell of either class
    told = bins(("",) * 150, None, before, after, (100, 50))
    assert len(told) == MOST_BINS
    assert sum(b.before for b in told) == pytest.approx(1)
    assert (told[-1].label, told[0].label) == ("the highest 1 %", "the lowest 1 %")
    assert told[-1].after == pytest.approx(0.7)  # of the other class the cell reaches beyond 1 %
    assert told[-2].after == pytest.approx(0.3)


def test_bins_of_a_column_merge_the_classes_and_keep_what_is_missing_apart() -> None:
    labels = ("00", "01", "missing") * 2
    before, after = np.array([0.1, 0.3, 0.1, 0.1, 0.3, 0.1]), np.array([0.1, 0.1, 0.3] * 2)
    told = bins(labels, None, before, after, (3, 3))
    assert told[0].label == "missing"
    assert (told[0].before, told[0].after) == pytest.approx((0.2, 0.6))
    assert sum(b.after for b in told) == pytest.approx(1)
    assert merge_groups(2, before).tolist() == pytest.approx([0.2, 0.6, 0.2])


def test_cell_is_told_by_the_scores_it_holds() -> None:
    edges = np.array([3.0, 1.0])
    told = [cell_label(("00", "01", "02"), edges, g) for g in range(3)]
    assert told == ["3 and above", "1 to 3", "below 1"]
    assert cell_label(("cat", "dog"), None, 1) == "dog"


def test_promise_says_requests_and_time_or_that_the_rate_is_unknown() -> None:
    assert promise(1e6, 100.0).endswith("in 3 hours at 100 requests a second")
    assert promise(1e4, None).startswith("at most one false alarm in 10,000 requests")
    assert "not known yet" in promise(1e4, 0.0)
    assert "if requests come independently from one distribution" in promise(1e4, 0.0)
    assert span(5) == "5 seconds"
