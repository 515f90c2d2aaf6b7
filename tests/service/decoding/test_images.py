"""Laws of pictures as rows: what training sees is what serving sees, and nothing costs much."""

import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.base.errors import InputError
from models.data.formats.images import Stack
from models.versions.schema import InputSchema
from service.decoding.images import RESIZES, Upload, decode_images, takes_images
from tests.service import pictures
from tests.service.pictures import colour, grey, saved


def schema(
    shape: tuple[int, ...] = (1, 8, 8),
    dtype: Literal["float32", "uint8"] = "uint8",
    low: float = 0,
    high: float = 255,
) -> InputSchema:
    return InputSchema("input", shape, dtype, low, high, kind="image")


GREY, COLOUR = schema(), schema((3, 8, 8))
DIGITS = schema(dtype="float32", high=16)


def decoded(data: bytes, wanted: InputSchema, **options: Any) -> Any:
    return decode_images([Upload("body", data)], wanted, 4, **options)[0]


def refused(data: bytes, wanted: InputSchema, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        decoded(data, wanted, **options)
    return caught.value


MODES = ("L", "LA", "RGB", "P", "1", "RGBA")
FILES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("png", {}),
    ("png", {"compress_level": 0}),
    ("jpeg", {"quality": 50}),
    ("jpeg", {"progressive": True, "subsampling": 2}),
)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(MODES),
    st.sampled_from(FILES),
    st.integers(1, 12),
    st.integers(1, 12),
    st.none() | st.integers(1, 8),
)
def test_a_picture_is_served_as_training_reads_it(
    seed: int,
    mode: str,
    file: tuple[str, dict[str, Any]],
    height: int,
    width: int,
    orientation: int | None,
) -> None:
    kind, options = file
    if kind == "jpeg" and mode not in ("L", "RGB"):
        mode = "L"
    image = Image.fromarray(colour(seed, height, width)).convert(mode)
    data = saved(image, kind, orientation=orientation, **options)
    stack = Stack(1, "pictures")
    stack.add(data, "picture")
    trained = stack.pixels[0]
    np.testing.assert_array_equal(decoded(data, schema(trained.shape)), trained)
    unit = decoded(data, schema(trained.shape, "float32", 0, 1))
    np.testing.assert_array_equal(unit, trained.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 16.0), (-0.1, 0.3), (0.0, 255.0)]
)
def test_bytes_go_to_the_range_of_the_schema_and_never_out_of_it(low: float, high: float) -> None:
    wanted = schema((1, 16, 16), "float32", low, high)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    x = decode_images([Upload("body", saved(ramp))], wanted, 1)
    wanted.check(x)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0, 0], low + (high - low) * (ramp / 255), rtol=0, atol=1e-6)
    assert (x.min(), x.max()) == (np.float32(low), np.float32(high))


def test_a_model_of_bytes_gets_the_values_that_stand_in_the_file() -> None:
    """Training on files of 0 to 16 read them as they stand, and so does serving."""
    small, values = schema(high=16), np.arange(64, dtype=np.uint8).reshape(8, 8) // 4
    found = decoded(saved(Image.fromarray(values)), small)
    np.testing.assert_array_equal(found[0], values)
    error = refused(saved(Image.fromarray(values * 8)), small)
    assert "pixels of 0 to 16, as the model was trained on" in str(error)
    assert "pixels of 0 to 120" in str(error)
    wide = Image.fromarray(np.tile(values, (2, 2)))
    assert decoded(saved(wide), small, resize="stretch").max() <= 16


def test_16_bits_go_as_they_stand_to_a_model_that_was_trained_on_them() -> None:
    deep = schema(dtype="float32", high=4095)
    values = np.random.default_rng(0).integers(0, 4096, (8, 8)).astype(np.uint16)
    found = decoded(saved(Image.fromarray(values)), deep)
    np.testing.assert_array_equal(found[0], values.astype(np.float32))
    assert "pixels of 0 to 4095" in str(refused(saved(Image.fromarray(values * 16)), deep))
    byte = decoded(saved(Image.fromarray(grey())), deep)
    np.testing.assert_allclose(byte[0], grey() * np.float32(4095 / 255), rtol=1e-6)
    large = saved(Image.fromarray(np.tile(values, (3, 3))))
    assert decoded(large, deep, resize="stretch").max() <= 4095


