"""Laws of columns as channels: safe names, every value in a cell, bounds, alarms in words."""

import re

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.arrays import FloatArray
from models.versions.schema import Column, InputSchema
from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.channels import StreamEvidence
from monitoring.scoring.cells import Cells
from monitoring.scoring.channels.columns import (
    MAX_CATEGORIES,
    MAX_COLUMNS,
    CategoryColumn,
    NumericColumn,
    choose_columns,
)
from tests import bundles


def schema_of(*columns: Column) -> InputSchema:
    """A table of these columns, numbers in unit range."""
    return InputSchema("row", (len(columns),), "float32", 0.0, 1.0, "tabular", columns)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_names_are_distinct_and_safe_as_a_label_a_file_and_a_key(names: list[str]) -> None:
    x = np.random.default_rng(0).random((30, len(names))).astype(np.float32)
    made = choose_columns(schema_of(*map(Column, names)), x, np.arange(30) % 2)
    told = [column.name for column in made]
    assert len(set(told)) == len(names)
    assert all(re.fullmatch(r"column:[\w\-. ~]*", name) for name in told)
    assert not {"energy", "class", "file"} & set(told)


def test_channels_called_like_columns_do_not_meet() -> None:
    x = np.random.default_rng(0).random((30, 3)).astype(np.float32)
    schema = schema_of(Column("energy"), Column("class"), Column("class"))
    made = choose_columns(schema, x, np.arange(30) % 2)
    assert [c.name for c in made] == ["column:energy", "column:class", "column:class~2"]


def test_reference_weighs_every_cell_and_sums_to_n_plus_one() -> None:
    data = bundles.table()
    fit, held = (data.schema.to_unit(part.x) for part in (data.train, data.calibration))
    made = choose_columns(data.schema, fit, data.train.y)
    assert len(made) == len(data.schema.columns)
    cells = Cells.fit([], np.zeros((len(held), 0)), data.calibration.y, ("a", "b", "c"), made, held)
    for channel in cells.channels:
        alpha = cells.reference[f"{channel.name}/alpha"]
        assert len(alpha) == len(channel.labels) <= 20
        assert alpha.sum() == pytest.approx(len(held) + 1)
        assert alpha.min() > 0, "a cell without weight would refuse requests"
    labels = {c.name: c.labels for c in cells.channels}
    assert labels["column:colour"] == ("red", "green", "blue", "unseen")
    assert labels["column:size"] == ("S", "L", "unseen", "missing")
    assert labels["column:n9"][-1] == "missing"
    assert "missing" not in labels["column:n0"]


def test_missing_has_a_cell_of_its_own_or_the_lowest() -> None:
    x = np.linspace(0, 1, 101, dtype=np.float32)[:, None]
    odd = np.array([[np.nan], [-1e30], [-np.inf], [0.5], [np.inf]], np.float32)
    for missing in (False, True):
        column = NumericColumn("column:a", 0, missing)
        edges = column.edges(x)
        told = column.cells(odd, edges)
        last = len(edges)
        assert told[0] == last
        assert told[1] == told[2] == (last - 1 if missing else last)
        assert 0 == told[4] < told[3] < told[1]


def test_categories_beyond_the_table_are_unseen_and_rare_ones_share_a_cell() -> None:
    names = tuple(f"c{k}" for k in range(100))
    column = Column("town", "categorical", categories=names)
    rng = np.random.default_rng(0)
    values = np.minimum(rng.geometric(0.1, 2000) - 1, 99).astype(np.float32)
    made = CategoryColumn.fit("column:town", 0, column, values)
    assert made.labels[-2:] == ("other", "unseen")
    assert len(made.labels) == MAX_CATEGORIES + 2
    told = [
        made.labels[c] for c in made.cells(np.array([[0.0], [99], [-1], [100], [np.nan], [1e30]]))
    ]
    assert told == ["c0", "other", "unseen", "unseen", "unseen", "unseen"]


def test_wide_table_keeps_the_columns_that_tell_most() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1000)
    x = rng.random((1000, 500)).astype(np.float32)
    telling = rng.choice(500, 20, replace=False)
    x[:, telling] += y[:, None] * 0.5
    made = choose_columns(schema_of(*(Column(f"n{k}") for k in range(500))), x, y)
    assert len(made) == MAX_COLUMNS
    assert set(telling) <= {c.index for c in made}
    assert [c.index for c in made] == sorted(c.index for c in made)


