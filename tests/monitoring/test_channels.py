"""One battery over all channels: NumPy equals the graph; then the laws of rank cells."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models import corruptions
from models.data import DataSet
from models.runner import session
from models.schema import FloatArray
from monitoring.channels import (
    NEIGHBOURS,
    RANKS,
    Energy,
    FeatureDistance,
    Rows,
    ScoreChannel,
    Tensors,
    Uncertainty,
    class_weights,
    emit_input_statistics,
    input_statistics,
    rank_cells,
    rank_edges,
    score_channels,
    score_weights,
    steady,
)
from monitoring.graph import GraphBuilder
from tests.conftest import Published

NAMES = ("energy", "feature_distance", "mean", "gradient")
BATTERY = (*NAMES, "uncertainty")
battery = pytest.mark.parametrize("name", BATTERY)


@dataclass(frozen=True)
class World:
    """The quickly trained net's channels, and how to get the rows that they read."""

    net: torch.nn.Module
    channels: dict[str, ScoreChannel]
    unit: FloatArray

    def rows(self, unit: FloatArray) -> Rows:
        """What the net gives for unit-range images."""
        with torch.no_grad():
            logits, features = self.net(torch.from_numpy(unit))
        return Rows(unit, logits.numpy(), features.numpy())


@pytest.fixture(scope="module")
def world(published: Published, digits: DataSet) -> World:
    """Channels fitted on training features."""
    fit = World(published.net, {}, digits.schema.to_unit(digits.train.x))
    channels = [*score_channels("image", fit.rows(fit.unit).features), Uncertainty()]
    unit = digits.schema.to_unit(digits.test.x)
    return World(published.net, {c.name: c for c in channels}, unit)


def graph_of(channel: ScoreChannel, rows: Rows) -> onnx.ModelProto:
    """A graph that reads the three arrays and answers the channel alone."""

    def info(name: str, array: FloatArray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *array.shape[1:]])

    inputs = [
        info("x", rows.x_unit), info("logits", rows.logits), info("features", rows.features)
    ]  # fmt: skip
    model = helper.make_model(
        helper.make_graph([], "rows", inputs, []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    graph = GraphBuilder(model)
    lse = graph.op("ReduceLogSumExp", "logits", graph.const([1]), keepdims=1)
    statistics = emit_input_statistics(graph, "x", rows.x_unit.shape[1])
    score = channel.emit(graph, Tensors("x", "logits", "features", lse, statistics))
    graph.output("score", score, "batch", 1)
    graph.output("statistics", statistics, "batch", 5)
    return graph.build()


def asked(model: onnx.ModelProto, rows: Rows, output: str = "score") -> FloatArray:
    """The graph's answer."""
    feed = {"x": rows.x_unit, "logits": rows.logits, "features": rows.features}
    answer: FloatArray = session(model.SerializeToString()).run([output], feed)[0]
    return answer


def test_battery_covers_every_channel(world: World) -> None:
    assert tuple(world.channels) == BATTERY
    assert [c.name for c in score_channels("image", np.eye(3))] == list(NAMES)
    assert [c.name for c in score_channels("tabular", np.eye(3))] == ["energy", "feature_distance"]


@battery
@pytest.mark.parametrize("count", [1, 2, 300])
def test_numpy_equals_the_graph(name: str, count: int, world: World) -> None:
    channel, rows = world.channels[name], world.rows(world.unit[:count])
    expected, told = channel.scores(rows), asked(graph_of(channel, rows), rows)
    assert expected.shape == (count,)
    assert (told.shape, told.dtype) == ((count, 1), np.float32)
    np.testing.assert_allclose(told[:, 0], expected, rtol=2e-5, atol=2e-6)


@battery
def test_numpy_equals_the_graph_on_extreme_rows(name: str, world: World) -> None:
    unit = np.stack([np.full((1, 8, 8), v, np.float32) for v in (0.0, 0.5, 1.0)])
    unit = np.concatenate([unit, np.indices((8, 8)).sum(0)[None, None].astype(np.float32) % 2])
    rows = world.rows(unit)
    rows = Rows(
        unit, rows.logits * 50, np.vstack([np.zeros_like(rows.features[:1]), rows.features[1:]])
    )
    expected = world.channels[name].scores(rows)
    assert np.isfinite(expected).all()
    told = asked(graph_of(world.channels[name], rows), rows)[:, 0]
    np.testing.assert_allclose(told, expected, rtol=2e-5, atol=2e-6)


@battery
def test_scores_of_a_row_do_not_depend_on_its_neighbours(name: str, world: World) -> None:
    channel, rows = world.channels[name], world.rows(world.unit[:50])
    whole = channel.scores(rows)
    np.testing.assert_array_equal(channel.scores(rows), whole)
    order = np.random.default_rng(0).permutation(50)
    shuffled = Rows(rows.x_unit[order], rows.logits[order], rows.features[order])
    np.testing.assert_allclose(channel.scores(shuffled), whole[order], rtol=1e-6, atol=1e-7)


def test_statistics_equal_the_graph_for_colour_and_any_shape() -> None:
    for shape in ((3, 3, 11, 7), (2, 2, 3, 3)):
        unit = np.random.default_rng(0).random(shape).astype(np.float32)
        rows = Rows(unit, np.zeros((shape[0], 2), np.float32), np.zeros((shape[0], 2), np.float32))
        told = asked(graph_of(Energy(), rows), rows, "statistics")
        np.testing.assert_allclose(told, input_statistics(unit), rtol=1e-5)


def test_energy_falls_with_confidence_and_counts_in_nats(world: World) -> None:
    def energy(*logits: float) -> float:
        row = np.array([logits], dtype=np.float64)
        return float(Energy().scores(Rows(world.unit[:1], row, row))[0])

    assert energy(0, 0) == pytest.approx(-np.log(2))
    assert energy(9, 0, 0) < energy(5, 0, 0) < energy(1, 0, 0) < energy(0, 0, 0)
    assert energy(1e4, 0) == pytest.approx(-1e4), "no overflow"


def test_uncertainty_is_the_logarithm_of_the_largest_probability() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [1.0, 0.0, 0.0]])
    logits = np.log(np.clip(p, 1e-9, None))
    for shift in (0.0, 40.0, -1e4):
        rows = Rows(p, logits + shift, p)
        np.testing.assert_allclose(
            Uncertainty().scores(rows), -np.log(p.max(axis=1)), atol=1e-6 + 1e-11 * abs(shift)
        )


