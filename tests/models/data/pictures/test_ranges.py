"""Laws of the range of pixels: what is there decides, a note says so, the option overrules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import data
from models.base.errors import DataError
from models.data import Source
from models.data.pictures.ranges import asked_range, find_range, in_pixel_units
from models.versions.schema import InputSchema
from tests import samples
from tests.cases import PICTURES, needs_cases

RNG = np.random.default_rng(0)


def whole(high: int, dtype: Any = np.uint8, *, low: int = 0) -> Any:
    """Pictures of whole numbers, each of which reaches the top."""
    x = RNG.integers(low, high + 1, (40, 1, 8, 8)).astype(dtype)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = high, low
    return x


def dark(high: int) -> Any:
    """Photographs of a dark room: one of them has the brightest spot of all."""
    x = RNG.gamma(3, high / 20, (40, 1, 16, 16)).clip(0, high - 1).astype(np.uint8)
    x[7, 0, 3, 3] = high
    return x


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (whole(1), (0, 1)),
        (whole(16), (0, 16)),
        (whole(16, np.float32), (0, 16)),
        (whole(63), (0, 63)),
        (whole(100), (0, 100)),
        (whole(255), (0, 255)),
        (whole(200), (0, 255)),
        (dark(127), (0, 255)),
        (dark(90), (0, 255)),
        (whole(2) * 40, (0, 80)),
        (whole(3) * 85, (0, 255)),
        (whole(1) * 255, (0, 255)),
        (whole(1000, np.uint16), (0, 1023)),
        (whole(4095, np.uint16), (0, 4095)),
        (whole(65_535, np.float32), (0, 65_535)),
        (whole(100_000, np.float32), (0, 100_000)),
        (whole(1, np.float32, low=-1), (-1, 1)),
        (whole(5, np.float32, low=-7), (-7, 5)),
    ],
)
def test_whole_numbers_are_bytes_but_where_they_are_certainly_none(
    x: Any, expected: tuple[float, float]
) -> None:
    pixels = find_range([x[:20], x[20:]], "a")
    assert (pixels.low, pixels.high) == expected
    assert f"{x.min():g}..{x.max():g}" in pixels.note
    assert f"{expected[0]:g}..{expected[1]:g}" in pixels.note
    assert "--range" in pixels.note


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (0.2, 0.9, (0, 1)),
        (-1, 1, (-1, 1)),
        (0, 255, (0, 255)),
        (3, 250, (0, 255)),
        (0, 16, (0, 16)),
        (-3, 3, (-3, 3)),
        (0, 300, (0, 300)),
    ],
)
def test_the_range_of_fractions_is_a_common_one_or_theirs(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    x = np.linspace(low, high, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    for arrays in ([x], [x[:1], x[1:]]):
        pixels = find_range(arrays, "a")
        np.testing.assert_allclose((pixels.low, pixels.high), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_pixels_that_are_all_the_same_are_refused(dtype: Any) -> None:
    with pytest.raises(DataError, match="a: every pixel of every image is 3; expected pictures"):
        find_range([np.full((2, 1, 4, 4), 3, dtype=dtype)], "a")


def test_what_lies_outside_the_range_that_was_asked_for_is_named_by_its_row() -> None:
    x = whole(16)
    assert asked_range("0,255", [x], [str], "a").high == 255
    x[13, 0, 2, 2] = 17
    with pytest.raises(DataError, match=r"13: pixels of 0..17 .* --range 0,16 \(1 such im"):
        asked_range("0,16", [x], [str], "a")
    for text in ("5", "3,1", "0,nan", "a,b", "0,1,2"):
        with pytest.raises(DataError, match="expected the lowest and the highest value of a pixel"):
            asked_range(text, [x], [str], "a")


def test_a_range_that_was_asked_for_is_the_schemas(tmp_path: Path) -> None:
    x, y = samples.pictures(20)
    np.savez(tmp_path / "a.npz", x=x // 11, y=y)
    path = str(tmp_path / "a.npz")
    schemas = [data.load(Source(path, range=text)).schema for text in ("", "0,255", "-1,16")]
    assert [(s.low, s.high, s.dtype) for s in schemas] == [
        (0, 15, "uint8"), (0, 255, "uint8"), (-1, 16, "float32"),
    ]  # fmt: skip
    np.savez(tmp_path / "b.npz", x=x[:, 0], y=y)
    with pytest.raises(DataError, match="--range is for images"):
        data.load(Source(str(tmp_path / "b.npz"), range="0,1"))


def test_eps_is_told_in_the_unit_of_the_pixels() -> None:
    schema = InputSchema("input", (1, 8, 8), "uint8", 0, 16, kind="image")
    assert in_pixel_units(0.15, schema) == " (2.4 in pixels of 0..16)"
    unit = InputSchema("input", (1, 8, 8), "float32", 0, 1, kind="image")
    table = InputSchema("input", (3,), "float32", 0, 9, kind="tabular")
    assert in_pixel_units(0.15, unit) == in_pixel_units(0.15, table) == ""


@needs_cases
@pytest.mark.parametrize(("name", "high"), [("digits_0_to_16.npz", 16), ("bool_images.npz", 1)])
def test_small_scales_of_the_cases_are_their_range(name: str, high: int) -> None:
    made = data.load(str(PICTURES / name))
    assert (made.schema.low, made.schema.high, made.schema.dtype) == (0, high, "uint8")
    assert any(f"pixels lie in 0..{high}" in note for note in made.notes)
