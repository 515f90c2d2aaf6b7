"""Atomic and durable writes of files, locks and digests."""

import fcntl
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync_dir(path: Path) -> None:
    """Make renames and new names inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durable(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write and fsync; readers may see a half-written file (use it in a staging directory).

    A new file gets `mode` less the umask. Secrets use 0o600; their group can read them, too, where
    `shared_with_group` holds for the folder.
    """
    if not mode & 0o077 and shared_with_group(path.parent):
        mode |= mode >> 3 & 0o070
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_atomic(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace `path` by `data`: readers see the old or the new content, also after a crash.

    The file gets `mode` less the umask; the old file's mode is not kept.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_durable(temporary, data, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(path.parent)


def shared_with_group(folder: Path) -> bool:
    """Whether other users of group 0 should be able to use what this process makes in `folder`.

    Platforms that give every container its own user id (OpenShift) give it group 0 and folders that
    this group can write to: the next container is another user of the same group. So the process
    has group 0 and is not root, and the folder (or its nearest existing parent) belongs to a group
    of the process that can write there.
    """
    if os.getegid() != 0 or os.geteuid() == 0:
        return False
    existing = next((f for f in (folder, *folder.absolute().parents) if f.exists()), folder)
    state = existing.stat()
    return bool(state.st_mode & stat.S_IWGRP) and state.st_gid in (0, *os.getgroups())


def share_with_group(folder: Path) -> None:
    """From now on give the group of new files the rights of the owner, if the folder is shared."""
    if shared_with_group(folder):
        os.umask(os.umask(0o077) & ~0o070)


def make_file(path: Path) -> None:
    """Make an empty file with the usual mode, and its folder, unless it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():  # one that can only be read stays so
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created if absent); released if the process dies."""
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