def test_columns_without_a_value_or_with_one_are_left_out() -> None:
    x = np.array([[3.0, np.nan, 0.1], [3.0, np.nan, 0.2]] * 20, np.float32)
    schema = schema_of(Column("same"), Column("never", missing=True), Column("real"))
    made = choose_columns(schema, x, np.arange(40) % 2)
    assert [c.name for c in made] == ["column:real"]
    held = np.where(np.arange(3) == 2, np.nan, x)
    cells = Cells.fit(["s"], np.arange(40.0)[:, None], np.arange(40) % 2, ("a", "b"), made, held)
    assert [c.name for c in cells.channels] == ["s", "class"], "never known in the reference"


def stream(rows: int) -> tuple[Cells, StreamEvidence, FloatArray]:
    """Evidence over the table's columns alone, and fresh rows like the reference."""
    data = bundles.table()
    held = data.schema.to_unit(np.concatenate([data.calibration.x, data.test.x[:50]]))
    made = choose_columns(data.schema, data.schema.to_unit(data.train.x), data.train.y)
    predicted = np.arange(len(held)) % 3
    cells = Cells.fit([], np.zeros((len(held), 0)), predicted, ("a", "b", "c"), made, held)
    references = [
        ChannelReference(c.name, c.kind, cells.reference[f"{c.name}/alpha"], c.labels)
        for c in cells.channels
        if c.kind != "class"
    ]
    fresh = data.schema.to_unit(data.test.x[50 : 50 + rows])
    return cells, StreamEvidence(references, c=1e4), fresh


def weigh(cells: Cells, evidence: StreamEvidence, x_unit: FloatArray) -> None:
    """Count the rows and weigh them in pieces of ten, as a watcher does."""
    for start in range(0, len(x_unit), 10):
        part = x_unit[start : start + 10]
        counts = {}
        for column in cells.numbers:
            counts[column.name] = column.cells(part, cells.reference[f"{column.name}/edges"])
        for category in cells.categories:
            counts[category.name] = category.cells(part)
        evidence.update(
            {
                name: np.bincount(c, minlength=len(cells.reference[f"{name}/alpha"]))
                for name, c in counts.items()
            }
        )


@pytest.mark.parametrize(
    ("column", "value", "channel", "says"),
    [
        (10, -1.0, "column:colour", "unseen at"),
        (11, np.nan, "column:size", "missing at"),
        (9, np.nan, "column:n9", "lower than the reference"),
        (0, 2.0, "column:n0", "higher than the reference"),
    ],
)
def test_column_that_breaks_raises_an_alarm_that_names_it(
    column: int, value: float, channel: str, says: str
) -> None:
    cells, evidence, fresh = stream(200)
    weigh(cells, evidence, fresh)
    assert evidence.alarm is None, "clean rows do not alarm"
    broken = fresh.copy()
    broken[::4, column] = value
    weigh(cells, evidence, broken)
    alarm = evidence.alarm
    assert alarm is not None
    assert alarm.channel == channel
    assert alarm.words.startswith(f"{channel}: {says}")


def test_graph_finds_the_same_cells() -> None:
    made = bundles.prepared("asked")
    assert isinstance(made.model, onnx.ModelProto)
    kinds = {c.name: c.kind for c in made.channels}
    assert kinds["column:colour"] == "category"
    assert kinds["column:n0"] == "score"
    from models.versions.runner import session

    data = bundles.table()
    columns = {
        c.name: c
        for c in choose_columns(data.schema, data.schema.to_unit(data.train.x), data.train.y)
    }
    (told,) = session(made.model.SerializeToString()).run(["cells"], {"row": data.test.x})
    unit = data.schema.to_unit(data.test.x)
    for place, info in enumerate(made.channels):
        column = columns.get(info.name)
        if isinstance(column, NumericColumn):
            expected = column.cells(unit, made.reference[f"{info.name}/edges"])
        elif isinstance(column, CategoryColumn):
            expected = column.cells(unit)
        else:
            continue
        np.testing.assert_array_equal(told[:, place], expected)