def names(kind: Literal["image", "tabular"], *, features: bool, logits: FloatArray) -> list[str]:
    """The channels of a graph that gives these."""
    found = score_channels(kind, np.eye(8) if features else None, logits=logits)
    return [channel.name for channel in found]


def test_graph_without_features_or_of_probabilities_gets_the_scores_that_it_has() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rounded = np.log(np.clip(np.eye(4, dtype=np.float32)[logits.argmax(axis=1)], 1e-6, 1))
    assert names("tabular", features=True, logits=logits) == ["energy", "feature_distance"]
    assert names("tabular", features=False, logits=logits) == ["energy", "uncertainty"]
    for p in (shares, rounded):
        assert names("tabular", features=True, logits=p) == ["feature_distance", "uncertainty"]
        assert names("tabular", features=False, logits=p) == ["uncertainty"]
        assert names("image", features=False, logits=p) == ["uncertainty", "mean", "gradient"]


def test_distance_is_zero_at_the_references_and_grows_away_from_them() -> None:
    rng = np.random.default_rng(0)
    ray = np.abs(rng.normal(size=6)) + 0.5
    channel = FeatureDistance.fit(ray * rng.uniform(1, 3, (40, 1)))

    def distance(features: FloatArray) -> FloatArray:
        return channel.scores(Rows(features, features, features))

    assert distance(ray[None] * 7)[0] == pytest.approx(0, abs=1e-5)
    away = ray + np.linspace(0, 5, 20)[:, None] * np.array([1, -1, 1, -1, 1, -1])
    assert (np.diff(distance(away)) > 0).all()
    assert distance(-ray[None])[0] == pytest.approx(2, abs=1e-5)
    assert distance(np.zeros((1, 6)))[0] == pytest.approx(1)


def test_distance_is_the_mean_over_the_nearest_references() -> None:
    rng = np.random.default_rng(1)
    references, rows = rng.normal(size=(50, 4)), rng.normal(size=(7, 4))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, references)]
    nearest = np.sort(unit[0] @ unit[1].T, axis=1)[:, -NEIGHBOURS:]
    scores = FeatureDistance.fit(references).scores(Rows(rows, rows, rows))
    np.testing.assert_allclose(scores, 1 - nearest.mean(axis=1), atol=1e-5)
    few = FeatureDistance.fit(references[:3])
    np.testing.assert_allclose(
        few.scores(Rows(rows, rows, rows)), 1 - (unit[0] @ unit[1][:3].T).mean(axis=1), atol=1e-5
    )


