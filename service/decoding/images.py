"""PNG and JPEG files to the model's raw tensor, in bounded memory.

A picture of the model's size gives exactly the pixels that training reads from the same file
(`models.data.pixels` is shared). Its size is known from the header: what is too large, or of
another size, is refused before a pixel is decoded.
"""

import io
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.Image import Resampling
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from models.base.errors import InputError, show_value
from models.data.pixels import PLAIN, SIDEWAYS, plain, upright
from models.versions.schema import InputArray, InputSchema
from service.decoding.image_files import FILE, essential
from service.decoding.rows import check_rows

MAX_PIXELS = 16_000_000
LARGE_PIXELS = 1_000_000  # larger ones are decoded one at a time
RESIZES = ("stretch", "crop", "pad")
SLENDER = 16  # pixels of a side that may be long: beside them stands a pointer per row, 32 bytes of
# weights per pixel of a side that is resized, and these shall not outweigh the pixels
LONG_SIDE = 65_535  # is always read; JPEG knows no longer one
READERS = {"png": PngImageFile, "jpeg": JpegImageFile}  # no other one ever sees a client's bytes
MODES = "grey or colour with 8 bits, and nothing transparent"
READ_MODES = (*PLAIN, "P", "1", "LA", "RGBA")  # what `plain` may bring to `PLAIN`
Size = tuple[int, int]  # width, height
_large = threading.Lock()


class Upload(NamedTuple):
    """A file, and what it is called in messages."""

    field: str
    data: bytes


def takes_images(schema: InputSchema) -> bool:
    """Whether a row is a picture: `(1, H, W)` grey, or `(3, H, W)` red, green and blue."""
    return schema.kind == "image" and len(schema.shape) == 3 and schema.shape[0] in (1, 3)


def decode_images(
    files: Sequence[Upload],
    schema: InputSchema,
    max_rows: int,
    *,
    resize: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> InputArray:
    """One picture per row as `(N, C, H, W)` in the schema's dtype and range.

    A byte v becomes low + (high - low) v / 255. Grey becomes colour by three equal channels,
    colour becomes grey by its luma (ITU-R BT.601); both change nothing in a grey picture.

    Args:
        files: PNG or JPEG, whatever their names and types say.
        schema: one that `takes_images`.
        max_rows: the most files.
        resize: what is done to pictures of another size: `stretch`, `crop` (the middle of it is
            taken) or `pad` (with black), antialiased; None refuses them.
        max_pixels: the most pixels that all files may have together, and all rows. A side may be
            a `SLENDER`th of it (1,000,000 pixels) long, and `LONG_SIDE` in any case.

    Raises:
        InputError: too many files or pixels, too long a side, no PNG or JPEG file, a broken one,
            another size, or pixels that are not `MODES`.
    """
    if resize is not None and resize not in RESIZES:
        raise InputError("resize", f"one of {', '.join(RESIZES)}", show_value(resize))
    check_rows(len(files), max_rows, "files")
    channels, height, width = schema.shape
    _check_pixels(len(files) * height * width, max_pixels, "files")
    pixels = np.empty((len(files), channels, height, width), dtype=np.uint8)
    total = 0
    for row, file in enumerate(files):
        image, orientation = _open_image(file)
        count = image.width * image.height
        total += count
        _check_pixels(total, max_pixels, file.field)
        _check_sides(image.size, max_pixels, file.field)
        with _large if count > LARGE_PIXELS else nullcontext():
            image = _fit_image(image, orientation, (width, height), resize, file.field)
            array = np.asarray(image.convert(PLAIN[channels == 3]))
        pixels[row] = array if channels == 1 else array.transpose(2, 0, 1)
    return _in_range(pixels, schema)


def _check_pixels(pixels: int, most: int, field: str) -> None:
    if pixels > most:
        expected = f"at most {most} pixels in a request (HOLDFAST_MAX_IMAGE_PIXELS)"
        raise InputError(field, expected, f"{pixels} pixels")


def _check_sides(size: Size, max_pixels: int, field: str) -> None:
    longest = max(LONG_SIDE, max_pixels // SLENDER)
    if max(size) > longest:
        why = f"(a {SLENDER}th of HOLDFAST_MAX_IMAGE_PIXELS)"
        got = f"{size[0]} x {size[1]} pixels (width x height)"
        raise InputError(field, f"no side longer than {longest} pixels {why}", got)


def _open_image(file: Upload) -> tuple[Image.Image, int]:
    """The header of a file, and the orientation that it notes."""
    kind, data, orientation = essential(file.data, file.field)
    try:
        return READERS[kind](io.BytesIO(data)), orientation
    except Exception as error:  # Pillow says nowhere what its readers may raise
        _refuse(error, file.field)


def _fit_image(
    image: Image.Image, orientation: int, size: Size, resize: str | None, field: str
) -> Image.Image:
    """Decoded, upright, in a plain mode and of the size."""
    width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
    if resize is None and (width, height) != size:
        expected = f"{size[0]} x {size[1]} pixels, or ?resize={' or '.join(RESIZES)}"
        raise InputError(field, expected, f"{width} x {height} pixels (width x height)")
    try:
        if image.mode in READ_MODES:
            image.load()
            image = _instead(image, plain(image))
            image = _instead(image, upright(image, orientation))
        if image.mode in PLAIN:
            return image if image.size == size else _resize_image(image, size, resize)
    except Exception as error:
        _refuse(error, field)
    raise InputError(field, f"a picture that is {MODES}", f"one of Pillow's mode {image.mode}")


def _instead(old: Image.Image, new: Image.Image) -> Image.Image:
    """The new one; the pixels of the old one are given up, whoever still knows it."""
    if new is not old:
        old.close()
    return new


def _resize_image(image: Image.Image, size: Size, resize: str | None) -> Image.Image:
    """By bicubic interpolation, over all pixels that fall into one where it becomes smaller."""
    if resize == "crop":
        return ImageOps.fit(image, size, Resampling.BICUBIC)
    if resize == "stretch":
        return _scale_image(image, size)
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    padded = Image.new(image.mode, size)
    inner = _scale_image(image, (width, height))
    padded.paste(inner, ((size[0] - width) // 2, (size[1] - height) // 2))
    return padded


def _scale_image(image: Image.Image, size: Size) -> Image.Image:
    """Resized; no large picture in between has more pixels than the larger of both.

    Pillow goes along the rows first: one that becomes wider and lower would first be wider at its
    full height. Where that is not large it stays so, for the sake of the same values.
    """
    widened = size[0] * image.height
    if widened > LARGE_PIXELS and size[0] > image.width and size[1] < image.height:
        image = image.resize((image.width, size[1]), Resampling.BICUBIC)
    return image.resize(size, Resampling.BICUBIC)


def _in_range(pixels: npt.NDArray[np.uint8], schema: InputSchema) -> InputArray:
    """Bytes `(N, C, H, W)` to the schema's range and dtype."""
    if schema.dtype == "uint8" and (schema.low, schema.high) == (0, 255):
        return pixels
    of_byte = schema.from_unit(np.arange(256) / 255).clip(schema.low, schema.high)
    x: InputArray = of_byte[pixels]
    return x


def _refuse(error: Exception, field: str) -> NoReturn:
    if isinstance(error, MemoryError):
        raise error
    got = f"a broken one: {show_value(str(error) or type(error).__name__)}"
    raise InputError(field, FILE, got) from error
