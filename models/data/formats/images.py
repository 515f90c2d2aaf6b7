"""Decoding of encoded images (PNG, JPEG, ...) into one array."""

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.base.errors import DataError
from models.data import memory
from models.data.pictures.pixels import (
    DEEP_MODES,
    ORIENTATION,
    PLAIN,
    SIDEWAYS,
    plain,
    upright,
)
from models.data.pictures.resize import Fit, Size, describe_sizes, resize_image
from models.versions.schema import InputArray

Shape = tuple[int, int, int]  # channels, height, width
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)


class Stack:
    """Images of one mode, decoded one by one into `(count, C, H, W)`.

    Grey images have one channel, colour images three, upright as their EXIF orientation says; grey
    ones of 16 bits stay so (uint16). A palette is colours written another way; opaque alpha holds
    nothing; anything else is refused and not converted in silence. Images of another size are
    brought to one by `fit`; without it their sizes are counted, and refused together at the end.
    """

    def __init__(self, count: int, what: str, fit: Fit | None = None) -> None:
        self.count, self.what, self.fit = count, what, fit
        self.filled, self.first = 0, ""
        self.shape: Shape = (0, 0, 0)
        self.sizes: Counter[Size] = Counter()
        self._pixels: InputArray = np.empty((0, 0, 0, 0), dtype=np.uint8)

    @property
    def pixels(self) -> InputArray:
        """All images. Raises DataError where they have several sizes and nothing says which."""
        if self.fit is None and len(self.sizes) > 1:
            raise DataError(describe_sizes(self.sizes, self.what))
        return self._pixels

    def add(self, encoded: bytes | Path, name: str) -> None:
        """Decode the next image, called `name` in messages.

        Raises:
            DataError: it cannot be decoded, is of another mode than the first one, or the images do
                not fit into memory.
        """
        if self.filled == self.count:
            raise DataError(f"{name}: more images than the {self.count} that were promised")
        try:
            with _open(encoded) as image:
                size = _size(image)
                self.sizes[size] += 1
                pixels = None
                if self.fit is not None or len(self.sizes) == 1:
                    pixels = _pixels(image, name, self.fit)
        except UNREADABLE as error:
            raise _undecodable(name, error) from error
        except Image.DecompressionBombError as error:
            raise DataError(f"{name}: the image is too large: {error}") from error
        if pixels is not None:
            self._put(pixels, name)
        self.filled += 1

    def _put(self, pixels: InputArray, name: str) -> None:
        shape = (1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])
        if not self.first:
            self._begin(shape, pixels.dtype, name)
        if shape != self.shape or pixels.dtype != self._pixels.dtype:
            raise DataError(
                f"{name} is {_show(shape, pixels)}, but {self.first} is "
                f"{_show(self.shape, self._pixels)}; all images of a set need one mode: resize or "
                "convert them first"
            )
        self._pixels[self.filled] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _begin(self, shape: Shape, dtype: np.dtype[np.generic], name: str) -> None:
        self.shape, self.first = shape, name
        size = (self.count, *shape)
        needed = int(np.prod(size, dtype=np.int64)) * dtype.itemsize
        memory.require(needed, f"{self.what} ({self.count} images)")
        self._pixels = np.empty(size, dtype=dtype)


def count_sizes(images: Iterable[tuple[bytes | Path, str]]) -> Counter[Size]:
    """How many images have each size, from their headers; each comes with its name.

    Raises:
        DataError: one is no image.
    """
    sizes: Counter[Size] = Counter()
    for encoded, name in images:
        try:
            with _open(encoded) as image:
                sizes[_size(image)] += 1
        except UNREADABLE as error:
            raise _undecodable(name, error) from error
    return sizes


def _open(encoded: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)


def _size(image: Image.Image) -> Size:
    """Width and height that it will have, before it is decoded."""
    sideways = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
    return (image.height, image.width) if sideways else image.size


def _pixels(image: Image.Image, name: str, fit: Fit | None) -> InputArray:
    """`(H, W)` of a grey or `(H, W, 3)` of a colour image."""
    image = upright(image, image.getexif().get(ORIENTATION))
    if image.mode in DEEP_MODES:
        return _deep_pixels(image, name, fit)
    image = plain(image)
    if image.mode not in PLAIN:
        raise DataError(
            f"{name}: mode {image.mode} is not taken (grey with 8 or 16 bits, or colour with 8, "
            "opaque); convert the images first, for a model sees what is left of them"
        )
    if fit is not None and image.size != fit.size:
        image = resize_image(image, fit.size, fit.mode)
    return np.asarray(image)


def _deep_pixels(image: Image.Image, name: str, fit: Fit | None) -> InputArray:
    """Grey with 16 bits, `(H, W)` uint16."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise DataError(
            f"{name}: pixels of {values.min()} to {values.max()}; an image has at most 16 bits: "
            "convert the images first"
        )
    values = values.astype(np.uint16)
    if fit is None or image.size == fit.size:
        return values
    return np.asarray(resize_image(Image.fromarray(values), fit.size, fit.mode)).astype(np.uint16)


def _show(shape: Shape, pixels: InputArray) -> str:
    mode = "RGB" if shape[0] == 3 else "grey"
    return f"{shape[2]}x{shape[1]} {mode}{' of 16 bits' * (pixels.dtype == np.uint16)}"


def _undecodable(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name}: the image cannot be decoded ({_reason(error)}); replace it or take it out"
    )


def _reason(error: Exception) -> str:
    """Why, without the buffer's address that Pillow puts into some messages."""
    text = str(error)
    return "no known image format" if "cannot identify image" in text else text or "no reason given"
