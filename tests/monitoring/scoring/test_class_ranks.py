"""Laws of cells per predicted class: who has cells, what they weigh, and the graph's twin."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.statistics.arrays import FloatArray, IntArray
from models.versions.runner import session
from models.versions.schema import OTHER_CLASSES, Column
from monitoring.scoring.cells import Cells
from monitoring.scoring.channels.columns import NumericColumn, ValueColumn
from monitoring.scoring.class_ranks import LEAST_ROWS, MOST_CLASSES, ClassRanks
from monitoring.scoring.graph import GraphBuilder

SCORES, COLUMNS = 2, 2


def predictions(counts: list[int]) -> IntArray:
    """`(n,)` so many rows of each class, in any order."""
    told = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(told)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"c{k}" for k in range(count))


def fitted(counts: list[int], seed: int = 0) -> tuple[Cells, FloatArray, IntArray]:
    """Cells of two scores, the second with many ties, and of a number of a table."""
    rng, predicted = np.random.default_rng(seed), predictions(counts)
    scores = rng.normal(size=(len(predicted), SCORES)) + predicted[:, None]
    scores[:, 1] = np.rint(scores[:, 1])
    x = rng.random((len(predicted), 2)).astype(np.float32)
    x[:, 1] = np.where(x[:, 1] > 0.3, 0, np.where(x[:, 1] > 0.2, 1, np.nan))
    flag = ValueColumn.fit("column:f", 1, Column("f", missing=True), x[:, 1])
    assert flag is not None
    columns = (NumericColumn("column:n", 0, missing=True), flag)
    cells = Cells.fit(
        ("a", "b"), scores.astype(np.float32), predicted, names(len(counts)), columns, x
    )
    return cells, np.column_stack([scores, x]).astype(np.float32), predicted


def asked(cells: Cells, values: FloatArray, predicted: IntArray, classes: int) -> IntArray:
    """The cells that the graph finds for scores, columns and one-hot logits."""
    width = SCORES + COLUMNS + classes
    plain = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", width])],
    )
    opset = helper.make_opsetid("", 18)
    graph = GraphBuilder(helper.make_model(plain, opset_imports=[opset], ir_version=9))
    ends = ((0, SCORES), (SCORES, SCORES + COLUMNS), (SCORES + COLUMNS, width))
    scores, x_unit, logits = (
        graph.op("Slice", "same", *(graph.const([k]) for k in (*end, 1))) for end in ends
    )
    count = len(cells.channels)
    found = cells.emit(graph, scores, x_unit, logits)
    graph.output("cells", found, "batch", count, kind=TensorProto.INT32)
    model: onnx.ModelProto = graph.build()
    rows = np.column_stack([values, np.eye(classes)[predicted]]).astype(np.float32)
    (told,) = session(model.SerializeToString()).run(["cells"], {"x": rows})
    return np.asarray(told)


MIXED = [LEAST_ROWS, 250, 0, LEAST_ROWS - 1, 3, 500]


def test_classes_with_rows_enough_have_ranks_and_the_others_share_theirs() -> None:
    ranks = ClassRanks.fit(predictions(MIXED), names(6))
    assert ranks.names == ("c0", "c1", "c5", OTHER_CLASSES)
    assert ranks.group_of.tolist() == [0, 1, 3, 3, 3, 2]
    whole = ClassRanks.fit(predictions([200, 200]), names(2))
    assert whole.names == ("c0", "c1"), "no group that no request can fall into"
    cells, _, _ = fitted([200, 200, 0])
    rest = cells.channels[0].groups[-1]
    assert (rest.name, rest.cells) == (OTHER_CLASSES, 1)
    assert cells.reference["a/alpha"][-1] == 1, "a class without a row weighs one open gap"


@pytest.mark.parametrize("counts", [[5000], [99] * 30, [900, 99, 1]])
def test_fewer_than_two_such_classes_are_one_group(counts: list[int]) -> None:
    cells, _, _ = fitted(counts)
    assert not cells.channels[0].groups
    assert cells.channels[0].labels[:2] == ("00", "01")
    assert len(cells.reference["a/edges"]) + 1 == len(cells.reference["a/alpha"])


def test_of_very_many_classes_the_most_frequent_have_ranks() -> None:
    counts = [LEAST_ROWS + (k * 37) % 100 for k in range(100)]
    ranks = ClassRanks.fit(predictions(counts), names(100))
    least = np.sort(counts)[-MOST_CLASSES]
    assert len(ranks.names) == MOST_CLASSES + 1
    assert all(counts[int(name[1:])] >= least for name in ranks.names[:-1])


@given(st.lists(st.integers(0, 260), min_size=2, max_size=6), st.integers(0, 5))
def test_graph_counts_the_reference_as_it_weighs_and_what_its_twin_says(
    counts: list[int], seed: int
) -> None:
    counts[0] += 2  # something to fit on
    cells, values, predicted = fitted(counts, seed)
    classes = len(counts)
    told = asked(cells, values, predicted, classes)
    for place, info in enumerate(cells.channels[:SCORES]):
        alpha, sizes = cells.reference[f"{info.name}/alpha"], [g.cells for g in info.groups]
        counted = np.bincount(told[:, place], minlength=len(alpha))
        ends = np.cumsum(sizes or [len(alpha)]) - 1
        np.testing.assert_array_equal(alpha - counted, np.isin(np.arange(len(alpha)), ends))
        assert len(info.labels) == len(alpha)
    for place, info in enumerate(cells.channels[SCORES:-1], SCORES):
        alpha = cells.reference[f"{info.name}/alpha"]
        spread = alpha - np.bincount(told[:, place], minlength=len(alpha))
        sizes = [g.cells for g in info.groups] or [len(alpha)]
        sums = np.add.reduceat(spread, np.cumsum([0, *sizes[:-1]]))
        np.testing.assert_allclose(sums, 1)
        assert (alpha > 0).all()
    rng = np.random.default_rng(seed)
    fresh = values[rng.integers(0, len(values), 50)]
    fresh[:25] += rng.normal(size=(25, SCORES + COLUMNS)).astype(np.float32)
    wherever = rng.integers(0, classes, 50)
    told = asked(cells, fresh, wherever, classes)
    expected = cells.score_cells(fresh[:, :SCORES], wherever)
    np.testing.assert_array_equal(told[:, :SCORES], expected)
    columns = cells.column_cells(fresh[:, SCORES:], wherever)
    for place, info in enumerate(cells.channels[SCORES:-1], SCORES):
        np.testing.assert_array_equal(told[:, place], columns[info.name])
    np.testing.assert_array_equal(told[:, -1], wherever)


def test_columns_of_many_classes_have_fewer_groups_than_scores() -> None:
    cells, values, predicted = fitted([150] * 10)
    score, number = cells.channels[0], cells.channels[SCORES]
    assert len(score.groups) == 10
    assert [g.name for g in number.groups] == [*names(8), OTHER_CLASSES]
    assert number.labels[-1] == "missing"
    told = asked(cells, values, predicted, 10)
    first = sum(g.cells for g in number.groups[:-1])
    np.testing.assert_array_equal(told[:, SCORES] >= first, predicted >= 8)


@pytest.mark.parametrize("place", range(SCORES + COLUMNS))
def test_class_mix_moves_no_cell_within_a_class(place: int) -> None:
    cells, values, predicted = fitted([400, 400])
    info = cells.channels[place]
    rng = np.random.default_rng(1)
    drawn = np.concatenate(
        [rng.choice(np.flatnonzero(predicted == k), size) for k, size in ((0, 3600), (1, 400))]
    )
    told = asked(cells, values[drawn], predicted[drawn], 2)[:, place]
    alpha, first = cells.reference[f"{info.name}/alpha"], info.groups[0].cells
    for own in (slice(0, first), slice(first, None)):
        share = (
            np.bincount(told, minlength=len(alpha))[own]
            / np.bincount(predicted[drawn])[0 if own.start == 0 else 1]
        )
        np.testing.assert_allclose(share, alpha[own] / alpha[own].sum(), atol=0.1)
