"""Laws of the certificates, most of them on models whose true radius is known."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.base.errors import InputError
from models.data import Rows
from models.evaluation.certify import (
    Certificate,
    certify,
    certify_curve,
    largest_radius,
    lower_bound,
)
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import Column, InputArray, InputSchema
from tests import bundles

GREY = InputSchema("x", (1, 4, 4), "float32", 0.0, 1.0, "image")
BYTES = InputSchema("x", (3, 4, 4), "uint8", 0, 255, "image")
TABLE = InputSchema(
    "x", (2,), "float32", 0, 1, "tabular",
    (Column("a", low=0.0, high=10.0), Column("b", low=-5.0, high=-1.0)),
)  # fmt: skip


def half_plane(normal: np.ndarray, at: float) -> Callable[[InputArray], np.ndarray]:
    """Two classes of TABLE, cut where `normal . x_unit = at`."""

    def predict(x: InputArray) -> np.ndarray:
        beyond = TABLE.to_unit(x) @ normal > at
        return np.stack([~beyond, beyond], axis=1).astype(np.float32)

    return predict


def test_certified_radius_is_below_the_true_one_as_often_as_promised() -> None:
    # For a half-plane the smoothed classifier is the half-plane: the true radius is the distance.
    normal, alpha, trials = np.array([0.6, 0.8], dtype=np.float32), 0.05, 600
    predict, distance = half_plane(normal, 0.4), 0.15
    row = TABLE.from_unit(normal * (0.4 + distance))
    told = [
        certify(predict, TABLE, row, sigma=0.2, samples=200, alpha=alpha, seed=seed)
        for seed in range(trials)
    ]
    assert {t.index for t in told} == {1}
    radius = np.array([t.radius for t in told])
    wrong = int((radius > distance).sum())
    assert wrong <= stats.binom.ppf(0.9999, trials, alpha)
    # It is no empty promise: the bound is nearly reached, and it is sometimes wrong.
    assert wrong >= 1
    assert radius.mean() > 0.75 * distance


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99, 0.999])
def test_clopper_pearson_covers_the_true_share(p: float) -> None:
    n, alpha, trials = 200, 0.05, 20_000
    law = stats.binom(n, p)
    bounds = np.array([lower_bound(k, n, alpha) for k in range(n + 1)])
    # Exactly, by the law of the hits, and by simulation.
    assert law.pmf(np.arange(n + 1))[bounds > p].sum() <= alpha
    hits = law.rvs(trials, random_state=1)
    assert (bounds[hits] > p).mean() <= stats.binom.ppf(0.9999, trials, alpha) / trials


def test_lower_bound_is_scipys() -> None:
    for hits, n in ((1, 10), (7, 10), (10, 10), (950, 1000)):
        reference = stats.binomtest(hits, n, alternative="greater").proportion_ci(0.999)
        assert lower_bound(hits, n, 0.001) == pytest.approx(reference.low, rel=1e-9)
    assert lower_bound(0, 10, 0.001) == 0


@given(
    n=st.integers(1, 5000),
    share=st.floats(0, 1),
    alpha=st.floats(1e-6, 0.5),
)
def test_bound_grows_with_the_votes_and_shrinks_with_the_confidence(
    n: int, share: float, alpha: float
) -> None:
    hits = round(share * n)
    bound = lower_bound(hits, n, alpha)
    assert 0 <= bound <= hits / n
    assert lower_bound(max(0, hits - 1), n, alpha) <= bound
    assert lower_bound(hits, n, alpha / 2) <= bound


def test_radius_grows_with_the_distance_up_to_what_the_samples_allow() -> None:
    predict = half_plane(np.array([1.0, 0.0], dtype=np.float32), 0.5)
    rows = [TABLE.from_unit(np.array([0.5 + d, 0.5])) for d in (0.05, 0.1, 0.2, 0.4, 3.0)]
    told = [certify(predict, TABLE, row, sigma=0.1) for row in rows]
    radii = [t.radius for t in told]
    assert radii == sorted(radii)
    assert radii[0] > 0
    assert radii[-1] == pytest.approx(largest_radius(0.1, 1000, 0.001))
    for t in told:
        assert t.radius == pytest.approx(0.1 * stats.norm.ppf(t.p_low))


@pytest.mark.parametrize("seed", range(30))
def test_abstains_where_the_classes_share_the_noise(seed: int) -> None:
    predict = half_plane(np.array([1.0, 0.0], dtype=np.float32), 0.5)
    told = certify(predict, TABLE, TABLE.from_unit(np.array([0.5, 0.2])), sigma=0.3, seed=seed)
    assert (told.index, told.radius) == (None, 0.0)
    assert told.p_low <= 0.5


def test_integer_inputs_are_rounded_clipped_and_still_certified_soundly() -> None:
    seen = []

    def brighter(x: InputArray) -> np.ndarray:
        assert x.dtype == np.uint8
        seen.append(x)
        bright = x.mean(axis=(1, 2, 3)) > 200
        return np.stack([~bright, bright], axis=1)

    row = np.full(BYTES.shape, 230, dtype=np.uint8)
    told = certify(brighter, BYTES, row, sigma=0.3)
    assert told.index == 1
    assert told.radius > 0.05
    assert max(x.max() for x in seen) == 255
    # The smoothed classifier itself, sampled near the end of the radius on the way to the boundary:
    # there it still says the same.
    darker = BYTES.to_unit(row[None])[0] - 0.98 * told.radius / math.sqrt(BYTES.size)
    rng = np.random.default_rng(1)
    noisy = np.clip(darker + 0.3 * rng.standard_normal((20_000, *BYTES.shape)), 0, 1)
    assert brighter(BYTES.from_unit(noisy))[:, 1].mean() > 0.5


def test_noise_has_the_stated_size_in_unit_range_and_every_row_is_its_own() -> None:
    seen: list[np.ndarray] = []

    def watching(x: InputArray) -> np.ndarray:
        seen.append(TABLE.to_unit(x))
        return np.tile([0.2, 0.8], (len(x), 1))

    row = TABLE.from_unit(np.array([0.3, 0.7]))
    certify(watching, TABLE, row, sigma=0.05, samples=4000, selection=300)
    assert [len(x) for x in seen] == [256, 44, *[256] * 15, 160]
    assert max(len(x) for x in seen) <= 256
    noise = np.concatenate(seen) - np.array([0.3, 0.7])
    np.testing.assert_allclose(noise.std(axis=0), 0.05, rtol=0.05)
    assert len(np.unique(noise, axis=0)) > 0.99 * len(noise)


def test_the_same_seed_gives_the_same_certificate() -> None:
    predict = half_plane(np.array([1.0, 0.0], dtype=np.float32), 0.45)
    row = TABLE.from_unit(np.array([0.5, 0.5]))
    one, two, other = (certify(predict, TABLE, row, sigma=0.1, seed=s) for s in (1, 1, (1, 2)))
    assert one == two
    assert one != other


def test_answers_that_are_not_finite_win_nothing() -> None:
    def broken(x: InputArray) -> np.ndarray:
        return np.full((len(x), 3), np.nan)

    told = certify(broken, GREY, np.zeros(GREY.shape, dtype=np.float32), sigma=0.1)
    assert told == Certificate(None, 0.0, 0.0, 0.1, 1000, 0.001)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": math.nan}, "sigma"),
        ({"sigma": 64.0}, "sigma"),
        ({"sigma": 0.1, "alpha": 0.0}, "alpha"),
        ({"sigma": 0.1, "alpha": 1.0}, "alpha"),
        ({"sigma": 0.1, "samples": 0}, "samples"),
        ({"sigma": 0.1, "selection": 0}, "selection"),
        ({"sigma": 0.1, "seed": -1}, "seed"),
    ],
)
def test_refuses_options_out_of_range(options: dict[str, float], named: str) -> None:
    row = np.zeros(GREY.shape, dtype=np.float32)
    with pytest.raises(InputError, match=named):
        certify(lambda x: np.ones((len(x), 2)), GREY, row, **options)  # type: ignore[arg-type]


def test_refuses_inputs_that_have_no_length() -> None:
    mixed = InputSchema(
        "x", (2,), "float32", 0, 1, "tabular",
        (Column("age", high=99.0), Column("town", kind="categorical", categories=("A", "B"))),
    )  # fmt: skip
    gaps = InputSchema("x", (1,), "float32", 0, 1, "tabular", (Column("age", missing=True),))

    def never(x: InputArray) -> np.ndarray:
        raise AssertionError("asked the model")

    with pytest.raises(InputError, match="'town'"):
        certify(never, mixed, np.zeros(2, dtype=np.float32), sigma=0.1)
    with pytest.raises(InputError, match="missing"):
        certify(never, gaps, np.array([np.nan], dtype=np.float32), sigma=0.1)
    with pytest.raises(InputError, match="shape"):
        certify(never, GREY, np.zeros((1, 2, 2), dtype=np.float32), sigma=0.1)


def test_curve_falls_with_the_radius_and_counts_only_right_answers() -> None:
    predict = half_plane(np.array([1.0, 0.0], dtype=np.float32), 0.5)
    unit = np.array([[0.5 + d, 0.5] for d in (-0.4, -0.02, 0.0, 0.05, 0.1, 0.2, 0.4, 0.4)])
    y = np.array([0, 0, 0, 1, 1, 1, 1, 0])  # the last label is wrong, the third row undecided
    done: list[tuple[int, int]] = []
    figures = certify_curve(
        predict, TABLE, Rows(TABLE.from_unit(unit), y), (0.0, 0.08, 0.15, 5.0), sigma=0.1,
        progress=lambda *now: done.append(now),
    )  # fmt: skip
    assert done == [(k, 8) for k in range(1, 9)]
    assert (figures.sigma, figures.samples, figures.alpha, figures.n) == (0.1, 1000, 0.001, 8)
    values = [point.value for point in figures.points]
    assert values == [0.75, 0.5, 0.375, 0.0]
    assert all(p.low <= p.value <= p.high and p.n == 8 for p in figures.points)
    with pytest.raises(InputError, match="radii"):
        certify_curve(predict, TABLE, Rows(TABLE.from_unit(unit), y), (-1.0,), sigma=0.1)


def test_a_served_version_is_certified_and_holds_under_noise_inside_the_radius(
    tmp_path: Path,
) -> None:
    version = bundles.publish(tmp_path)
    runner = Runner(Registry(tmp_path).open("digits", str(version)))
    schema, rows = runner.manifest.input, bundles.digits().test.take(np.arange(40))
    figures = certify_curve(runner, schema, rows, (0.0, 0.1, 0.3), sigma=0.1, samples=500)
    values = [point.value for point in figures.points]
    assert values == sorted(values, reverse=True)
    clean = (runner.run(rows.x).probabilities.argmax(axis=1) == rows.y).mean()
    assert 0.5 < values[0] <= clean + 0.1
    told = certify(runner, schema, rows.x[0], sigma=0.1, samples=500, seed=(0, 0))
    assert told.index is not None
    # The vote of the smoothed classifier at 20 places inside the ball.
    rng = np.random.default_rng(2)
    away = rng.standard_normal((20, *schema.shape))
    away *= 0.95 * told.radius / np.sqrt((away**2).sum((1, 2, 3), keepdims=True))
    for place in schema.to_unit(rows.x[:1]) + away:
        noisy = np.clip(place + 0.1 * rng.standard_normal((400, *schema.shape)), 0, 1)
        votes = runner.run(schema.from_unit(noisy)).probabilities.argmax(axis=1)
        assert np.bincount(votes).argmax() == told.index
