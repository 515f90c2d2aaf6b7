"""Copies of recorded inputs elsewhere: in versions that learnt from them, and in files of jobs."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Set
from pathlib import Path

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.base.errors import HoldfastError
from models.data.lineage import Lineage
from models.versions.registry import Registry
from monitoring.loop.jobs import JobStore
from monitoring.records.database import engine_url
from monitoring.records.keeping.hashes import hash_input
from service.configuration.settings import Settings

ARCHIVES = "*.npz*"  # of jobs; those that were being written when a process was killed, too


class Copy(msgspec.Struct, frozen=True):
    """Where copies of purged inputs are, and what to do about it.

    `rows` is None where that could not be found out. `gone` says that they were removed.
    """

    where: str
    rows: int | None
    gone: bool
    advice: str


def find_copies(
    settings: Settings, registry: Registry, hashes: Mapping[str, Set[bytes]]
) -> list[Copy]:
    """Find copies of inputs, and remove the files of ended jobs that hold them.

    Args:
        settings: of the state directory.
        registry: its registry.
        hashes: by model, SHA-256 of the purged inputs.
    """
    copies = []
    for model, purged in sorted(hashes.items()):
        copies += _in_versions(registry, model, purged)
    folder = Path(settings.state) / "jobs"
    if any(hashes.values()) and folder.is_dir():
        copies += _in_jobs(settings, folder, set().union(*hashes.values()))
    return copies


def _in_versions(registry: Registry, model: str, purged: Set[bytes]) -> list[Copy]:
    copies = []
    for version in registry.versions(model):
        where = f"{model}/{version}"
        try:
            live = Lineage.of(registry.open(model, str(version))).live.values()
            rows: int | None = sum(_count(each.rows.x, purged) for each in live)
        except (HoldfastError, OSError) as error:
            rows, where = None, f"{where} (cannot be read: {error})"
        if rows is None or rows:
            advice = (
                "it was trained with these rows, and has them in lineage.npz: promote a version "
                f"without them (`holdfast models promote {model} VERSION`), then `holdfast models "
                f"prune --model {model} --keep 0`; later versions of it inherit them"
            )
            copies.append(Copy(where, rows, False, advice))
    return copies


def _in_jobs(settings: Settings, folder: Path, purged: Set[bytes]) -> list[Copy]:
    try:
        engine = sa.create_engine(engine_url(settings.database_url))
        busy = {job.id for job in JobStore(engine).unfinished()}
        engine.dispose()
    except (HoldfastError, SQLAlchemyError):
        busy = {path.name for path in folder.iterdir()}  # not known: none is taken for ended
    copies = []
    for path in sorted(folder.rglob(ARCHIVES)):
        rows = _count_archive(path, purged)
        if rows == 0:
            continue
        if path.relative_to(folder).parts[0] not in busy:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                copies.append(Copy(str(path), rows, False, f"it cannot be removed: {error}"))
                continue
            copies.append(Copy(str(path), rows, True, "removed: its job has ended"))
        else:
            advice = "its job goes on: purge again when it has ended"
            copies.append(Copy(str(path), rows, False, advice))
    return copies


def _count_archive(path: Path, purged: Set[bytes]) -> int | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.rpartition("/")[2] == "x"]
            return sum(_count(arrays[name], purged) for name in names)
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _count(x: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", purged: Set[bytes]) -> int:
    return sum(hash_input(np.ascontiguousarray(row).tobytes()) in purged for row in x)
