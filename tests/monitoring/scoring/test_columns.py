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
    ValueColumn,
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
    own = data.calibration.y
    cells = Cells.fit([], np.zeros((len(held), 0)), own, ("a", "b", "c"), made, held)
    for channel in cells.channels:
        alpha = cells.reference[f"{channel.name}/alpha"]
        sizes = [group.cells for group in channel.groups] or [len(alpha)]
        assert len(alpha) == len(channel.labels)
        assert max(sizes) <= 20
        assert alpha.sum() == pytest.approx(len(held) + len(sizes)), "one request in each class"
        assert alpha.min() > 0, "a cell without weight would refuse requests"
    labels = {c.name: c.labels for c in cells.channels}
    classes = len(cells.column_ranks.names) or 1
    assert labels["column:colour"] == ("red", "green", "blue", "unseen") * classes
    assert labels["column:size"] == ("S", "L", "unseen", "missing") * classes
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


def test_numbers_with_hardly_a_value_but_one_have_cells_of_values() -> None:
    x = np.zeros((400, 4), np.float32)
    x[:, 0], x[:, 1], x[::2, 2], x[:, 3] = 3, np.nan, 1, np.linspace(0, 1, 400)
    x[::100, 3] = 7
    columns = (
        Column("same", low=3, high=3), Column("never", missing=True), Column("flag"), Column("real")
    )  # fmt: skip
    made = choose_columns(schema_of(*columns), x - [3, 0, 0, 0], np.arange(400) % 2)
    labels = {c.name: getattr(c, "labels", None) for c in made}
    assert labels == {
        "column:real": None,
        "column:same": ("3", "other value"),
        "column:never": ("other value", "missing"),
        "column:flag": ("0", "1", "other value"),
    }
    held = np.where(np.arange(4) == 3, np.nan, x)
    cells = Cells.fit(["s"], np.arange(400.0)[:, None], np.arange(400) % 2, ("a", "b"), made, held)
    told = [c.name for c in cells.channels]
    assert told == ["s", "column:same", "column:never", "column:flag", "class"], (
        "ranks of a number that is never known in the reference"
    )


def test_value_column_finds_its_values_and_nothing_beside_them() -> None:
    x = np.repeat(np.float32([0, 0.3, 1]), [1970, 20, 10])[:, None]
    column = Column("n", low=10, high=20, missing=True)
    made = ValueColumn.fit("column:n", 0, column, x[:, 0])
    assert made is not None
    assert made.labels == ("10", "13", "20", "other value", "missing")
    beside = np.nextafter(np.float32(0.3), np.float32(1))
    odd = np.float32([0, 0.3, 1, 1e-6, -1e-6, beside, 2, np.inf, -np.inf, -3e38, np.nan])
    told = [made.labels[cell] for cell in made.cells(odd[:, None])]
    assert told == ["10", "13", "20", *["other value"] * 7, "missing"]
    assert made.weights(x[:-10]).tolist() == [1970.2, 20.2, 0.2, 0.2, 0.2]
    amounts = np.where(np.arange(2000) % 100 == 0, np.arange(2000) / 2000, 0)
    told_of_amounts = ValueColumn.fit("column:n", 0, Column("n"), amounts.astype(np.float32))
    assert told_of_amounts is not None
    assert told_of_amounts.labels == ("0", "other value")
    assert ValueColumn.fit("column:n", 0, column, np.arange(30) % 3 / np.float32(2)) is None


def test_rare_value_among_few_has_a_cell_of_its_own() -> None:
    x = np.repeat(np.float32([0, 0.5, 1]), [600, 399, 1])[:, None]
    column = NumericColumn("column:n", 0, missing=False)
    assert column.weights(x, column.edges(x)).tolist() == [1, 399, 600, 1]


@pytest.mark.parametrize(
    ("share", "value", "moved", "says"),
    [
        (0.002, 1.0, 0.05, "1 at "),  # a flag
        (0.0, 1.0, 0.05, "other value at "),  # one that nobody has seen raised
        (0.0, 7.0, 0.02, "(other value|0) at "),  # few hits: a bet on fewer zeros may win
    ],
)
def test_flag_that_is_hardly_ever_raised_is_watched(
    share: float, value: float, moved: float, says: str
) -> None:
    rng = np.random.default_rng(0)

    def rows(count: int, raised: float) -> FloatArray:
        x = rng.random((count, 2)).astype(np.float32)
        x[:, 1] = np.where(rng.random(count) < raised, value, 0)
        return x

    table = rows(2000, share)
    if share:
        table[:4, 1] = value  # four in 2000 rows, as it happens
    rng.shuffle(table)
    made = choose_columns(schema_of(Column("n"), Column("flag")), table[:600], np.arange(600) % 2)
    held = table[1200:1600]
    cells = Cells.fit([], np.zeros((400, 0)), np.arange(400) % 2, ("a", "b"), made, held)
    (reference,) = (c for c in references(cells) if c.name == "column:flag")
    assert len(reference.groups) == 2
    evidence = StreamEvidence([reference], c=1e6)

    def send(count: int, raised: float) -> None:
        told = cells.column_cells(rows(count, raised), np.arange(count) % 2)["column:flag"]
        evidence.update({"column:flag": np.bincount(told, minlength=len(reference.labels))})

    for _ in range(50):
        send(100, share)
    assert evidence.alarm is None
    sent = 0
    while evidence.alarm is None and sent < 3000:
        send(100, moved)
        sent += 100
    assert evidence.alarm is not None
    assert re.match(f"column:flag: {says}", evidence.alarm.words)


def stream(rows: int) -> tuple[Cells, StreamEvidence, FloatArray]:
    """Evidence over the table's columns alone, and fresh rows like the reference."""
    data = bundles.table()
    held = data.schema.to_unit(np.concatenate([data.calibration.x, data.test.x[:50]]))
    made = choose_columns(data.schema, data.schema.to_unit(data.train.x), data.train.y)
    predicted = np.arange(len(held)) % 3
    cells = Cells.fit([], np.zeros((len(held), 0)), predicted, ("a", "b", "c"), made, held)
    evidence = StreamEvidence([c for c in references(cells) if c.kind != "class"], c=1e4)
    return cells, evidence, data.schema.to_unit(data.test.x[50 : 50 + rows])


def references(cells: Cells) -> list[ChannelReference]:
    """The channels as the watcher knows them."""
    return [
        ChannelReference(
            c.name, c.kind, cells.reference[f"{c.name}/alpha"], c.labels,
            groups=tuple(group.cells for group in c.groups),
        )
        for c in cells.channels
    ]  # fmt: skip


def weigh(cells: Cells, evidence: StreamEvidence, x_unit: FloatArray) -> None:
    """Count the rows and weigh them in pieces of ten, as a watcher does."""
    for start in range(0, len(x_unit), 10):
        part = x_unit[start : start + 10]
        counts = cells.column_cells(part, np.arange(start, start + len(part)) % 3)
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
    assert re.match(f"{channel}( within each predicted class)?: {says}", alarm.words)


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
