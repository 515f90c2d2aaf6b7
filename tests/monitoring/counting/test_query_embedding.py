import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.schema import Column, InputSchema
from monitoring.counting.query_embedding import COARSE, WIDTH, Embedding, calibrate, read
from tests import bundles


def images(*shape: int, low: float = 0.0, high: float = 1.0, dtype: str = "float32") -> InputSchema:
    return InputSchema("x", shape, dtype, low, high, "image")  # type: ignore[arg-type]


@given(
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    contrast=st.sampled_from([1.0, 4.0]),
)
def test_images_of_any_size_become_a_few_numbers_around_zero(
    channels: int, height: int, width: int, contrast: float
) -> None:
    embedding = Embedding.of(images(channels, height, width), contrast)
    x = np.random.default_rng(0).random((3, channels, height, width), np.float32)
    z = embedding(x)
    assert z.shape == (3, min(height, 10) * min(width, 10))
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_array_equal(embedding(x[1:2])[0].round(5), z[1].round(5))


def test_cells_are_the_means_of_their_pixels() -> None:
    x = np.random.default_rng(0).random((2, 3, 20, 30), np.float32)
    cells = x.mean(axis=1).reshape(2, 10, 2, 10, 3).mean(axis=(2, 4)).reshape(2, -1)
    z = Embedding.of(images(3, 20, 30))(x)
    np.testing.assert_allclose(z, cells - cells.mean(axis=1, keepdims=True), atol=1e-6)


def test_the_raw_range_and_the_datatype_do_not_matter() -> None:
    unit = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28)) / 255
    for contrast in (1.0, 2.0):
        ours = Embedding.of(images(1, 28, 28), contrast)(unit.astype(np.float32))
        raw = (unit * 255).round().astype(np.uint8)
        theirs = Embedding.of(images(1, 28, 28, high=255.0, dtype="uint8"), contrast)(raw)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        around = Embedding.of(images(1, 28, 28, low=-1.0), contrast)((2 * unit - 1).astype("f4"))
        np.testing.assert_allclose(ours, around, atol=1e-5)


def test_a_change_of_light_does_not_count_and_contrast_hides_small_changes_of_black_and_white() -> (
    None
):
    x = np.random.default_rng(0).choice([0.0, 1.0], (1, 1, 28, 28)).astype(np.float32)
    moved = np.clip(x + 0.3 * np.random.default_rng(1).choice([-1, 1], x.shape), 0, 1)
    moved = moved.astype(np.float32)
    plain, sharp = Embedding.of(images(1, 28, 28)), Embedding.of(images(1, 28, 28), 4.0)
    np.testing.assert_allclose(plain(0.4 * x), plain(0.4 * x + 0.5), atol=1e-5)
    assert np.abs(plain(x) - plain(moved)).max() > 0.1
    np.testing.assert_allclose(sharp(x), sharp(moved), atol=1e-5)


def test_rows_of_a_table_lie_apart_by_their_range_and_by_one_per_category() -> None:
    schema = InputSchema(
        "row", (3,), "float32", 0.0, 1.0, "tabular",
        (Column("a", low=0.0, high=10.0), Column("b", missing=True, low=0.0, high=1.0),
         Column("c", "categorical", categories=("x", "y"))),
    )  # fmt: skip
    x = np.array([[0, 0.5, 0], [5, np.nan, 0], [0, 0.5, 1], [1e30, 0.5, -1]], np.float32)
    z = Embedding.of(schema)(x)
    assert np.linalg.norm(z[0] - z[1]) == pytest.approx(0.5)
    assert np.linalg.norm(z[0] - z[2]) == pytest.approx(1)
    assert np.isfinite(z).all()


