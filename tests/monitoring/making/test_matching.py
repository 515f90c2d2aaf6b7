"""Laws of matching: channels say what moved, and nothing is chosen where nothing has moved."""

import numpy as np
import pytest

from models import corruptions
from models.data import DataSet, Rows
from models.data.lineage import LiveRows
from monitoring.making.matching import EXPLAINED, match_window
from monitoring.making.rows import MOST_COPIES, weigh
from tests.conftest import Published


def test_noise_is_matched_by_noise(published: Published, digits: DataSet) -> None:
    unit = digits.schema.to_unit(digits.test.x)
    x = digits.schema.from_unit(corruptions.noisy(unit, 0.25, np.random.default_rng(0)))
    match = match_window(published.bundle, digits.calibration, x, 0)
    assert "noise" in match.facts.name, match.facts.words
    assert match.facts.after <= (1 - EXPLAINED) * match.facts.before
    assert match.facts.name in match.facts.words
    assert match.apply is not None
    changed = match.apply(digits.train.x, np.random.default_rng(1))
    digits.schema.check(changed)
    assert changed.shape == digits.train.x.shape
    again = match_window(published.bundle, digits.calibration, x, 0)
    assert again.facts == match.facts, "a step that runs again chooses the same"


def test_nothing_is_chosen_where_nothing_has_moved_or_too_little_is_known(
    published: Published, digits: DataSet
) -> None:
    for x in (digits.test.x, digits.test.x[:20]):
        match = match_window(published.bundle, digits.calibration, x, 0)
        assert match.apply is None
        assert match.facts.words.startswith("none matched")


@pytest.mark.parametrize("wanted", [0, 30, 100, 10_000])
def test_newer_rows_have_more_copies_and_none_has_too_many(wanted: int) -> None:
    age = np.repeat([0, 1, 2], 100)
    x = np.arange(300, dtype=np.float32)[:, None]
    live = LiveRows(Rows(x, np.zeros(300, np.int64)), np.zeros(300), age)
    rows = weigh(live, wanted, np.random.default_rng(0))
    copies = np.bincount(rows.x[:, 0].astype(int), minlength=300)
    by_age = [copies[age == k].mean() for k in range(3)]
    assert by_age[0] > by_age[1] > by_age[2] > 0
    assert copies.max() <= MOST_COPIES
    assert copies[age == 0].min() >= 1, "a row of this window is there at least once"


@pytest.mark.parametrize("wanted", [0, 1000, 10_000])
def test_rows_sent_in_every_window_weigh_about_two_of_one_window(wanted: int) -> None:
    """Near-copies are looked for within a window: over windows their weights halve instead."""
    windows, each = 12, 1000
    age = np.repeat(np.arange(windows), each)
    sent = np.tile(np.arange(each) < 100, windows)  # a tenth of each window, the same ones again
    x = np.where(sent, age, -1)[:, None].astype(np.float32)
    live = LiveRows(Rows(x, np.zeros(len(x), np.int64)), -age.astype(np.float64), age)
    taken = weigh(live, wanted, np.random.default_rng(0)).x[:, 0]
    assert 1.8 < (taken >= 0).sum() / (taken == 0).sum() < 2.2
    assert (taken >= 0).mean() == pytest.approx(0.1, abs=0.02), "the share that one window has"
