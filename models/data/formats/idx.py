"""IDX files, plain or gzip: MNIST's layout, images with their labels beside.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database": magic 00 00 type rank, then the
sizes as big-endian 32-bit integers, then the values in C order.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data import memory
from models.data.found import role_of, visible
from models.data.pictures.resize import resize_parts
from models.data.raw import Raw, RawPart, quote, spans
from models.data.records import Source

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 1 << 20
RANKS = {1: "labels", 3: "grey images", 4: "colour images"}


def read(source: Source) -> Raw:
    """Images and labels of a folder in MNIST's layout, or of one images file.

    Raises:
        DataError: a file is missing, truncated or no IDX, or the numbers of rows differ.
    """
    path = Path(source.path)
    images, test = _images_files(path)
    if source.test:
        test, _ = _images_files(Path(source.test))
    own = Path(source.label) if source.label else None
    if own is not None and not own.is_absolute():
        own = images.parent / own
    parts = [_part(images, own or _labels_file(images))]
    if test is not None:
        parts.append(_part(test, _labels_file(test)))
    fitted, notes = resize_parts(parts, source.resize)
    return Raw(path.name, fitted[0], fitted[1] if len(fitted) > 1 else None, notes=notes)


def read_idx(path: Path) -> npt.NDArray[Any]:
    """The array in an IDX file.

    Raises:
        DataError: wrong magic, a type that is not known, fewer or more bytes than the header says.
    """
    try:
        with _open_bytes(path) as stream:
            dtype, shape = _header(stream, path)
            size = math.prod(shape) * dtype.itemsize
            memory.require(size, str(path))
            data, filled = np.empty(size, dtype=np.uint8), 0
            while piece := stream.read(min(CHUNK, size - filled)):
                data[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
                filled += len(piece)
            more = stream.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is truncated or damaged ({error})") from error
    if filled < size or more:
        told = f"only {filled}" if filled < size else "more"
        raise DataError(
            f"{path}: the header promises {size} bytes of data ({'x'.join(map(str, shape))}), "
            f"but {told} are there; get the file again"
        )
    return data.view(dtype).reshape(shape)


def _open_bytes(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise DataError(f"no such file: {str(path)!r}")
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _header(stream: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] not in RANKS:
        raise DataError(
            f"{path}: wrong magic number 0x{magic.hex()}; expected an IDX file such as 0x00000803 "
            "(images) or 0x00000801 (labels)"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: the file ends inside its header; get it again")
    return np.dtype(DTYPES[magic[2]]), tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))


def _part(images: Path, labels: Path) -> RawPart:
    pixels, values = read_idx(images), read_idx(labels)
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise DataError(
            f"{images}: holds {pixels.dtype.name} of rank {pixels.ndim}; "
            "expected images: bytes of rank 3 (rows, height, width)"
        )
    if values.ndim != 1 or values.dtype.kind == "f":
        raise DataError(f"{labels}: expected labels: integers of rank 1, got rank {values.ndim}")
    if len(pixels) != len(values):
        raise DataError(
            f"{images} holds {len(pixels)} images, but {labels} holds {len(values)} labels"
        )
    if pixels.ndim == 4:
        pixels = pixels if pixels.shape[1] in (1, 3) else pixels.transpose(0, 3, 1, 2)
    x = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels)
    return RawPart(values.astype(np.int64), spans([(str(images), len(values))]), pixels=x)


def _images_files(path: Path) -> tuple[Path, Path | None]:
    """The images file to train from, and the one of the test part if there is one."""
    if not path.is_dir():
        twins = [path.with_name(path.name.replace("train", word, 1)) for word in ("t10k", "test")]
        return path, next((twin for twin in twins if twin != path and twin.is_file()), None)
    found = [entry for entry in visible(path) if "images" in entry.name and entry.is_file()]
    test = [entry for entry in found if role_of(Path(entry.name)) in ("test", "validation")]
    train = [entry for entry in found if entry not in test]
    if len(train) != 1 or len(test) > 1:
        raise DataError(
            f"{path}: expected one file of training images and at most one of test images "
            f"(train-images-idx3-ubyte.gz, t10k-images-idx3-ubyte.gz), found "
            f"{quote([entry.name for entry in found])}; name one images file"
        )
    return train[0], test[0] if test else None


def _labels_file(images: Path) -> Path:
    """The labels beside an images file: `images-idx3` becomes `labels-idx1`, packed or not."""
    wanted = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = wanted.removesuffix(".gz")
    for name in (wanted, plain, plain + ".gz"):
        if name != images.name and images.with_name(name).is_file():
            return images.with_name(name)
    raise DataError(
        f"{images}: its labels are not beside it; expected {wanted} in {images.parent}, or name "
        "the file with --label"
    )
