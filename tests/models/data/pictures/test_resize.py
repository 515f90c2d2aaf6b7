"""Laws of pictures of several sizes: refused with their numbers, or brought to one size."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.formats.images import Stack
from models.data.pictures.resize import (
    RESIZES,
    Fit,
    describe_sizes,
    fit_of,
    resize_array,
    resize_image,
)
from tests import samples

RNG = np.random.default_rng(0)


def mixed(root: Path) -> Path:
    """Sixteen pictures of 8x8, eight of 12x6 pixels."""
    samples.write_folder(root, rows=12, channels=3)
    for index in range(8):
        image = RNG.integers(0, 256, (6, 12, 3)).astype(np.uint8)
        (root / "cat" / f"{2 * index:05}.png").write_bytes(samples.encoded(image))
    return root


def test_sizes_are_named_with_their_numbers_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 sizes .*: 8x8 \(16\), 12x6 \(8\); .* --resize") as e:
        data.load(str(mixed(tmp_path)))
    assert "brings them to 8x8, --resize stretch:WxH to another" in str(e.value)
    many = Counter({(side, 1): side for side in range(1, 20)})
    assert "19x1 (19), 18x1 (18)" in describe_sizes(many, "a")
    assert "and 11 more" in describe_sizes(many, "a")


@pytest.mark.parametrize("mode", RESIZES)
def test_pictures_come_to_the_commonest_size_or_the_one_that_was_named(
    tmp_path: Path, mode: str
) -> None:
    folder = mixed(tmp_path)
    made = data.load(Source(str(folder), resize=mode))
    assert made.schema.shape == (3, 8, 8)
    assert any("8 of 24 images were brought to 8x8 pixels" in note for note in made.notes)
    assert data.load(Source(str(folder), resize=f"{mode}:5x4")).schema.shape == (3, 4, 5)


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    folder = mixed(tmp_path)
    made = data.load(Source(str(folder), resize="pad"))
    with Image.open(folder / "dog" / "00003.png") as image:
        wanted = np.asarray(image).transpose(2, 0, 1)
    parts = (made.train, made.calibration, made.test)
    assert any((row == wanted).all() for part in parts for row in part.x)


def test_the_test_part_comes_to_the_size_of_training(tmp_path: Path) -> None:
    samples.write_folder(tmp_path / "train", rows=12)
    samples.write_folder(tmp_path / "test", rows=6, size=10, seed=1)
    with pytest.raises(DataError, match=r"shape .* but the training part .* --resize"):
        data.load(str(tmp_path))
    made = data.load(Source(str(tmp_path), resize="stretch"))
    assert made.test.x.shape == (12, 1, 8, 8)


def test_arrays_are_resized_as_files_are(tmp_path: Path) -> None:
    x, y = samples.pictures(24, channels=3)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    made = data.load(Source(str(tmp_path / "a.npz"), resize="crop:5x4"))
    wanted = {
        np.asarray(resize_image(Image.fromarray(each), (5, 4), "crop")).transpose(2, 0, 1).tobytes()
        for each in x
    }
    parts = (made.train, made.calibration, made.test)
    assert {row.tobytes() for part in parts for row in part.x} == wanted
    np.savez(tmp_path / "b.npz", x=x[:, 0, :, 0], y=y)
    with pytest.raises(DataError, match="--resize is for images, and this is a table"):
        data.load(Source(str(tmp_path / "b.npz"), resize="crop"))


@pytest.mark.parametrize("mode", RESIZES)
def test_fractions_stay_in_the_range_that_they_had(mode: str) -> None:
    x = RNG.integers(0, 2, (5, 1, 9, 7)).astype(np.float32)
    fitted = resize_array(x, Fit(mode, (20, 30)))
    assert fitted.shape == (5, 1, 30, 20)
    assert fitted.min() >= 0
    assert fitted.max() <= 1


@pytest.mark.parametrize("text", ["zoom", "stretch:8", "stretch:0x5", "crop:5x4x3", "Stretch"])
def test_an_option_that_cannot_be_is_explained(text: str) -> None:
    with pytest.raises(DataError, match=r"--resize '.*': "):
        fit_of(text, Counter)


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_grey_pictures_of_16_bits_keep_them(tmp_path: Path, kind: str) -> None:
    values = RNG.integers(0, 2**16, (6, 4)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    stack = Stack(1, "pictures")
    stack.add(tmp_path / f"a.{kind}", "a")
    assert stack.pixels.dtype == np.uint16
    np.testing.assert_array_equal(stack.pixels[0, 0], values)


def test_a_set_of_16_bits_is_a_model_of_fractions_with_its_range(tmp_path: Path) -> None:
    for index in range(24):
        folder = tmp_path / ("cat", "dog")[index % 2]
        folder.mkdir(exist_ok=True)
        values: Any = RNG.integers(0, 3000, (8, 8)).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{index}.png")
    made = data.load(str(tmp_path))
    schema = made.schema
    assert (schema.dtype, schema.low, schema.high) == ("float32", 0, 4095)
    resized = data.load(Source(str(tmp_path), resize="stretch:4x4"))
    assert resized.train.x.max() <= 4095