def test_wide_rows_are_projected_and_keep_their_distances() -> None:
    schema = InputSchema(
        "row", (400,), "float32", 0.0, 1.0, "tabular", tuple(Column(f"c{k}") for k in range(400))
    )
    x = np.random.default_rng(0).random((30, 400), np.float32)
    z = Embedding.of(schema)(x)
    assert z.shape == (30, WIDTH)
    ratio = np.linalg.norm(z[:-1] - z[1:], axis=1) / np.linalg.norm(x[:-1] - x[1:], axis=1)
    assert 0.7 < ratio.min() < ratio.max() < 1.3


@pytest.mark.parametrize("data", [bundles.digits(), bundles.table()], ids=["digits", "table"])
def test_few_clean_rows_are_near_and_slightly_moved_ones_all_are(data: bundles.DataSet) -> None:
    found = calibrate(data.schema, data.calibration.x)
    embedding, threshold = read(data.schema, found)  # type: ignore[misc]
    x = np.unique(data.test.x, axis=0)
    z = embedding(x)
    apart = np.linalg.norm(z[:, None] - z, axis=2) + 1e9 * np.eye(len(z))
    assert (apart.min(axis=1) < threshold).mean() <= 0.01
    numeric = np.array([c.kind == "numeric" for c in data.schema.columns] or True)
    nudge = np.where(numeric, 1e-3 * data.schema.span, 0)
    moved = np.linalg.norm(z - embedding((x + nudge).astype(np.float32)), axis=1)
    assert (moved < threshold).mean() > 0.95


def test_calibration_is_deterministic_and_exact_repeats_do_not_shrink_it() -> None:
    data = bundles.digits()
    once = calibrate(data.schema, data.calibration.x)
    again = calibrate(data.schema, np.concatenate([data.calibration.x] * 2))
    assert once == calibrate(data.schema, data.calibration.x)
    assert again["queries/threshold"] == pytest.approx(once["queries/threshold"], rel=0.3)


def test_too_few_rows_give_no_threshold_and_no_threshold_gives_no_detector() -> None:
    data = bundles.digits()
    assert calibrate(data.schema, data.calibration.x[:30]) == {}
    assert calibrate(data.schema, np.repeat(data.calibration.x[:1], 500, axis=0)) == {}
    assert read(data.schema, {}) is None


def test_the_fingerprint_tells_embeddings_apart() -> None:
    made = [
        Embedding.of(images(1, 28, 28)),
        Embedding.of(images(1, 28, 28), 2.0),
        Embedding.of(images(1, 27, 28)),
    ]
    assert len({each.fingerprint for each in made}) == 3
    assert made[0].fingerprint == Embedding.of(images(1, 28, 28)).fingerprint


def table(columns: int) -> InputSchema:
    named = tuple(Column(f"c{k}") for k in range(columns))
    return InputSchema("row", (columns,), "float32", 0.0, 1.0, "tabular", named)


GRIDS = [images(1, 28, 28), images(3, 9, 40), images(1, 2, 2), images(1, 1, 1)]


@given(schema=st.sampled_from([*GRIDS, *map(table, (3, 40, 300))]), seed=st.integers(0, 99))
def test_coarse_parts_lie_no_further_apart_than_the_whole(schema: InputSchema, seed: int) -> None:
    embedding = Embedding.of(schema)
    coarse = embedding.coarse
    assert coarse.shape[0] == embedding.width
    assert coarse.shape[1] <= COARSE
    np.testing.assert_allclose(coarse.T @ coarse, np.eye(coarse.shape[1]), atol=1e-5)
    z = embedding(np.random.default_rng(seed).random((8, *schema.shape), np.float32))
    whole, part = (np.linalg.norm(v[:, None] - v, axis=2) for v in (z, z @ coarse))
    assert (part <= whole + 1e-5).all()


def test_the_lowest_frequencies_hold_most_of_what_tells_images_apart() -> None:
    data = bundles.large_digits()
    embedding = Embedding.of(data.schema)
    z = embedding(data.test.x)
    assert ((z @ embedding.coarse) ** 2).sum() > 0.7 * (z**2).sum()
