"""Files of the registry, read without leaving it: no link is followed, only files are opened.

A bundle may come from somebody else, and its folder may be writable by others. A link in it could
lead to any file of this machine, a FIFO blocks who opens it, a device never ends, and a sparse file
of a terabyte takes no space until somebody reads it. So folders are opened one inside the other,
names are looked at before they are opened, and no more is read than was said beforehand.

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
    """A file has not the bytes that were stated; it was not read."""

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
        """The bytes of a file.

        Args:
            name: of the file, without a folder.
            most: bytes that it may have.
            exactly: bytes that it must have, where that is known.

        Raises:
            UnfitFileError: it is no regular file, or has more bytes.
            WrongSizeError: it has not `exactly` as many.
            OSError: it is not there, or cannot be read.
        """
        with self._open(name, most, exactly) as (stream, size):
            data = stream.read(size + 1)
        self._check_length(name, len(data), size)
        return data

    def sha256(self, name: str, most: int, *, exactly: int | None = None) -> str:
        """The hex sha256 of a file, read in chunks. Arguments and errors as of `read`."""
        digest, length = hashlib.sha256(), 0
        with self._open(name, most, exactly) as (stream, size):
            while length <= size and (chunk := stream.read(CHUNK_BYTES)):
                digest.update(chunk)
                length += len(chunk)
        self._check_length(name, length, size)
        return digest.hexdigest()

    def require_file(self, name: str) -> None:
        """Raise UnfitFileError where the name is there and no regular file: nobody may open it."""
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
    """What a name stands for.

    >>> kind_of(os.stat("/dev/zero").st_mode)
    'a device'
    """
    return next((what for is_one, what in _KINDS if is_one(mode)), "a file")


@contextmanager
def open_folder(path: Path, inside: int = 0) -> Iterator[Folder]:
    """A folder, opened; of its path the last `inside` names may not be links.

    Raises:
        UnfitFileError: one of them is no folder.
        OSError: one is not there, or may not be opened.
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


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file whose name, and whose folder's, are no links. Raises as `Folder.read`."""
    with open_folder(path.parent, inside=1) as folder:
        return folder.read(path.name, most)


def _open_inner(path: Path, descriptor: int) -> int:
    mode = os.stat(path.name, dir_fd=descriptor, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        raise UnfitFileError(path, f"is {kind_of(mode)}, not a folder")
    return os.open(path.name, _FOLDER, dir_fd=descriptor)