def test_grey_and_colour_become_each_other_and_keep_what_is_grey() -> None:
    shades = grey()
    np.testing.assert_array_equal(decoded(saved(shades), COLOUR), np.stack([shades] * 3))
    as_colour = np.repeat(shades[..., None], 3, axis=2)
    np.testing.assert_array_equal(decoded(saved(as_colour), GREY)[0], shades)
    luma = colour() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decoded(saved(colour()), GREY)[0], luma, rtol=0, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_taken_with_a_turned_camera_is_brought_upright(
    kind: str, orientation: int
) -> None:
    undo = {6: 90, 8: 270}.get(orientation)
    data = saved(grey(height=8, width=6), kind, orientation=orientation)
    plain = decoded(saved(grey(height=8, width=6), kind), schema((1, 8, 6)))[0]
    wide = orientation >= 5
    x = decoded(data, schema((1, 6, 8) if wide else (1, 8, 6)))[0]
    assert np.array_equal(np.sort(x, axis=None), np.sort(plain, axis=None))
    assert np.array_equal(x, plain) == (orientation == 1)
    if undo:
        np.testing.assert_array_equal(np.rot90(x, undo // 90), plain)
    got = refused(data, schema((1, 8, 6) if wide else (1, 6, 8))).got
    assert got == ("8 x 6" if wide else "6 x 8") + " pixels (width x height)"


def test_another_size_is_refused_by_both_names_unless_a_way_to_resize_is_given() -> None:
    data = saved(grey(height=30, width=20))
    error = refused(data, GREY)
    assert error.field == "body"
    assert error.expected == "8 x 8 pixels, or ?resize=stretch or crop or pad"
    assert error.got == "20 x 30 pixels (width x height)"
    for resize in RESIZES:
        assert decoded(data, GREY, resize=resize).shape == (1, 8, 8)


def test_a_picture_of_the_right_size_is_never_resized() -> None:
    for resize in RESIZES:
        np.testing.assert_array_equal(decoded(saved(grey()), GREY, resize=resize)[0], grey())


def test_stretch_keeps_all_crop_the_middle_and_pad_all_between_black() -> None:
    half = np.zeros((16, 32), dtype=np.uint8)
    half[:, :8], half[:, 8:24] = 255, 128
    stretched = decoded(saved(half), GREY, resize="stretch")[0].astype(int)
    assert np.abs(stretched[:, [0, 4, 7]] - [255, 128, 0]).max() <= 3
    cropped = decoded(saved(half), GREY, resize="crop")[0].astype(int)
    assert np.abs(cropped - 128).max() <= 10
    padded = decoded(saved(half), GREY, resize="pad")[0]
    assert (padded[:2].max(), padded[-2:].max(), padded[2:6, 0].min()) == (0, 0, 255)


@given(st.integers(1, 2000), st.integers(1, 3), st.booleans(), st.sampled_from(RESIZES))
def test_any_size_can_be_resized(long: int, short: int, tall: bool, resize: str) -> None:
    image = Image.new("RGB", (short, long) if tall else (long, short), "white")
    x = decoded(saved(image), schema((3, 5, 9)), resize=resize)
    assert x.shape == (3, 5, 9)
    assert x.max() == 255
    assert resize == "pad" or x.min() == 255


def test_a_fine_pattern_is_averaged_not_sampled() -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    x = decoded(saved(board), GREY, resize="stretch")
    assert np.abs(x.astype(int) - 127).max() <= 2


SEE_THROUGH = Image.fromarray(colour())
SEE_THROUGH.putalpha(200)
LOSSY = {
    "see-through": (saved(SEE_THROUGH), "RGBA"),
    "see-through palette": (saved(Image.fromarray(colour()).quantize(8), transparency=1), "RGBA"),
    "16 bits": (saved(Image.fromarray(grey().astype(np.uint16) * 257)), "I;16"),
    "inks": (saved(Image.fromarray(colour()).convert("CMYK"), "jpeg"), "CMYK"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_what_would_lose_something_is_refused_as_training_refuses_it(name: str) -> None:
    data, mode = LOSSY[name]
    for resize in (None, "stretch"):
        error = refused(data, COLOUR, resize=resize)
        assert error.got == f"one of Pillow's mode {mode}"
        assert "8 bits" in error.expected


def test_of_16_bits_per_colour_the_higher_8_are_read_as_training_reads_them() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (8, 8, 3)).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    header = pictures.chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = pictures.chunk(b"IDAT", zlib.compress(lines)) + pictures.chunk(b"IEND")
    png = PNG[:8] + header + data
    stack = Stack(1, "pictures")
    stack.add(png, "picture")
    x = decoded(png, COLOUR)
    np.testing.assert_array_equal(x, stack.pixels[0])
    np.testing.assert_array_equal(x, (values >> 8).transpose(2, 0, 1))


PNG, JPEG = saved(colour()), saved(colour(), "jpeg")


def with_header(content: bytes) -> bytes:
    return PNG[:8] + pictures.chunk(b"IHDR", content) + PNG[33:]


BROKEN = {
    "the data are cut": PNG[: PNG.index(b"IDAT") - 4] + pictures.chunk(b"IDAT", b"x") + PNG[-12:],
    "no data": PNG[: PNG.index(b"IDAT") - 4] + PNG[-12:],
    "a wrong checksum": PNG[:30] + b"xx" + PNG[32:],
    "no size": with_header(bytes(8) + PNG[24:29]),
    "a jpeg that breaks off": JPEG[:-20],
    "a jpeg of no size": JPEG.replace(b"\0\x08\0\x08", bytes(4), 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name: str) -> None:
    for resize in (None, "pad"):
        error = refused(BROKEN[name], COLOUR, resize=resize)
        assert (error.field, error.expected) == ("body", "a PNG or JPEG file")
        assert error.got.startswith("a broken one: ")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file with some bytes changed, doubled, moved or gone; often with its checksums right."""
    data = bytearray(draw(st.sampled_from([PNG, JPEG, *(each for each, _ in LOSSY.values())])))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        end = place + draw(st.integers(0, 20))
        data[place:end] = draw(st.binary(max_size=6) | st.just(bytes(data[place:end]) * 2))
    if not draw(st.booleans()):
        return bytes(data)
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        data[end : end + 4] = pictures.crc(bytes(data[place + 4 : end])) if end < len(data) else b""
        place = end + 4
    return bytes(data)


@given(mutated(), st.sampled_from([None, *RESIZES]), st.sampled_from([GREY, COLOUR, DIGITS]))
def test_any_file_is_decoded_or_refused(data: bytes, resize: str | None, to: InputSchema) -> None:
    told = []
    try:
        to.check(decode_images([Upload("body", data)], to, 1, resize=resize))
    except InputError as error:
        told.append(str(error))
    assert all(text.startswith("body: ") and len(text) < 300 for text in told)


def test_the_rows_are_counted_before_anything_is_read() -> None:
    for count in (0, 5):
        with pytest.raises(InputError) as caught:
            decode_images([Upload("body", b"")] * count, GREY, 4)
        assert caught.value.field == "files"
        assert caught.value.expected == "1 to 4 rows"


def test_pixels_are_counted_over_all_files_and_all_rows() -> None:
    small, large = Upload("files[0]", saved(grey())), saved(grey(height=20, width=20))
    files = [small, Upload("files[1]", large), Upload("files[2]", large)]
    assert len(decode_images(files, GREY, 3, resize="pad", max_pixels=864)) == 3
    with pytest.raises(InputError) as caught:
        decode_images(files, GREY, 3, resize="pad", max_pixels=863)
    assert caught.value.field == "files[2]"
    assert caught.value.got == "864 pixels"
    with pytest.raises(InputError) as caught:  # rows that are made larger count as rows
        decode_images([small] * 3, schema((1, 100, 100)), 3, resize="pad", max_pixels=29_999)
    assert caught.value.field == "files"


@pytest.mark.parametrize("resize", [None, *RESIZES])
@pytest.mark.parametrize("size", [(1, 16_000_000), (16_000_000, 1), (2, 8_000_000), (1_000_001, 3)])
def test_a_side_that_is_absurdly_long_is_refused_by_both_sides(
    size: tuple[int, int], resize: str | None
) -> None:
    error = refused(pictures.bomb(*size), COLOUR, resize=resize)
    assert error.expected.startswith("no side longer than 1000000 pixels")
    assert error.got == f"{size[0]} x {size[1]} pixels (width x height)"


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(1, 65_535), (65_535, 1)])
def test_a_side_that_jpeg_knows_is_read_however_few_pixels_are_allowed(
    size: tuple[int, int], resize: str
) -> None:
    shape = decoded(pictures.bomb(*size), GREY, resize=resize, max_pixels=65_535).shape
    assert shape == (1, 8, 8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_stretch_is_what_pillow_does(width: int, height: int, wide: int, high: int) -> None:
    image = Image.fromarray(grey(height=height, width=width))
    made = decoded(saved(image), schema((1, high, wide)), resize="stretch")[0]
    wanted = np.asarray(image.resize((wide, high), Image.Resampling.BICUBIC))
    assert made.tolist() == wanted.tolist()


def test_only_tensors_that_are_pictures_take_images() -> None:
    assert takes_images(GREY)
    assert takes_images(COLOUR)
    for shape in ((8, 8), (64,), (2, 8, 8), (4, 8, 8), (8, 8, 3), (1, 1, 8, 8)):
        assert not takes_images(schema(shape))
    assert not takes_images(InputSchema("row", (3,), "float32", 0, 1, kind="tabular"))
