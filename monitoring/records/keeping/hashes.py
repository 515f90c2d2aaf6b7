"""Hashes of purged inputs, kept until no copy of these inputs is left elsewhere.

    <state>/purges/<time>-<n>.json      of a part of a purge; digests and numbers only, mode 0600

They are on disk before an input is wiped. So a purge that was killed, or that left copies, can be
called again: the same copies are looked for.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.base.errors import HoldfastError
from models.base.files import fsync_dir, write_atomic
from models.versions.registry_state import utc_now


class Purging(NamedTuple):
    """A request that is being purged.

    Args:
        model: its model.
        last: its number.
        hashes: SHA-256 of its inputs that could be read.
        lost: inputs that could not: they are damaged, or were wiped by a purge that was killed.
    """

    model: str
    last: int
    hashes: tuple[bytes, ...]
    lost: int


class Noted(NamedTuple):
    """What was purged so far and may have copies.

    Args:
        hashes: by model, SHA-256 of inputs.
        unknown: inputs of which no hash was ever noted: their copies cannot be looked for.
        files: that say so.
    """

    hashes: dict[str, set[bytes]]
    unknown: int
    files: tuple[Path, ...]


class _File(msgspec.Struct, frozen=True):
    requests: tuple[Purging, ...]


def note_hashes(folder: Path, purging: Sequence[Purging]) -> None:
    """Keep the hashes of requests that are about to be wiped; on disk on return.

    Raises:
        HoldfastError: they cannot be written; nothing may be wiped then.
    """
    if not any(each.hashes or each.lost for each in purging):
        return
    path = folder / f"{utc_now().replace(':', '')}-{purging[0].last}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_dir(folder.parent)
        write_atomic(path, msgspec.json.encode(_File(tuple(purging))), 0o600)
    except OSError as error:
        raise HoldfastError(f"hashes of what is purged cannot be kept: {error}") from error


def read_hashes(folder: Path) -> Noted:
    """Read all that is noted.

    Raises:
        HoldfastError: a file cannot be read, or is damaged.
    """
    hashes: dict[str, set[bytes]] = {}
    lost: dict[tuple[str, int], int] = {}
    files = tuple(sorted(folder.glob("*.json")))
    for path in files:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_File)
        except (OSError, ValueError) as error:
            raise HoldfastError(f"{path}: hashes of purged rows cannot be read: {error}") from error
        for model, last, of_inputs, missing in found.requests:
            hashes.setdefault(model, set()).update(of_inputs)
            # A purge that was killed has noted them before it wiped them.
            lost[model, last] = min(missing, lost.get((model, last), missing))
    return Noted(hashes, sum(lost.values()), files)


def forget_hashes(noted: Noted) -> None:
    """Remove what is noted: no copy is left."""
    for path in noted.files:
        path.unlink(missing_ok=True)


def hash_input(x: bytes) -> bytes:
    """SHA-256 of the raw bytes of an input."""
    return hashlib.sha256(x).digest()
