"""One battery over every corruption of every group, on digits, colour images and odd shapes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.corruptions import (
    GROUPS,
    QUICK,
    SEVERITIES,
    Corruption,
    Images,
    Kind,
    base,
    random_benign,
    suite,
)
from models.data import load_digits
from models.versions.schema import Column, InputSchema

CIFAR = (Path(__file__).parents[3] / "../shared/data/cifar10/test.parquet").resolve()
KINDS = {f"{g.name}/{kind.name}": kind.corrupt for g in GROUPS.values() for kind in g.kinds}
RANDOM = {
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "rotate", "shift",
    "glass_blur", "motion_blur", "snow", "frost", "fog", "spatter", "elastic_transform",
    "shear", "translate", "stripe", "dotted_line", "zigzag",
}  # fmt: skip
battery = pytest.mark.parametrize("kind", KINDS)


def schema_of(*shape: int) -> InputSchema:
    return InputSchema("x", shape, "uint8", 0, 255, "image")


def photographs(side: int, count: int) -> Images:
    """Colour images of smooth surfaces, edges and texture, made up: no data set is needed."""
    rng = np.random.default_rng(7)
    v, u = np.mgrid[:side, :side] / side
    angle = rng.uniform(0, 2 * np.pi, (2, count, 1, 1, 1)) + rng.normal(0, 0.2, (2, count, 3, 1, 1))
    surface = 0.5 + 0.3 * np.sin(4 * (u * np.cos(angle[0]) + v * np.sin(angle[0])) + angle[1])
    centre = rng.uniform(0.3, 0.7, (2, count, 1, 1, 1))
    inside = (v - centre[0]) ** 2 + (u - centre[1]) ** 2 < 0.06
    colour = rng.uniform(0.3, 0.8, (count, 3, 1, 1))
    x = np.where(inside, colour, surface) + 0.03 * rng.standard_normal((count, 3, side, side))
    return base.unit(x)


def distance(changed: Images, x: Images) -> float:
    """Mean Euclidean length of the change."""
    return float(np.sqrt(((changed - x) ** 2).sum((1, 2, 3))).mean())


def moves_further(corrupt: Corruption, x: Images) -> None:
    little, much = (distance(corrupt(x, s, np.random.default_rng(0)), x) for s in (1, 5))
    assert 0 < little < much


@pytest.fixture(scope="module")
def digits() -> Images:
    data = load_digits()
    return data.schema.to_unit(data.test.x[:120])


@pytest.fixture(scope="module")
def cifar() -> Images:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    if not CIFAR.exists():
        pytest.skip("the CIFAR-10 test file is not beside the checkout (shared/data/cifar10)")
    table = parquet.read_table(CIFAR).slice(0, 60).to_pydict()
    held = (cell if isinstance(cell, bytes) else cell["bytes"] for cell in table["image"])
    read = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in held]
    return base.unit(np.stack(read).transpose(0, 3, 1, 2) / 255)


@battery
def test_severity_five_changes_digits_more_than_one(kind: str, digits: Images) -> None:
    if kind.endswith("saturate"):
        pytest.skip("grey images have no saturation")
    moves_further(KINDS[kind], digits)


@battery
def test_severity_five_changes_cifar_more_than_one(kind: str, cifar: Images) -> None:
    moves_further(KINDS[kind], cifar)


@battery
@pytest.mark.parametrize("side", [32, 224])
def test_severity_five_changes_colour_images_more_than_one(kind: str, side: int) -> None:
    moves_further(KINDS[kind], photographs(side, 4 if side < 100 else 2))


@battery
@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 32, 32), (2, 1, 9, 13), (2, 3, 28, 20)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_keeps_shape_type_range_and_its_input(
    kind: str, shape: tuple[int, ...], severity: int
) -> None:
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    before = x.copy()
    changed = KINDS[kind](x, severity, np.random.default_rng(1))
    assert (changed.shape, changed.dtype) == (x.shape, np.float32)
    assert changed.min() >= 0
    assert changed.max() <= 1
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(changed, x)


@battery
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_survives_images_without_content(kind: str, value: float) -> None:
    flat = np.full((2, 3, 16, 16), value, dtype=np.float32)
    changed = KINDS[kind](flat, 5, np.random.default_rng(0))
    assert np.isfinite(changed).all()


@battery
def test_follows_the_generator_and_nothing_else(kind: str) -> None:
    x = photographs(32, 3)
    one, two, other = (KINDS[kind](x, 3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.array_equal(one, other) == (kind.split("/")[1] not in RANDOM)


@battery
def test_a_random_kind_draws_anew_for_every_image(kind: str) -> None:
    if kind.split("/")[1] not in RANDOM - {"rotate", "shear", "stripe"}:  # two outcomes, or few
        pytest.skip("the same for every image, or one of few outcomes")
    x = np.repeat(photographs(32, 1), 4, axis=0)
    changed = KINDS[kind](x, 4, np.random.default_rng(1))
    assert len(np.unique(changed.reshape(4, -1), axis=0)) == 4


def test_the_published_lists_are_whole() -> None:
    assert {name: len(group.kinds) for name, group in GROUPS.items()} == {
        "holdfast": 10, "imagenet-c": 15, "imagenet-c-extra": 4, "mnist-c": 15,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "groups", "saturated"),
    [
        ((1, 8, 8), set(GROUPS), False),
        ((1, 224, 224), set(GROUPS), False),
        ((3, 32, 32), set(GROUPS), True),
        ((3, 224, 224), set(GROUPS) - {"mnist-c"}, True),
    ],
)
def test_suite_takes_what_makes_sense(
    shape: tuple[int, ...], groups: set[str], saturated: bool
) -> None:
    kinds = suite(schema_of(*shape))
    assert {kind.group for kind in kinds} == groups
    assert any(kind.name == "saturate" for kind in kinds) == saturated
    assert len({(kind.group, kind.name) for kind in kinds}) == len(kinds)
    assert [kind.name for kind in suite(schema_of(*shape), "quick")] == list(QUICK)


def test_tables_have_no_image_corruptions() -> None:
    assert suite(InputSchema("x", (1,), "float32", 0, 1, "tabular", (Column("a"),))) == []


def test_chunks_bound_the_memory_and_lose_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def darker(x: Images, severity: int, rng: np.random.Generator) -> Images:
        sizes.append(len(x))
        return x / 2

    x = photographs(8, 10)
    monkeypatch.setattr(base, "CHUNK_VALUES", 4 * 192)
    halved = Kind("darker", "test", darker).apply(x, 1, np.random.default_rng(0))
    assert sizes == [4, 4, 2]
    np.testing.assert_array_equal(halved, x / 2)


def test_random_benign_gives_raw_rows_that_the_schema_takes() -> None:
    schema = schema_of(3, 16, 16)
    x = np.random.default_rng(0).integers(0, 256, (200, 3, 16, 16), dtype=np.uint8)
    before = x.copy()
    one, two = (random_benign(schema, x, np.random.default_rng(5)) for _ in range(2))
    schema.check(one)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(x, before)
    assert ((one != x).any(axis=(1, 2, 3))).mean() > 0.9


X = photographs(32, 6)


def after(kind: str, severity: int = 3, x: Images = X) -> Images:
    return KINDS[kind](x, severity, np.random.default_rng(0))


def test_brightness_keeps_hue_and_raises_the_value() -> None:
    told = after("imagenet-c/brightness", 1)
    np.testing.assert_allclose(told.max(axis=1), np.minimum(X.max(axis=1) + 0.05, 1), atol=1e-6)
    ratio = told / np.maximum(X, 1e-6)
    bright = X.min(axis=1) > 0.05
    assert np.ptp(ratio, axis=1)[bright].max() < 1e-3


def test_saturation_falls_to_grey_and_rises() -> None:
    def spread(x: Images) -> float:
        return float(np.ptp(x, axis=1).mean())

    pale = after("imagenet-c-extra/saturate", 2)
    strong = after("imagenet-c-extra/saturate", 4)
    assert spread(pale) < 0.2 * spread(X) < spread(strong)
    grey = np.repeat(X[:, :1], 3, axis=1)
    np.testing.assert_allclose(after("imagenet-c-extra/saturate", 5, grey), grey, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "pixelate"]
)
def test_blurs_smooth_and_keep_the_mean(name: str) -> None:
    told = after(next(k for k in KINDS if k.endswith(f"/{name}") and "imagenet" in k))
    assert np.abs(np.diff(told)).mean() < 0.8 * np.abs(np.diff(X)).mean()
    np.testing.assert_allclose(told.mean((2, 3)), X.mean((2, 3)), atol=0.03)


def test_scale_shrinks_about_the_middle() -> None:
    white = np.ones((1, 1, 40, 40), dtype=np.float32)
    shrunk = after("mnist-c/scale", 5, white)
    assert shrunk.mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(shrunk, shrunk[:, :, ::-1, ::-1], atol=1e-5)


def test_translate_and_rotate_keep_the_ink() -> None:
    dot = np.zeros((8, 1, 41, 41), dtype=np.float32)
    dot[:, :, 17:24, 17:24] = 1
    for name in ("translate", "rotate", "shear"):
        told = after(f"mnist-c/{name}", 3, dot)
        np.testing.assert_allclose(told.sum((1, 2, 3)), 49, rtol=0.05)
    rows, columns = np.mgrid[:41, :41]
    moved = after("mnist-c/translate", 5, dot)
    centre = [(moved * at).sum((1, 2, 3)) / moved.sum((1, 2, 3)) - 20 for at in (rows, columns)]
    np.testing.assert_allclose(np.hypot(*centre), 0.2 * 41, atol=0.05)


def test_stripe_inverts_one_stripe() -> None:
    told = after("mnist-c/stripe", 3)
    changed = (np.abs(told - X) > 1e-6).any(axis=(1, 2))
    assert (changed.sum(axis=1) == round(0.15 * 32)).all()
    assert (np.diff(changed.astype(int), axis=1) == 1).sum(axis=1).max() <= 1  # in one piece
    assert np.allclose(told, np.where(changed[:, None, None], 1 - X, X))


def test_canny_marks_the_outline_of_a_square() -> None:
    square = np.zeros((1, 1, 28, 28), dtype=np.float32)
    square[:, :, 8:20, 8:20] = 1
    edges = after("mnist-c/canny_edges", 5, square)[0, 0]
    assert set(np.unique(edges)) == {0.0, 1.0}
    assert edges[10:18, 6:10].any(axis=1).all()  # the left side
    assert edges[6:10, 10:18].any(axis=0).all()  # the top
    assert not edges[11:17, 11:17].any()
    assert not edges[:5].any()


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_drawn_lines_only_add_ink(name: str) -> None:
    told = after(f"mnist-c/{name}", 5)
    assert (told >= X).all()
    assert 0.02 < (told > X).mean() < 0.7


def test_jpeg_is_what_pillow_saves() -> None:
    told = after("imagenet-c/jpeg_compression", 5)
    held = io.BytesIO()
    raw = np.rint(X[0] * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(raw).save(held, format="JPEG", quality=40)
    read = np.asarray(Image.open(held)).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(told[0], read, atol=1e-6)
