"""Reads files of the registry without leaving it: no link is followed, only files are opened.

A bundle may come from somebody else, and others may be able to write to its folder. A link in it
could lead to any file of this machine, opening a FIFO blocks, a device never ends, and a sparse
file of a terabyte takes no space until it is read. So folders are opened one inside the other,
names are checked before they are opened, and no more bytes are read than the caller allows.

Sources: openat(2), open(2) (`O_NOFOLLOW`, `O_NONBLOCK`).
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models.base.errors import UnfitFileError

CHUNK_BYTES = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class WrongSizeError(UnfitFileError):
    """A file has another size than was stated; it was not read."""

    def __init__(self, path: Path, size: int, stated: int) -> None:
        super().__init__(path, f"has {size} bytes, and {stated} are stated")
        self.size = size
        self.stated = stated


@dataclass(frozen=True)
class Folder:
    """An open folder; `path` is for messages."""

    path: Path
    descriptor: int

    def read(self, name: str, most: int, *, exactly: int | None = None) -> bytes:
        """Read a file.

        Args:
            name: of the file, without a folder.
            most: the most bytes that it may have.
            exactly: the number of bytes that it must have, where that is known.

        Raises:
            UnfitFileError: it is no regular file, or too large.
            WrongSizeError: it has not `exactly` as many bytes.
            OSError: it does not exist, or cannot be read.
        """
        with self._open(name, most, exactly) as (stream, size):
            data = stream.read(size + 1)
        self._check_length(name, len(data), size)
        return data

    def sha256(self, name: str, most: int, *, exactly: int | None = None) -> str:
        """Return the hex sha256 of a file, read in chunks; arguments and errors as `read`."""
        digest, length = hashlib.sha256(), 0
        with self._open(name, most, exactly) as (stream, size):
            while length <= size and (chunk := stream.read(CHUNK_BYTES)):
                digest.update(chunk)
                length += len(chunk)
        self._check_length(name, length, size)
        return digest.hexdigest()

    def require_file(self, name: str) -> None:
        """Raise UnfitFileError where the name exists and is no regular file."""
        try:
            mode = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise UnfitFileError(self.path / name, f"is {kind_of(mode)}, not a regular file")

    @contextmanager
    def _open(self, name: str, most: int, exactly: int | None) -> Iterator[tuple[BinaryIO, int]]:
        self.require_file(name)  # before it is opened: opening alone moves some devices
        descriptor = os.open(name, _FILE, dir_fd=self.descriptor)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                what = f"is {kind_of(status.st_mode)}, not a regular file"
                raise UnfitFileError(self.path / name, what)
            if exactly is not None and status.st_size != exactly:
                raise WrongSizeError(self.path / name, status.st_size, exactly)
            if status.st_size > most:
                what = f"has {status.st_size} bytes, and may have {most}"
                raise UnfitFileError(self.path / name, what)
            yield stream, status.st_size

    def _check_length(self, name: str, length: int, size: int) -> None:
        if length != size:
            raise UnfitFileError(self.path / name, f"was changed while it was read ({size} bytes)")


def kind_of(mode: int) -> str:
    """Name the kind of a file by its mode.

    >>> kind_of(os.stat("/dev/zero").st_mode)
    'a device'
    """
    return next((what for is_one, what in _KINDS if is_one(mode)), "a file")


@contextmanager
def open_folder(path: Path, inside: int = 0) -> Iterator[Folder]:
    """Open a folder; the last `inside` names of its path must not be links.

    Raises:
        UnfitFileError: one of them is no folder.
        OSError: one does not exist, or cannot be opened.
    """
    base, *below = [path, *path.parents][inside::-1]
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in below:
            inner = _open_inner(each, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _open_inner(path: Path, descriptor: int) -> int:
    mode = os.stat(path.name, dir_fd=descriptor, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        raise UnfitFileError(path, f"is {kind_of(mode)}, not a folder")
    return os.open(path.name, _FOLDER, dir_fd=descriptor)
