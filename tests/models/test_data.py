"""Laws of the split: it depends on the rows alone, and no input stands on two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import data
from models.data import PARTS, DataSet, Rows, hash_shares, split
from models.errors import DataError

few_values = hnp.arrays(np.float32, (40, 2), elements=st.sampled_from([0.0, 1.0, 2.0]))


def keys(rows: Rows) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in rows.x}


@given(few_values)
def test_equal_inputs_never_stand_on_two_sides(x: np.ndarray) -> None:
    parts = split(Rows(x, np.arange(40)))
    assert sum(len(part) for part in parts) == 40
    assert len(keys(parts[0]) | keys(parts[1]) | keys(parts[2])) == sum(len(keys(p)) for p in parts)
    for part in parts:
        np.testing.assert_array_equal(part.x, x[part.y], err_msg="labels stay with their rows")


@given(few_values, st.permutations(range(40)))
def test_split_does_not_depend_on_the_order_of_the_source(x: np.ndarray, order: list[int]) -> None:
    for part, other in zip(
        split(Rows(x, x[:, 0])), split(Rows(x[order], x[order, 0])), strict=True
    ):
        np.testing.assert_array_equal(part.x, other.x)


def test_a_row_keeps_its_side_when_others_come_and_go() -> None:
    x = np.arange(2000, dtype=np.float32)[:, None]
    whole, half = (split(Rows(v, v[:, 0])) for v in (x, x[::2]))
    for small, large in zip(half, whole, strict=True):
        assert keys(small) <= keys(large)


def test_shares_are_uniform_and_the_parts_have_their_sizes() -> None:
    x = np.arange(20_000, dtype=np.float32)[:, None]
    shares = hash_shares(x)
    assert shares.min() >= 0
    assert shares.max() < 1
    np.testing.assert_allclose(np.histogram(shares, 10, (0, 1))[0], 2000, atol=200)
    sizes = [len(part) / len(x) for part in split(Rows(x, x[:, 0]))]
    np.testing.assert_allclose(sizes, [0.6, 0.2, 0.2], atol=0.02)


def test_shares_do_not_depend_on_the_layout_in_memory() -> None:
    x = np.random.default_rng(0).random((7, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(hash_shares(x), hash_shares(np.asfortranarray(x)))
    assert len(set(hash_shares(x))) == 7


def test_digits_are_whole_and_fit_their_schema(digits: DataSet) -> None:
    parts = [getattr(digits, name) for name in PARTS]
    assert sum(map(len, parts)) == 1797
    assert len(set.union(*map(keys, parts))) == 1797, "no image stands twice in the set"
    for part in parts:
        digits.schema.check(part.x)
        assert set(part.y) == set(range(10))
    assert digits.classes == tuple("0123456789")


def test_fingerprint_is_stable_and_changes_with_everything(digits: DataSet) -> None:
    again = data.load("digits")
    assert again.fingerprint == digits.fingerprint
    row = digits.test.take(np.arange(1))
    changed = [
        DataSet(digits.name, digits.schema, ("x", *digits.classes[1:]), *_parts(digits)),
        DataSet(digits.name, digits.schema, digits.classes, *_parts(digits)[::-1]),
        DataSet(digits.name, digits.schema, digits.classes, *_parts(digits)[:2], row),
    ]
    y = digits.test.y.copy()
    y[0] += 1
    relabelled = Rows(digits.test.x, y)
    changed.append(
        DataSet("digits", digits.schema, digits.classes, *_parts(digits)[:2], relabelled)
    )
    assert len({digits.fingerprint, *(c.fingerprint for c in changed)}) == 5


def _parts(digits: DataSet) -> tuple[Rows, Rows, Rows]:
    return digits.train, digits.calibration, digits.test


def test_unknown_data_set_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="unknown data set 'mnist': bundled are digits"):
        data.load("mnist")
