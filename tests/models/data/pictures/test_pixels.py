"""Laws of what training and serving make of an opened image."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.data.pictures.pixels import ORIENTATION, PLAIN, plain, upright

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)


def with_alpha(array: Any, alpha: int) -> Image.Image:
    image = Image.fromarray(array)
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_viewers_show_it(orientation: int) -> None:
    image = Image.fromarray(COLOUR)
    image.getexif()[ORIENTATION] = orientation
    shown = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(np.asarray(upright(image, orientation)), shown)


@pytest.mark.parametrize("orientation", [0, 9, 65535, None, "6", b"\6", (6, 6)])
def test_an_orientation_that_means_nothing_turns_nothing(orientation: object) -> None:
    image = Image.fromarray(COLOUR)
    assert upright(image, orientation) is image


def test_another_way_to_write_grey_or_colour_is_undone_without_loss() -> None:
    few = Image.fromarray(COLOUR // 64 * 64).quantize(24)
    colours = np.asarray(few.convert("RGB"))
    black = Image.fromarray(GREY > 127)
    for image, wanted in (
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(COLOUR), COLOUR),
        (few, colours),
        (black, (GREY > 127).astype(np.uint8) * 255),
        (with_alpha(GREY, 255), GREY),
        (with_alpha(COLOUR, 255), COLOUR),
    ):
        found = plain(image)
        assert found.mode in PLAIN
        np.testing.assert_array_equal(np.asarray(found), wanted)


def test_what_would_lose_something_is_left_for_the_caller_to_refuse() -> None:
    see_through = Image.fromarray(COLOUR).quantize(16)
    see_through.info["transparency"] = 3
    for image in (
        with_alpha(GREY, 254),
        with_alpha(COLOUR, 0),
        see_through,
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.float32)),
        Image.fromarray(COLOUR).convert("CMYK"),
    ):
        assert plain(image).mode not in PLAIN
