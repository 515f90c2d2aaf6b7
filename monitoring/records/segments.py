"""Segments: files of inputs beside the database, written at their ends only, and removed whole.

    <database>.segments/<number, hex>.bin      the inputs of requests, one after the other

The database says what lies where and how far a segment is written. Inputs are synced before the
transaction that names them. So a writer that was killed leaves at most a tail that nothing names;
who goes on with the segment cuts it off. A writer holds a lock on its segment, which ends with its
process; nobody else writes to it or removes it.
"""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from models.base.files import fsync_dir

SEGMENT_BYTES = 1 << 24  # a segment that has so much gets no more
PARTS_AT_ONCE = 1024  # the kernel takes no more
SUFFIX = ".bin"


def segment_path(folder: Path, number: int) -> Path:
    """Return the file of a segment."""
    return folder / f"{number:016x}{SUFFIX}"


class SegmentWriter:
    """Appends inputs to a segment of its own; for one thread.

    Args:
        folder: of the segments; made at the first use.
        written: how many bytes of a segment the database knows of; 0 where it knows none.
    """

    def __init__(self, folder: Path, written: Callable[[int], int]) -> None:
        self._folder, self._written = folder, written
        self._file = -1
        self._number = self._end = 0

    def append(self, parts: Sequence[memoryview]) -> tuple[int, int]:
        """Write parts one after the other and sync them.

        Returns:
            The segment and the place of the first byte.

        Raises:
            OSError: they were not written, or not all; call `release` then.
        """
        if self._file < 0:
            self._take()
        place = self._end
        for begin in range(0, len(parts), PARTS_AT_ONCE):
            self._write(list(parts[begin : begin + PARTS_AT_ONCE]))
        os.fdatasync(self._file)
        return self._number, place

    def commit(self) -> None:
        """Tell that the database names what was appended; a full segment is left then."""
        if self._end >= SEGMENT_BYTES:
            self.release()

    def release(self) -> None:
        """Leave the segment to who writes next, who cuts off what the database does not name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, parts: list[memoryview]) -> None:
        while parts:
            written = os.pwritev(self._file, parts, self._end)
            self._end += written
            while parts and written >= parts[0].nbytes:
                written -= parts.pop(0).nbytes
            if parts and written:
                parts[0] = parts[0][written:]
            elif parts and not written and parts[0].nbytes:
                raise OSError(f"nothing could be written to {self._folder}")

    def _take(self) -> None:
        """Go on with a segment that has room and no writer, or begin one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in sorted(segments_in(self._folder)):
            path = segment_path(self._folder, number)
            file = _open_locked(path, os.O_WRONLY)
            if file < 0:
                continue
            try:
                end = self._written(number)
                if end < SEGMENT_BYTES and end <= os.fstat(file).st_size:  # else bytes were lost
                    os.ftruncate(file, end)
                    self._file, self._number, self._end = file, number, end
                    return
            finally:
                if self._file != file:
                    os.close(file)
        while self._file < 0:
            # At random, so that no row of a database from elsewhere names a file of this one.
            self._number = int.from_bytes(os.urandom(8)) >> 1
            path = segment_path(self._folder, self._number)
            self._file = _open_locked(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._end = 0
        fsync_dir(self._folder)


class SegmentReader:
    """Reads parts of segments: `with SegmentReader(folder) as reader`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}

    def __enter__(self) -> "SegmentReader":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            if file >= 0:
                os.close(file)

    def read(self, number: int, place: int, size: int) -> bytes:
        """Read `size` bytes; fewer where the segment is gone or has lost its end."""
        file = self._files.get(number)
        if file is None:
            try:
                file = os.open(segment_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # removed since the database was asked
                file = -1
            self._files[number] = file
        return os.pread(file, size, place) if file >= 0 else b""


def segments_in(folder: Path) -> list[int]:
    """Return the numbers of the segments in a folder."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if path.suffix == SUFFIX)
    return [int(name.removesuffix(SUFFIX), 16) for name in names]


def remove_segments(folder: Path, written: Callable[[int], int]) -> int:
    """Remove the segments of which the database knows nothing and that nobody writes.

    Args:
        folder: of the segments.
        written: how many bytes of a segment the database knows of. It is asked while the lock is
            held, so that a writer that has just committed and left keeps its segment.

    Returns:
        How many were removed.
    """
    removed = 0
    for number in segments_in(folder):
        path = segment_path(folder, number)
        file = _open_locked(path, os.O_WRONLY)
        if file < 0:
            continue
        try:
            if not written(number):
                path.unlink()
                removed += 1
        finally:
            os.close(file)
    return removed


def _open_locked(path: Path, flags: int) -> int:
    """Open a file with its lock; -1 where it has a writer, or is gone by now, or there already."""
    try:
        file = os.open(path, flags | os.O_CLOEXEC, 0o666)
    except (FileNotFoundError, FileExistsError):
        return -1
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return -1
    if os.fstat(file).st_nlink == 0:  # removed between the two
        os.close(file)
        return -1
    return file
