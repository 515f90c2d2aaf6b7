"""PNG and JPEG files to the model's raw tensor, in bounded memory.

A picture of the model's size gives exactly the pixels that training reads from the same file
(`models.data.pictures` is shared). Its size is known from the header: what is too large, or of
another size, is refused before a pixel is decoded.
"""

import io
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from models.base.errors import InputError, show_value
from models.data.pictures.pixels import DEEP_MODES, PLAIN, SIDEWAYS, plain, upright
from models.data.pictures.resize import LARGE_PIXELS, RESIZES, Size, resize_image
from models.versions.schema import DTYPES, InputArray, InputSchema
from service.decoding.image_files import FILE, essential
from service.decoding.rows import check_rows
from service.web.call import Call

MAX_PIXELS = 16_000_000
SLENDER = 16  # pixels of a side that may be long: beside them stands a pointer per row, 32 bytes of
# weights per pixel of a side that is resized, and these shall not outweigh the pixels
LONG_SIDE = 65_535  # is always read; JPEG knows no longer one
READERS = {"png": PngImageFile, "jpeg": JpegImageFile}  # no other one ever sees a client's bytes
MODES = "grey or colour with 8 bits, and nothing transparent"
READ_MODES = (*PLAIN, "P", "1", "LA", "RGBA")  # what `plain` may bring to `PLAIN`
_large = threading.Lock()


class Upload(NamedTuple):
    """A file, and what it is called in messages."""

    field: str
    data: bytes


def takes_images(schema: InputSchema) -> bool:
    """Whether a row is a picture: `(1, H, W)` grey, or `(3, H, W)` red, green and blue."""
    return schema.kind == "image" and len(schema.shape) == 3 and schema.shape[0] in (1, 3)


def read_resize(call: Call) -> str | None:
    """What the query string says is done to pictures of another size, or None.

    Raises:
        InputError: it comes twice, or is none of `RESIZES`; also where no picture is sent.
    """
    resize = call.argument("resize")
    if resize is not None and resize not in RESIZES:
        raise InputError("resize", f"one of {', '.join(RESIZES)}", show_value(resize))
    return resize


def decode_images(
    files: Sequence[Upload],
    schema: InputSchema,
    max_rows: int,
    *,
    resize: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> InputArray:
    """One picture per row as `(N, C, H, W)` in the schema's dtype and range.

    A model of bytes gets the values that stand in the file, in whatever range it was trained. For
    a model of fractions a byte v becomes low + (high - low) v / 255. A grey picture of 16 bits goes
    as it stands to a model whose range ends above 255. Grey becomes colour by three equal channels,
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
    check_rows(len(files), max_rows, "files")
    channels, height, width = schema.shape
    _check_pixels(len(files) * height * width, max_pixels, "files")
    pixels = np.empty((len(files), channels, height, width), dtype=DTYPES[schema.dtype])
    total = 0
    for row, file in enumerate(files):
        image, orientation = _open_image(file)
        count = image.width * image.height
        total += count
        _check_pixels(total, max_pixels, file.field)
        _check_sides(image.size, max_pixels, file.field)
        with _large if count > LARGE_PIXELS else nullcontext():
            image = _fit_image(image, orientation, schema, resize, file.field)
            deep = image.mode in DEEP_MODES
            array = np.asarray(image if deep else image.convert(PLAIN[channels == 3]))
        values = array if channels == 1 else array.transpose(2, 0, 1)
        pixels[row] = _in_range(values, schema)
    return pixels


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
    image: Image.Image, orientation: int, schema: InputSchema, resize: str | None, field: str
) -> Image.Image:
    """Decoded, upright, of the size, in a plain mode (or of 16 bits, where the model takes it)."""
    size = schema.shape[2], schema.shape[1]
    width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
    if resize is None and (width, height) != size:
        expected = f"{size[0]} x {size[1]} pixels, or ?resize={' or '.join(RESIZES)}"
        raise InputError(field, expected, f"{width} x {height} pixels (width x height)")
    try:
        if image.mode in READ_MODES:
            image.load()
            image = _instead(image, plain(image))
            image = _instead(image, upright(image, orientation))
        elif image.mode in DEEP_MODES and _takes_deep(schema):
            image.load()
            image = _instead(image, upright(image, orientation))
        if image.mode in PLAIN or (image.mode in DEEP_MODES and _takes_deep(schema)):
            _check_values(image, schema, field)
            if resize is None or image.size == size:
                return image
            return resize_image(image, size, resize)
    except InputError:
        raise
    except Exception as error:
        _refuse(error, field)
    raise InputError(field, f"a picture that is {MODES}", f"one of Pillow's mode {image.mode}")


def _instead(old: Image.Image, new: Image.Image) -> Image.Image:
    """The new one; the pixels of the old one are given up, whoever still knows it."""
    if new is not old:
        old.close()
    return new


def _takes_deep(schema: InputSchema) -> bool:
    """Whether 16 bits a pixel go to the model as they stand."""
    return schema.dtype == "float32" and schema.high > 255 and schema.shape[0] == 1


def _takes_values(image: Image.Image, schema: InputSchema) -> bool:
    """Whether the values of the file are the model's own, so that nothing is scaled."""
    return schema.dtype == "uint8" or image.mode in DEEP_MODES


def _check_values(image: Image.Image, schema: InputSchema, field: str) -> None:
    """Refuse a file with values that training did not have, where they are the model's own."""
    if (schema.dtype, schema.low, schema.high) == ("uint8", 0, 255):
        return
    if not _takes_values(image, schema):
        return
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < schema.low or high > schema.high:
        expected = (
            f"pixels of {schema.low:g} to {schema.high:g}, as the model was trained on; scale the "
            "picture, or send numbers"
        )
        raise InputError(field, expected, f"pixels of {low} to {high}")


def _in_range(pixels: npt.NDArray[Any], schema: InputSchema) -> InputArray:
    """Values of a file, of any shape, to the schema's range and dtype."""
    if schema.dtype == "uint8" or pixels.dtype != np.uint8:
        if (schema.low, schema.high) == (0, 255) and pixels.dtype == np.uint8:
            return pixels
        return pixels.clip(schema.low, schema.high).astype(DTYPES[schema.dtype])
    of_byte = schema.from_unit(np.arange(256) / 255).clip(schema.low, schema.high)
    x: InputArray = of_byte[pixels]
    return x


def _refuse(error: Exception, field: str) -> NoReturn:
    if isinstance(error, MemoryError):
        raise error
    got = f"a broken one: {show_value(str(error) or type(error).__name__)}"
    raise InputError(field, FILE, got) from error
