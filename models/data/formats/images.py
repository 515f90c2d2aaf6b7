"""Decoding of encoded images (PNG, JPEG, ...) into one uint8 array."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from models.base.errors import DataError
from models.data import memory
from models.data.pixels import ORIENTATION, PLAIN, SIDEWAYS, plain, upright

Pixels = npt.NDArray[np.uint8]


class Stack:
    """Images of one size and mode, decoded one by one into `(count, C, H, W)`.

    Grey images have one channel, colour images three, upright as their EXIF orientation says. A
    palette is colours written another way; opaque alpha holds nothing; anything else is refused
    and not converted in silence.
    """

    def __init__(self, count: int, what: str) -> None:
        self.count, self.what = count, what
        self.filled, self.first = 0, ""
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.pixels: Pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)

    def add(self, encoded: bytes | Path, name: str) -> None:
        """Decode the next image, called `name` in messages.

        Raises:
            DataError: it cannot be decoded, is of another size or mode than the first one, or the
                images do not fit into memory.
        """
        if self.filled == self.count:
            raise DataError(f"{name}: more images than the {self.count} that were promised")
        stream = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        try:
            with Image.open(stream) as image:
                shape = _shape(image)
                if self.filled == 0:
                    self._begin(shape, name)
                if shape[1:] != self.shape[1:]:
                    self._differs(name, shape)
                pixels = _pixels(image, name)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
            raise DataError(
                f"{name}: the image cannot be decoded ({_reason(error)}); replace it or take it out"
            ) from error
        except Image.DecompressionBombError as error:
            raise DataError(f"{name}: the image is too large: {error}") from error
        shape = (1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])
        if shape != self.shape:
            self._differs(name, shape)
        self.pixels[self.filled] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        self.filled += 1

    def _begin(self, shape: tuple[int, int, int], name: str) -> None:
        self.shape = shape
        size = (self.count, *self.shape)
        memory.require(int(np.prod(size, dtype=np.int64)), f"{self.what} ({self.count} images)")
        self.pixels, self.first = np.empty(size, dtype=np.uint8), name

    def _differs(self, name: str, shape: tuple[int, int, int]) -> None:
        raise DataError(
            f"{name} is {_show(shape)}, but {self.first} is {_show(self.shape)}; all images of a "
            "set need one size and mode: resize or convert them first"
        )


def _shape(image: Image.Image) -> tuple[int, int, int]:
    """Channels, height and width that it will have, before it is decoded."""
    sides = (image.height, image.width)
    if image.getexif().get(ORIENTATION, 1) in SIDEWAYS:
        sides = sides[::-1]
    return (1 if image.mode in ("L", "LA", "1") else 3, *sides)


def _pixels(image: Image.Image, name: str) -> Pixels:
    """`(H, W)` of a grey or `(H, W, 3)` of a colour image."""
    image = plain(upright(image, image.getexif().get(ORIENTATION)))
    if image.mode not in PLAIN:
        raise DataError(
            f"{name}: mode {image.mode} is not taken (grey L or colour RGB with 8 bits, opaque); "
            "convert the images first, for a model sees what is left of them"
        )
    return np.asarray(image)


def _show(shape: tuple[int, int, int]) -> str:
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"


def _reason(error: Exception) -> str:
    """Why, without the buffer's address that Pillow puts into some messages."""
    text = str(error)
    return "no known image format" if "cannot identify image" in text else text or "no reason given"
