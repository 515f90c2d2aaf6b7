"""Laws of the channels that look at columns together; the battery has parity and absurd values."""

import numpy as np
import pytest

from models.statistics.arrays import FloatArray
from models.versions.schema import Column, InputSchema
from monitoring.scoring.channels.chow_liu import ChowLiu, grow_tree
from monitoring.scoring.channels.shuffled_rows import ShuffledRow
from monitoring.scoring.inputs import PlainAnswers

COLUMNS = (
    Column("a"),
    Column("b", missing=True),
    Column("kind", "categorical", categories=("x", "y", "z")),
    Column("steps"),
)
SCHEMA = InputSchema("row", (4,), "float32", 0.0, 1.0, "tabular", COLUMNS)


def rows(count: int, seed: int) -> FloatArray:
    """`b` follows `a`, `kind` says which third `a` lies in, `steps` is 0, .5 or 1."""
    rng = np.random.default_rng(seed)
    a = rng.random(count)
    b = np.where(rng.random(count) < 0.05, np.nan, np.clip(a + 0.03 * rng.normal(size=count), 0, 1))
    steps = rng.integers(0, 3, count) / 2
    return np.column_stack([a, b, np.minimum(a * 3, 2).astype(int), steps]).astype(np.float32)


def apart(x: FloatArray) -> FloatArray:
    """Every column in an order of its own."""
    rng = np.random.default_rng(9)
    return np.stack([rng.permutation(column) for column in x.T], axis=1)


def ask(channel: ChowLiu | ShuffledRow | None, x: FloatArray) -> FloatArray:
    """Scores of rows in the unit range."""
    assert channel is not None
    return channel.scores(PlainAnswers(x.astype(np.float32), x, x))


def share_flagged(usual: FloatArray, strange: FloatArray) -> float:
    """Strange rows above the .99 quantile of fresh ones."""
    return float((strange > np.quantile(usual, 0.99)).mean())


@pytest.mark.parametrize("kind", [ChowLiu, ShuffledRow])
def test_rows_with_columns_of_other_rows_are_strange(
    kind: type[ChowLiu] | type[ShuffledRow],
) -> None:
    channel, fresh = kind.fit(SCHEMA, rows(1000, 0)), rows(1000, 1)
    assert share_flagged(ask(channel, fresh), ask(channel, apart(fresh))) > 0.5


def test_tree_joins_what_hangs_together_and_leaves_the_rest() -> None:
    tree = ChowLiu.fit(SCHEMA, rows(2000, 0))
    assert tree is not None
    joined = (tree.strides > 1).sum()
    assert joined == 2, "a with b, a (or b) with kind; steps with nothing"
    assert not (tree.strides[:, 3] > 1).any()


def test_tree_is_a_probability() -> None:
    x = rows(500, 0)[:, 2:]
    schema = InputSchema("row", (2,), "float32", 0.0, 1.0, "tabular", COLUMNS[2:])
    tree = ChowLiu.fit(schema, x)
    # A row for every pair of bins: unseen, the categories, beyond, missing; and beside the steps.
    kinds = [np.nan, -1, 0, 1, 2, 3]
    steps = [np.nan, -1, 0, 0.2, 0.5, 0.7, 1, 2]
    every = np.array([[a, b] for a in kinds for b in steps], np.float32)
    assert np.exp(-ask(tree, every)).sum() == pytest.approx(1, abs=1e-4)


def test_value_between_the_few_ones_is_unlikely() -> None:
    tree, x = ChowLiu.fit(SCHEMA, rows(1000, 0)), rows(200, 1)
    between = x.copy()
    between[:, 3] = 0.3
    assert (ask(tree, between) > ask(tree, x) + 3).all()


def test_heaviest_forest_is_grown_from_any_weights() -> None:
    weights = np.zeros((4, 4))
    for a, b, w in ((0, 1, 1.0), (1, 2, 5.0), (0, 2, 3.0)):
        weights[a, b] = weights[b, a] = w
    parents = grow_tree(weights)
    edges = {frozenset((k, p)) for k, p in enumerate(parents) if p >= 0}
    assert edges == {frozenset((1, 2)), frozenset((0, 2))}
    assert parents.count(-1) == 2


def test_net_is_the_same_for_the_same_seed_and_absent_where_nothing_can_be_shuffled() -> None:
    x = rows(200, 0)
    first, again = ShuffledRow.fit(SCHEMA, x, 3), ShuffledRow.fit(SCHEMA, x, 3)
    np.testing.assert_array_equal(ask(first, x), ask(again, x))
    x[:, 1:] = x[:1, 1:]
    x[:, 1] = 0.5
    one = InputSchema("row", (2,), "float32", 0.0, 1.0, "tabular", COLUMNS[:2])
    assert ShuffledRow.fit(one, x[:, :2]) is None


def test_missing_values_and_constant_columns_do_no_harm() -> None:
    x = rows(300, 0)
    x[:, 1], x[:, 3] = np.nan, 0.5
    for channel in (ChowLiu.fit(SCHEMA, x), ShuffledRow.fit(SCHEMA, x)):
        assert np.isfinite(ask(channel, x)).all()
        assert np.isfinite(ask(channel, np.full((1, 4), np.nan))).all()
