"""Laws of single channels; `test_battery.py` holds what all of them keep."""

from typing import Literal

import numpy as np
import pytest

from models.statistics.arrays import FloatArray
from monitoring.scoring.channels.base import (
    NEIGHBOURS,
    Energy,
    FeatureDistance,
    Grain,
    PixelDistance,
    PlainAnswers,
    Uncertainty,
)
from monitoring.scoring.channels.catalogue import Fitting, score_channels
from tests import bundles


def test_energy_falls_with_confidence_and_counts_in_nats() -> None:
    def energy(*logits: float) -> float:
        row = np.array([logits], dtype=np.float64)
        return float(Energy().scores(PlainAnswers(row, row, row))[0])

    assert energy(0, 0) == pytest.approx(-np.log(2))
    assert energy(9, 0, 0) < energy(5, 0, 0) < energy(1, 0, 0) < energy(0, 0, 0)
    assert energy(1e4, 0) == pytest.approx(-1e4), "no overflow"


def test_uncertainty_is_the_logarithm_of_the_largest_probability() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [1.0, 0.0, 0.0]])
    logits = np.log(np.clip(p, 1e-9, None))
    for shift in (0.0, 40.0, -1e4):
        rows = PlainAnswers(p, logits + shift, p)
        np.testing.assert_allclose(
            Uncertainty().scores(rows), -np.log(p.max(axis=1)), atol=1e-6 + 1e-11 * abs(shift)
        )


def names(kind: Literal["image", "tabular"], *, features: bool, logits: FloatArray) -> list[str]:
    """The channels of a graph that gives these."""
    rows = Fitting(logits, np.eye(8) if features else None)
    return [channel.name for channel in score_channels(kind, rows)]


def test_graph_without_features_or_of_probabilities_gets_the_scores_that_it_has() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rounded = np.log(np.clip(np.eye(4, dtype=np.float32)[logits.argmax(axis=1)], 1e-6, 1))
    assert names("tabular", features=True, logits=logits) == ["energy", "feature_distance"]
    assert names("tabular", features=False, logits=logits) == ["energy", "uncertainty"]
    for p in (shares, rounded):
        assert names("tabular", features=True, logits=p) == ["feature_distance", "uncertainty"]
        assert names("tabular", features=False, logits=p) == ["uncertainty"]
        assert names("image", features=False, logits=p) == [
            "uncertainty",
            "mean",
            "gradient",
            "grain",
        ]


def test_distance_is_zero_at_the_references_and_grows_away_from_them() -> None:
    rng = np.random.default_rng(0)
    ray = np.abs(rng.normal(size=6)) + 0.5
    channel = FeatureDistance.fit(ray * rng.uniform(1, 3, (40, 1)))

    def distance(features: FloatArray) -> FloatArray:
        return channel.scores(PlainAnswers(features, features, features))

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
    scores = FeatureDistance.fit(references).scores(PlainAnswers(rows, rows, rows))
    np.testing.assert_allclose(scores, 1 - nearest.mean(axis=1), atol=1e-5)
    few = FeatureDistance.fit(references[:3])
    np.testing.assert_allclose(
        few.scores(PlainAnswers(rows, rows, rows)),
        1 - (unit[0] @ unit[1][:3].T).mean(axis=1),
        atol=1e-5,
    )


def images(x_unit: FloatArray) -> PlainAnswers:
    """Rows of which only the image matters."""
    return PlainAnswers(x_unit, np.zeros((len(x_unit), 2)), np.zeros((len(x_unit), 2)))


def test_grain_is_zero_for_what_is_smooth_and_cuts_edges_off() -> None:
    ramp = np.tile(np.linspace(0, 1, 16), (1, 1, 16, 1))
    step = (ramp > 0.5).astype(float)
    assert Grain().scores(images(ramp))[0] == pytest.approx(0, abs=1e-12)
    assert Grain().scores(images(step))[0] == pytest.approx(4 / 255 * 2 / 14)
    rng = np.random.default_rng(0)
    told = [
        Grain().scores(images(ramp + rng.normal(0, s / 255, ramp.shape)))[0] for s in (0, 0.5, 1, 2)
    ]
    assert (np.diff(told) > 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (2, 28, 28), (1, 3, 40)])
def test_pixel_distance_is_about_one_for_training_rows_of_any_shape(
    shape: tuple[int, ...],
) -> None:
    x = np.random.default_rng(0).random((900, *shape)).astype(np.float32)
    channel = PixelDistance.fit(x)
    assert len(channel.mean) <= 64 * shape[0]
    inside = channel.scores(images(x))
    assert np.sqrt((inside**2).mean()) == pytest.approx(1, abs=0.1)
    assert channel.scores(images(np.ones((1, *shape))))[0] > inside.max()


def test_pixel_distance_sees_what_is_moved_turned_or_inverted() -> None:
    unit = bundles.digits().schema.to_unit(bundles.digits().train.x)
    channel = PixelDistance.fit(unit[:600])
    fresh = channel.scores(images(unit[600:]))
    for changed in (np.roll(unit, 1, axis=3), np.rot90(unit, axes=(2, 3)), 1 - unit):
        assert np.median(channel.scores(images(changed[600:]))) > np.quantile(fresh, 0.7)
