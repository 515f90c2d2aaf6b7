"""Laws of the split: it depends on the rows alone, and no input stands on two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.base.errors import DataError
from models.data import Rows, hash_shares, split
from models.data.split import MOST_CALIBRATION, beside_test, check_counts, reorder

few_values = hnp.arrays(np.float32, (60, 2), elements=st.sampled_from([0.0, 1.0, 2.0]))
labels = hnp.arrays(np.int64, 60, elements=st.integers(0, 2))


def keys(rows: Rows) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in rows.x}


@given(few_values, labels)
def test_equal_inputs_never_stand_on_two_sides_whatever_their_labels(
    x: np.ndarray, y: np.ndarray
) -> None:
    parts = split(Rows(x, y))
    assert sum(len(part) for part in parts) == 60
    assert len(keys(parts[0]) | keys(parts[1]) | keys(parts[2])) == sum(len(keys(p)) for p in parts)


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


@given(few_values, labels, few_values)
def test_beside_a_test_part_nothing_of_it_is_trained_on(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray
) -> None:
    shares, test_shares = hash_shares(x), hash_shares(x_test[:5])
    parts = beside_test(shares, y, test_shares)
    own = np.concatenate([parts.train, parts.calibration, parts.dropped])
    assert sorted(own) == list(range(60))
    assert not set(shares[parts.train]) & set(shares[parts.calibration])
    assert not (set(shares[parts.train]) | set(shares[parts.calibration])) & set(test_shares)
    assert set(shares[parts.dropped]) <= set(test_shares)
    assert sorted(parts.test) == list(range(5))


@pytest.mark.parametrize("repeats", [1, 3])
def test_calibration_beside_a_test_part_is_a_fifth_and_at_most_the_limit(repeats: int) -> None:
    empty = np.zeros(0)
    small = beside_test(hash_shares(np.arange(1000)[:, None]), np.arange(1000) % 4, empty)
    assert len(small.calibration) == 200
    x = (np.arange(40_000) // repeats)[:, None]
    large = beside_test(hash_shares(x), np.arange(40_000) // repeats % 7, empty)
    assert MOST_CALIBRATION - 50 <= len(large.calibration) <= MOST_CALIBRATION
    assert np.all(np.diff(hash_shares(x)[large.train]) >= 0), "hash order is a shuffle"


@given(st.permutations(range(12)))
def test_reorder_in_place_is_the_permutation(order: list[int]) -> None:
    x = np.arange(24).reshape(12, 2)
    wanted = x[order]
    reorder(x, np.array(order))
    np.testing.assert_array_equal(x, wanted)


def test_a_class_that_cannot_be_split_is_named_with_its_count() -> None:
    shares, y = hash_shares(np.arange(24)[:, None]), np.array([0] * 20 + [1] * 4)
    with pytest.raises(DataError, match=r"pets: class 'dog' has 4 rows; .* at least 5"):
        check_counts(shares, y, ("cat", "dog"), "pets")
    repeated = hash_shares(np.minimum(np.arange(40), 22)[:, None])
    with pytest.raises(DataError, match=r"class 'dog' has 20 rows \(3 different ones\)"):
        check_counts(repeated, np.array([0] * 20 + [1] * 20), ("cat", "dog"), "pets")
    with pytest.raises(DataError, match="every row has the label 'cat'"):
        check_counts(shares, np.zeros(24, np.int64), ("cat",), "pets")


def test_a_column_of_identifiers_taken_as_label_is_suspected() -> None:
    shares = hash_shares(np.arange(80)[:, None])
    with pytest.raises(DataError, match=r"80 labels in 80 rows look like identifiers.*--label"):
        check_counts(shares, np.arange(80), tuple(map(str, range(80))), "pets")
