"""Laws of the statistics of a table's rows; `test_battery.py` has parity and absurd values."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.corruptions import tables
from models.statistics.arrays import FloatArray
from models.versions.runner import session
from models.versions.schema import Column, InputSchema
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.graph import GraphBuilder
from tests import bundles

SCHEMA = bundles.table().schema


@pytest.fixture(scope="module")
def statistics() -> TableStatistics:
    """Fitted on training rows."""
    return TableStatistics.fit(SCHEMA, SCHEMA.to_unit(bundles.table().train.x))


def asked(statistics: TableStatistics, x_unit: FloatArray) -> FloatArray:
    """The graph's answer."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", x_unit.shape[1]])
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph([], "rows", [info], []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    graph = GraphBuilder(model)
    graph.output("told", statistics.emit(graph, "x"), "batch", 2)
    told: FloatArray = session(graph.build().SerializeToString()).run(None, {"x": x_unit})[0]
    return told


def test_training_rows_are_inside_exactly_but_for_what_is_missing(
    statistics: TableStatistics,
) -> None:
    data = bundles.table()
    share = np.isnan(data.train.x).mean(axis=1)
    inside = asked(statistics, SCHEMA.to_unit(data.train.x))[:, 0]
    np.testing.assert_allclose(inside, 1 - share, atol=1e-6)
    assert set(inside[share == 0]) == {1.0}, "equal rows are equal, to the last bit"


def test_inside_falls_by_what_leaves_the_range(statistics: TableStatistics) -> None:
    rows, width = SCHEMA.to_unit(bundles.table().train.x), SCHEMA.size
    row = rows[~np.isnan(rows).any(axis=1)][:1]

    def inside(column: int, value: float) -> float:
        changed = row.copy()
        changed[0, column] = value
        return float(statistics.values(changed)[0, 0])

    for value, lost in ((1.0, 0), (1.25, 0.25), (-0.5, 0.5), (7.0, 1), (np.nan, 1), (np.inf, 1)):
        assert inside(0, value) == pytest.approx(1 - lost / width, abs=1e-6)
    for value, lost in ((0.0, 0), (2.0, 0), (-1.0, 1), (np.nan, 1)):  # three categories
        assert inside(10, value) == pytest.approx(1 - lost / width, abs=1e-6)


@pytest.mark.parametrize("name", ["out_of_range", "unseen_category", "missing", "sentinel"])
def test_stress_that_leaves_the_range_lowers_inside(name: str, statistics: TableStatistics) -> None:
    x, rng = bundles.table().test.x, np.random.default_rng(0)
    before = statistics.values(SCHEMA.to_unit(x))[:, 0]
    after = statistics.values(SCHEMA.to_unit(tables.apply(name, SCHEMA, x, 3, rng)))[:, 0]
    assert (after <= before + 1e-9).mean() > 0.9
    assert after.mean() < before.mean() - 0.02


@pytest.mark.parametrize("name", ["noise", "swapped_columns", "unit_change"])
def test_stress_that_breaks_the_bond_of_columns_moves_the_distance(
    name: str, statistics: TableStatistics
) -> None:
    x, rng = bundles.table().test.x, np.random.default_rng(0)
    before = statistics.values(SCHEMA.to_unit(x))[:, 1]
    after = statistics.values(SCHEMA.to_unit(tables.apply(name, SCHEMA, x, 5, rng)))[:, 1]
    assert np.median(after) > np.quantile(before, 0.95)


def test_distance_of_fresh_rows_is_about_one(statistics: TableStatistics) -> None:
    fresh = statistics.values(SCHEMA.to_unit(bundles.table().calibration.x))[:, 1]
    assert np.sqrt((fresh**2).mean()) == pytest.approx(1, abs=0.25), "the shrinkage takes some"


def test_constant_and_empty_columns_do_no_harm() -> None:
    columns = (
        Column("same", low=3.0, high=3.0),
        Column("never", missing=True),
        Column("only", "categorical", categories=("a",)),
    )
    schema = InputSchema("x", (3,), "float32", 0.0, 1.0, "tabular", columns)
    x = np.tile(np.array([[3.0, np.nan, 0.0]], np.float32), (30, 1))
    statistics = TableStatistics.fit(schema, schema.to_unit(x))
    told = statistics.values(schema.to_unit(x))
    np.testing.assert_allclose(told[:, 0], 2 / 3)
    np.testing.assert_allclose(told[:, 1], 0, atol=1e-9)
    moved = x + np.array([[0.5, 0, 0]], np.float32)
    assert (statistics.values(schema.to_unit(moved)) != told).all(), "a constant that moved"
