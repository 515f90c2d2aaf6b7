"""Laws of the split: it depends on the rows alone, and equal rows are dealt one by one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.base.errors import DataError
from models.data import Rows, hash_shares, split
from models.data.contents import are_the_same, content_hashes, occurrences, repeated_share
from models.data.split import (
    MOST_CALIBRATION,
    Dealt,
    Division,
    beside_test,
    check_counts,
    check_parts,
    reorder,
    thirds,
)

few_values = hnp.arrays(np.float32, (60, 2), elements=st.sampled_from([0.0, 1.0, 2.0]))
labels = hnp.arrays(np.int64, 60, elements=st.integers(0, 2))


def pairs(rows: Rows) -> Counter[tuple[bytes, int]]:
    """How often each input stands there with each label."""
    return Counter((x.tobytes(), int(y)) for x, y in zip(rows.x, rows.y, strict=True))


def keys(rows: Rows) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in rows.x}


@given(few_values, labels)
def test_every_row_stands_in_one_part(x: np.ndarray, y: np.ndarray) -> None:
    parts = split(Rows(x, y))
    assert sum((pairs(part) for part in parts), Counter()) == pairs(Rows(x, y))


def test_labels_stay_with_their_rows() -> None:
    x = np.random.default_rng(0).random((90, 3)).astype(np.float32)
    y = (x[:, 0] * 5).astype(np.int64)
    for part in split(Rows(x, y)):
        np.testing.assert_array_equal((part.x[:, 0] * 5).astype(np.int64), part.y)


@given(few_values, labels, st.permutations(range(60)))
def test_split_does_not_depend_on_the_order_of_the_source(
    x: np.ndarray, y: np.ndarray, order: list[int]
) -> None:
    for part, other in zip(split(Rows(x, y)), split(Rows(x[order], y[order])), strict=True):
        np.testing.assert_array_equal(part.x, other.x)
        np.testing.assert_array_equal(part.y, other.y)


@given(few_values, labels, st.integers(1, 59))
def test_shares_of_rows_stay_when_others_are_appended(
    x: np.ndarray, y: np.ndarray, count: int
) -> None:
    np.testing.assert_array_equal(hash_shares(x, y)[:count], hash_shares(x[:count], y[:count]))


def test_equal_rows_are_dealt_as_independent_ones() -> None:
    """Of 40 equal rows a part gets a binomial number, not all or nothing."""
    x = np.repeat(np.arange(300, dtype=np.float32), 40)[:, None]
    held = split(Rows(x, np.zeros(len(x), np.int64)))[1]
    counts = np.bincount(held.x[:, 0].astype(int), minlength=300)
    assert counts.mean() == pytest.approx(8, abs=0.01)
    assert 5.0 < counts.var() < 8.0, "binomial of 40 rows at a share of .2: 6.4"


@given(hnp.arrays(np.uint64, 60, elements=st.integers(0, 3)), labels)
def test_occurrences_count_from_nought_for_every_content_and_label(
    contents: np.ndarray, y: np.ndarray
) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for number, pair in zip(occurrences(contents, y), zip(contents, y, strict=True), strict=True):
        assert number == seen[pair]
        seen[pair] += 1


@given(st.lists(st.integers(5, 60), min_size=2, max_size=5))
def test_every_class_has_its_share_of_every_part(counts: list[int]) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    parts = split(Rows(np.arange(len(y), dtype=np.float32)[:, None], y))
    for label, count in enumerate(counts):
        found = [int((part.y == label).sum()) for part in parts]
        assert min(found) >= 1
        np.testing.assert_allclose(found, np.array([0.6, 0.2, 0.2]) * count, atol=1)


def test_few_rows_change_sides_when_others_come() -> None:
    x = np.arange(4000, dtype=np.float32)[:, None]
    y = np.arange(4000) % 3
    half, whole = (split(Rows(x[:n], y[:n])) for n in (3800, 4000))
    moved = sum(len(keys(small) - keys(large)) for small, large in zip(half, whole, strict=True))
    assert moved < 0.03 * 3800


def test_shares_are_uniform() -> None:
    shares = hash_shares(np.arange(20_000, dtype=np.float32)[:, None])
    assert shares.min() >= 0
    assert shares.max() < 1
    np.testing.assert_allclose(np.histogram(shares, 10, (0, 1))[0], 2000, atol=200)


def test_shares_do_not_depend_on_the_layout_in_memory() -> None:
    x = np.random.default_rng(0).random((7, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(hash_shares(x), hash_shares(np.asfortranarray(x)))
    assert len(set(hash_shares(x))) == 7
    assert hash_shares(x[:0]).shape == (0,)


def continuous(count: int, seed: int) -> np.ndarray:
    """Rows of which no two are equal."""
    return np.random.default_rng(seed).random((count, 2))


def test_beside_a_test_part_no_row_of_it_is_trained_on() -> None:
    x, x_test = continuous(60, 0), continuous(20, 1)
    x_test[:9] = x[3:12]
    y = np.arange(60) % 3
    parts = beside_test(Dealt.of(Rows(x, y)), y, Dealt.of(Rows(x_test, y[:20])))
    assert sorted(parts.dropped) == list(range(3, 12))
    own = np.concatenate([parts.train, parts.calibration, parts.dropped])
    assert sorted(own) == list(range(60))
    assert sorted(parts.test) == list(range(20))


def test_where_repeats_are_natural_rows_of_the_test_part_stay_in_training() -> None:
    """Three answers of 1 to 5: a fresh row nearly always has an equal, and is no copy."""
    rng = np.random.default_rng(0)
    x, x_test = rng.integers(1, 6, (2000, 3)), rng.integers(1, 6, (500, 3))
    y = np.arange(2000) % 2
    parts = beside_test(Dealt.of(Rows(x, y)), y, Dealt.of(Rows(x_test, y[:500])))
    assert not len(parts.dropped)


def test_copies_are_told_from_natural_repeats_by_their_number() -> None:
    half = continuous(1000, 0)
    half[::2] = half[0]  # half of the rows are equal
    fresh = continuous(400, 1)
    fresh[::2] = half[0]
    own = content_hashes(half)
    assert repeated_share(own) == 0.5
    assert not are_the_same(own, content_hashes(fresh))
    assert are_the_same(own, content_hashes(half[200:600]))
    assert are_the_same(content_hashes(continuous(50, 2)), content_hashes(fresh))


@pytest.mark.parametrize("repeats", [1, 3])
def test_calibration_beside_a_test_part_is_a_fifth_and_at_most_the_limit(repeats: int) -> None:
    def divide(x: np.ndarray, y: np.ndarray) -> Division:
        rows = Rows(x[:, None], y)
        return beside_test(Dealt.of(rows), y, Dealt.of(rows.take(np.arange(0))))

    small = divide(np.arange(1000), np.arange(1000) % 4)
    assert len(small.calibration) == 200
    x = np.arange(40_000) // repeats
    large = divide(x, x % 7)
    assert MOST_CALIBRATION - 50 <= len(large.calibration) <= MOST_CALIBRATION
    shares = hash_shares(x[:, None], x % 7)
    assert np.all(np.diff(shares[large.train]) >= 0), "hash order is a shuffle"


def in_groups(groups: np.ndarray, y: np.ndarray) -> Dealt:
    """Different rows in groups."""
    rows = Rows(np.arange(len(y))[:, None], y)
    dealt = Dealt.of(rows)
    return Dealt(dealt.contents, dealt.shares, hash_shares(np.unique(groups)[:, None])[groups])


@given(st.integers(0, 1000))
def test_rows_of_a_group_stand_in_one_part_and_rare_classes_in_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 60, 600))
    groups = np.unique(groups, return_inverse=True)[1]
    y = rng.integers(0, 2, 600)
    for group in (2, 11, 23, 37, 41):
        y[np.flatnonzero(groups == group)[0]] = 2  # a class that stands in five groups
    dealt = in_groups(groups, y)
    parts = thirds(dealt, y)
    places = (parts.train, parts.calibration, parts.test)
    sides = [set(groups[part]) for part in places]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert sorted(np.concatenate(places)) == list(range(600))
    check_counts(y, ("a", "b", "c"), "rows", dealt.units)
    check_parts(parts, y, ("a", "b", "c"), "rows")


def test_too_few_groups_of_a_class_are_named() -> None:
    groups = np.repeat(np.arange(20), 5)
    y = (groups >= 17).astype(np.int64)
    dealt = in_groups(groups, y)
    with pytest.raises(DataError, match=r"class 'b' has 3 groups; .* at least 5 groups"):
        check_counts(y, ("a", "b"), "rows", dealt.units)
    one = Division(np.arange(80), np.arange(90, 100), np.arange(80, 90), np.arange(0))
    with pytest.raises(
        DataError, match=r"no row of 'b' is left for training; no row of 'a' is left for cal"
    ):
        check_parts(one, y, ("a", "b"), "rows")


@given(st.permutations(range(12)))
def test_reorder_in_place_is_the_permutation(order: list[int]) -> None:
    x = np.arange(24).reshape(12, 2)
    wanted = x[order]
    reorder(x, np.array(order))
    np.testing.assert_array_equal(x, wanted)


def test_classes_that_cannot_be_split_are_all_named_with_their_counts() -> None:
    y = np.array([0] * 20 + [1] * 4 + [2])
    with pytest.raises(DataError, match=r"pets: class 'dog' has 4 rows; .* at least 5 rows"):
        check_counts(y[:24], ("cat", "dog"), "pets")
    with pytest.raises(DataError, match=r"2 classes .*: 'dog' \(4 rows\), 'emu' \(1 row\); "):
        check_counts(y, ("cat", "dog", "emu"), "pets")
    with pytest.raises(DataError, match="every row has the label 'cat'"):
        check_counts(np.zeros(24, np.int64), ("cat",), "pets")
    check_counts(np.array([0, 1] * 5), ("cat", "dog"), "five rows each, whatever is in them")


def test_a_column_of_identifiers_taken_as_label_is_suspected() -> None:
    with pytest.raises(DataError, match=r"80 labels in 80 rows look like identifiers.*--label"):
        check_counts(np.arange(80), tuple(map(str, range(80))), "pets")
