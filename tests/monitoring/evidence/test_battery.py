"""One battery over all that scores a request: every law for every channel and detector."""

import inspect

import numpy as np
import pytest

from models import corruptions
from models.corruptions import tables as stress
from models.statistics.arrays import FloatArray
from monitoring.scoring import strangeness
from monitoring.scoring.channels import base as channels
from monitoring.scoring.channels import (
    chow_liu,
    columns,
    image_channels,
    shuffled_rows,
    table_statistics,
)
from monitoring.scoring.channels.base import PlainAnswers
from monitoring.scoring.perturbation import filters as head_filters
from monitoring.scoring.perturbation import head as perturbation
from tests.monitoring.battery import absurd, rows_of, world

IMAGE = (
    "energy", "feature_distance", "mean", "gradient", "grain", "pixel_distance", "uncertainty",
    "statistics", "filters", "residual", "strangeness", "drift_score", "perturbation_head",
)  # fmt: skip
TABLE = (
    "energy", "feature_distance", "inside", "row_distance", "chow_liu", "shuffled_row",
    "strangeness", "drift_score", "perturbation_head", "statistics", "numbers", "categories",
)  # fmt: skip
battery = pytest.mark.parametrize(
    ("kind", "name"), [("image", n) for n in IMAGE] + [("table", n) for n in TABLE]
)
# What a change does to a score: +1 or -1 where it must move the median, by which change.
MOVES = {
    "energy": ("junk", 1),
    "feature_distance": ("junk", 1),
    "mean": ("bright", 1),
    "gradient": ("blurred", -1),
    "grain": ("noisy", 1),
    "pixel_distance": ("junk", 1),
    "uncertainty": ("junk", 1),
    "drift_score": ("junk", 1),
    "inside": ("out_of_range", -1),
    "row_distance": ("swapped_columns", 1),
    "chow_liu": ("shuffled", 1),
    "shuffled_row": ("shuffled", 1),
    "strangeness": ("junk", 1),
}
VECTORS = {
    "statistics",
    "filters",
    "residual",
    "perturbation_head",
    "numbers",
    "categories",
}  # of their own tests


def told(kind: str, name: str, rows: PlainAnswers) -> tuple[FloatArray, FloatArray]:
    """NumPy's answer and the graph's."""
    made = world(kind)
    (case,) = [c for c in made.cases if c.name == name]
    return np.asarray(case.maths(rows)), made.asked(rows, name)[0]


def some(rows: PlainAnswers, index: object) -> PlainAnswers:
    """Some of the rows."""
    return PlainAnswers(*(v[index] for v in (rows.x_unit, rows.logits, rows.features)))  # type: ignore[index]


def test_battery_forgets_nothing() -> None:
    made = {kind: world(kind).cases for kind in ("image", "table")}
    assert tuple(c.name for c in made["image"]) == IMAGE
    assert sorted(c.name for c in made["table"]) == sorted(TABLE)
    assert set(IMAGE) | set(TABLE) == set(MOVES) | VECTORS, "say what moves it"
    tried = {c.of for cases in made.values() for c in cases}
    tried.add(head_filters.FilterNodes)  # the nodes of `Filters`
    modules = (
        channels, image_channels, columns, strangeness, perturbation, head_filters,
        table_statistics, chow_liu, shuffled_rows,
    )  # fmt: skip
    for module in modules:
        for _, found in inspect.getmembers(module, inspect.isclass):
            if (
                found.__module__ == module.__name__
                and hasattr(found, "emit")
                and not getattr(found, "_is_protocol", False)
            ):
                assert found in tried, f"{found.__name__} is not in tests/monitoring/battery.py"


@battery
def test_numpy_equals_the_graph(kind: str, name: str) -> None:
    data = world(kind).data
    rows = world(kind).rows(data.test.x)
    expected, answered = told(kind, name, rows)
    assert answered.dtype == np.float32
    assert answered.shape == expected.shape == (len(data.test), expected.shape[1])
    np.testing.assert_allclose(answered, expected, rtol=2e-4, atol=2e-5)


@battery
def test_row_alone_answers_as_in_a_batch_and_twice_alike(kind: str, name: str) -> None:
    made = world(kind)
    rows = made.rows(made.data.test.x[:40])
    expected, answered = told(kind, name, rows)
    again = told(kind, name, rows)
    np.testing.assert_array_equal(again[0], expected)
    np.testing.assert_array_equal(again[1], answered)
    for k in (0, 7, 39):
        alone = told(kind, name, some(rows, slice(k, k + 1)))
        np.testing.assert_allclose(alone[0][0], expected[k], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone[1][0], answered[k], rtol=2e-4, atol=2e-5)
    order = np.random.default_rng(0).permutation(40)
    shuffled, _ = told(kind, name, some(rows, order))
    np.testing.assert_allclose(shuffled, expected[order], rtol=1e-5, atol=1e-6)


@battery
def test_absurd_rows_give_finite_numbers_and_the_same_ones(kind: str, name: str) -> None:
    expected, answered = told(kind, name, absurd(kind))
    if name != "numbers":  # as they come: an endless number lies above every edge
        assert np.isfinite(answered).all()
        assert np.isfinite(expected).all()
    np.testing.assert_allclose(answered, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["image", "table"])
def test_scores_move_the_way_their_names_say(kind: str) -> None:
    made, rng = world(kind), np.random.default_rng(0)
    x = made.data.test.x
    schema = made.data.schema
    unit = schema.to_unit(x)
    changed = {}
    if kind == "image":
        changed["bright"] = corruptions.brightness(unit, 2, rng)
        changed["blurred"] = corruptions.blurred(unit, 1.0)
        changed["noisy"] = corruptions.noisy(unit, 0.1, rng)
        changed["junk"] = rng.random(unit.shape)
        changed = {k: schema.from_unit(v.astype(np.float32)) for k, v in changed.items()}
    else:
        for name in ("out_of_range", "swapped_columns"):
            changed[name] = stress.apply(name, schema, x, 5, rng)
        changed["shuffled"] = np.stack([rng.permutation(column) for column in x.T], axis=1)
        changed["junk"] = np.where(np.isnan(x), x, schema.from_unit(rng.uniform(-3, 4, x.shape)))
    before, moved = made.rows(x), {k: rows_of(made.data, v) for k, v in changed.items()}
    for case in made.cases:
        if case.name in VECTORS:
            continue
        change, sign = MOVES[case.name]
        if (kind, case.name) == ("table", "energy"):
            sign = -1  # a net that is linear far out grows surer there: evidence looks both ways
        old, new = case.maths(before)[:, 0], case.maths(moved[change])[:, 0]
        assert sign * (np.median(new) - np.median(old)) > 0, case.name
