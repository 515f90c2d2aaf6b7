"""One battery over all benign corruptions, and the shifts that people send."""

import numpy as np
import pytest
from scipy import ndimage

from models.corruptions import QUICK, SEVERITIES, blurred, inverted, noisy, rotated
from models.data import DataSet

battery = pytest.mark.parametrize("name", QUICK)
RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "rotate", "shift")


@pytest.fixture(scope="module")
def images(digits: DataSet) -> np.ndarray:
    """Unit-range digits."""
    return digits.schema.to_unit(digits.test.x[:100])


@battery
@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (2, 3, 28, 28), (2, 1, 9, 13)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_keeps_shape_type_and_range(name: str, shape: tuple[int, ...], severity: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(shape).astype(np.float32)
    before = x.copy()
    corrupted = QUICK[name].corrupt(x, severity, rng)
    assert (corrupted.shape, corrupted.dtype) == (x.shape, np.float32)
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    np.testing.assert_array_equal(x, before)


@battery
def test_moves_further_with_severity_and_changes_every_level(name: str, images: np.ndarray) -> None:
    moved = [
        np.abs(QUICK[name].corrupt(images, s, np.random.default_rng(0)) - images).mean()
        for s in SEVERITIES
    ]
    assert moved == sorted(moved)
    assert moved[0] > 0
    assert moved[-1] > 1.5 * moved[0]


@battery
def test_follows_the_generator(name: str, images: np.ndarray) -> None:
    one, two, other = (
        QUICK[name].corrupt(images, 3, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert np.array_equal(one, other) == (name not in RANDOM)


@battery
def test_stays_black_where_nothing_is(name: str) -> None:
    black = np.zeros((3, 1, 8, 8), dtype=np.float32)
    changed = QUICK[name].corrupt(black, 5, np.random.default_rng(0))
    assert changed.any() == (name in ("gaussian_noise", "impulse_noise", "brightness"))


def test_each_does_what_its_name_says(images: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    after = {name: kind.corrupt(images, 3, rng) for name, kind in QUICK.items()}

    def edges(x: np.ndarray) -> float:
        return float(np.abs(ndimage.laplace(x, axes=(2, 3))).mean())

    assert after["brightness"].mean() > images.mean() > after["darkness"].mean()
    assert after["contrast"].std() < images.std()
    np.testing.assert_allclose(after["contrast"].mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-5)
    assert edges(after["blur"]) < 0.5 * edges(images)
    assert edges(after["pixelate"]) < edges(images)
    assert edges(after["gaussian_noise"]) > edges(images)
    spoiled = (after["impulse_noise"] != images).mean()
    assert 0.01 < spoiled <= 0.035


def test_shifts_of_the_whole_stream(images: np.ndarray) -> None:
    np.testing.assert_allclose(inverted(inverted(images)), images, atol=1e-6)
    np.testing.assert_allclose(rotated(images, 0.0), images, atol=1e-6)
    quarter = rotated(images, 90.0)
    turned = [np.rot90(images, k, axes=(2, 3)) for k in (1, -1)]
    assert min(np.abs(quarter - t).max() for t in turned) < 1e-4
    assert np.abs(noisy(images, 0.1, np.random.default_rng(0)) - images).mean() > 0.02
    assert blurred(images, 1.0).std() < images.std()