def test_channels_move_the_way_their_names_say(world: World) -> None:
    rng = np.random.default_rng(0)
    before = {name: c.scores(world.rows(world.unit)) for name, c in world.channels.items()}

    def after(name: str, unit: FloatArray) -> FloatArray:
        return world.channels[name].scores(world.rows(unit.astype(np.float32)))

    brighter = corruptions.brightness(world.unit, 2, rng)
    assert (after("mean", brighter) > before["mean"]).all()
    # Digits of hard edges lose some of them by clipped noise; what is smooth gains.
    smooth = corruptions.blurred(world.unit, 2.0)
    rough = corruptions.noisy(smooth, 0.2, rng)
    assert (after("gradient", rough) > after("gradient", smooth)).all()
    assert (
        np.mean(after("gradient", corruptions.blurred(world.unit, 1.0)) < before["gradient"]) > 0.95
    )
    junk = rng.random(world.unit.shape)
    for name in ("energy", "feature_distance"):
        assert np.median(after(name, junk)) > np.quantile(before[name], 0.95)


# Rank cells.

distinct = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=150, unique=True).map(
    lambda v: np.array(v, dtype=np.float32)
)
tied = st.lists(st.integers(-4, 4), min_size=1, max_size=150).map(lambda v: np.array(v, np.float32))


@given(st.one_of(distinct, tied))
def test_weights_sum_to_n_plus_one_and_cells_are_in_range(scores: FloatArray) -> None:
    edges = rank_edges(scores)
    assert (np.diff(edges) < 0).all(), "falling, ties merged"
    assert 1 <= len(edges) <= len(RANKS)
    assert np.isin(edges, scores).all()
    weights = score_weights(scores, edges)
    assert weights.shape == (len(edges) + 1,)
    assert weights.sum() == len(scores) + 1
    assert (weights >= 1).all(), "a cell without weight would refuse requests"
    for values in (scores, np.array([-np.inf, np.inf, -1e30, 1e30, 0.0], dtype=np.float32)):
        cells = rank_cells(values, edges)
        assert cells.min() >= 0
        assert cells.max() <= len(edges)


@given(st.one_of(distinct, tied), st.integers(0, 9))
def test_steady_cells_keep_their_weights_and_do_not_part_equal_scores(
    scores: FloatArray, seed: int
) -> None:
    edges = steady(rank_edges(scores))
    assert (np.diff(edges) < 0).all()
    weights = score_weights(scores, edges)
    assert weights.sum() == len(scores) + 1
    assert (weights >= 1).all()
    near = 3e-7 * np.maximum(1.0, np.abs(scores))
    rounded = scores + near * np.random.default_rng(seed).choice([-1.0, 1.0], len(scores))
    ties = np.isin(scores, rank_edges(scores)) & (np.abs(scores - np.rint(scores)) == 0)
    np.testing.assert_array_equal(rank_cells(rounded, edges)[ties], rank_cells(scores, edges)[ties])


@given(distinct)
def test_fresh_exchangeable_scores_fall_into_cells_with_the_urns_shares(pool: FloatArray) -> None:
    # Exact: n held-out scores and a fresh one are a pool, each as likely the fresh one.
    n = len(pool) - 1
    alpha = np.zeros(0)
    landed = np.zeros(0)
    for k, fresh in enumerate(pool):
        held = np.delete(pool, k)
        edges = rank_edges(held)
        alpha = score_weights(held, edges)
        landed = np.zeros(len(alpha)) if k == 0 else landed
        landed[rank_cells(np.array([fresh]), edges)[0]] += 1
    assert alpha.sum() == n + 1
    np.testing.assert_array_equal(landed, alpha)


@given(tied)
def test_cells_fall_with_the_score(scores: FloatArray) -> None:
    cells = rank_cells(np.sort(scores), rank_edges(scores))
    assert (np.diff(cells) <= 0).all()
    assert cells[-1] == 0, "the largest held-out score lies in the top cell"


def test_many_scores_are_cut_into_72_cells_fine_in_the_tails() -> None:
    scores = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    weights = score_weights(scores, rank_edges(scores))
    assert len(weights) == len(RANKS) + 1
    upper, lower = np.cumsum(weights), np.cumsum(weights[::-1])
    np.testing.assert_allclose(upper[:3] / 5001, [0.001, 0.002, 0.005], atol=2e-4)
    np.testing.assert_allclose(lower[:3] / 5001, [0.001, 0.002, 0.005], atol=4e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_class_weights_sum_to_n_plus_one_and_leave_no_class_out(predicted: list[int]) -> None:
    weights = class_weights(np.array(predicted), 5)
    assert weights.sum() == pytest.approx(len(predicted) + 1)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights - 0.2, np.bincount(predicted, minlength=5))
