"""Image files for the tests of the service: ordinary ones, odd ones, and bombs."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data.pictures.pixels import ORIENTATION
from tests.service import tables

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def published(factory: pytest.TempPathFactory) -> Path:
    """A state directory with a model of pictures and one of a table, made once per session."""
    state = factory.getbasetemp() / "pictures"
    if not state.exists():
        tables.publish_colours(state / "registry")
        tables.publish_table(state / "registry", tables.wine())
    return state


def grey(seed: int = 0, height: int = 8, width: int = 8) -> Pixels:
    """`(H, W)`."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def colour(seed: int = 0, height: int = 8, width: int = 8) -> Pixels:
    """`(H, W, 3)`."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image: Image.Image | Pixels, kind: str = "png", **options: Any) -> bytes:
    """An image as the bytes of a file; `orientation=6` notes how the camera was held."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    if orientation := options.pop("orientation", None):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif.tobytes()
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + crc(kind + content)


def crc(content: bytes) -> bytes:
    """The checksum of a chunk."""
    return struct.pack(">I", zlib.crc32(content))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG file with more chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


@cache
def bomb(width: int, height: int) -> bytes:
    """A PNG file of nothing but white: a bit per pixel, a thousandth of that when compressed."""
    line, packer, parts = b"\0" + b"\xff" * (-(-width // 8)), zlib.compressobj(9), []
    for start in range(0, height, 1000):
        parts.append(packer.compress(line * min(1000, height - start)))
    parts.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(parts)) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + data


def texts(count: int, megabytes: int = 1) -> list[bytes]:
    """Chunks of compressed text and a colour profile that become a megabyte each."""
    packed = zlib.compress(b"a" * megabytes * 10**6, 9)
    profile = chunk(b"iCCP", b"p\0\0" + packed)
    return [profile, *(chunk(b"zTXt", b"t%d\0\0" % number + packed) for number in range(count))]


def scans(count: int) -> bytes:
    """A progressive JPEG file whose last scan is there `count` times more."""
    jpeg = saved(grey(), "jpeg", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + jpeg[-2:]
