"""Memory that the processes of a host share: a mapped file with a secret and locks.

A process that is killed leaves nothing locked. A lock is one byte of the file, which the kernel
frees with its process, and a lock in the process for its threads. The file locks belong to the open
file (`F_OFD_SETLKW`). POSIX locks belong to the process: if threads of two processes waited for
each other, the kernel would report a deadlock.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
from pathlib import Path

HEADER_BYTES = 4096  # before what is kept: the mark of the layout, and the secret
_SECRET = slice(64, 80)


class MappedFile:
    """Mapped memory of a fixed size; without a path it is this process's own.

    Args:
        path: of the file, made if absent; its name should have the parameters of the layout.
        mark: of the layout, at most 64 bytes; written when the file is made.
        size_bytes: of header and content.
        locks: the number of locks.
        reserved_bytes: from the start, that get their disk space now; `reserve` takes more. The
            rest are holes: if the disk has no room for a page, writing to it kills the process.

    Raises:
        OSError: the file cannot be made, or the disk has no room.
    """

    def __init__(
        self, path: Path | None, mark: bytes, *, size_bytes: int, locks: int, reserved_bytes: int
    ) -> None:
        self._file = -1 if path is None else _open(path, size_bytes, reserved_bytes)
        self._threads = [threading.Lock() for _ in range(locks)]
        self.memory = mmap.mmap(self._file, size_bytes)
        self.lock(0)
        try:
            if self.memory[: len(mark)] != mark:  # new, or its maker was killed here
                self.memory[_SECRET] = os.urandom(16)
                self.memory[: len(mark)] = mark
        finally:
            self.unlock(0)
        self.secret = bytes(self.memory[_SECRET])

    def close(self) -> None:
        """Close the file; the memory is freed with the last view of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def key(self, *parts: bytes) -> int:
        """Return a keyed 64-bit hash, never 0; without the secret it does not reveal the parts."""
        hasher = hashlib.blake2b(key=self.secret, digest_size=8)
        for part in parts:
            hasher.update(len(part).to_bytes(4, "little") + part)
        return int.from_bytes(hasher.digest(), "little") or 1

    def lock(self, place: int) -> None:
        """Take a lock that excludes other threads and processes."""
        self._threads[place].acquire()
        if self._file >= 0:
            try:
                fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, _flock(fcntl.F_WRLCK, place))
            except BaseException:
                self._threads[place].release()
                raise

    def unlock(self, place: int) -> None:
        """Release a lock."""
        if self._file >= 0:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, _flock(fcntl.F_UNLCK, place))
        self._threads[place].release()

    def reserve(self, begin: int, size_bytes: int) -> None:
        """Reserve the disk space of a part. Raises OSError where there is none."""
        if self._file >= 0:
            os.posix_fallocate(self._file, begin, size_bytes)


def _flock(kind: int, byte: int) -> bytes:
    """`struct flock` for one byte of the file."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)


def _open(path: Path, size_bytes: int, reserved_bytes: int) -> int:
    """The file, of its full size; two processes may make it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size_bytes)
        os.posix_fallocate(file, 0, reserved_bytes)
    except OSError:
        os.close(file)
        raise
    return file
