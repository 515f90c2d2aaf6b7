"""The numbers of versions: which a job has made or needs, and which comes next."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from models.base.errors import BundleError
from models.base.files import lock_file
from models.versions.registry_files import LOCK_FILE
from models.versions.registry_state import State

if TYPE_CHECKING:
    from models.versions.registry import Registry

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def find_published(registry: "Registry", model: str, event: str) -> int | None:
    """Return the version that the job `event` has written already, audited or not, or None."""
    audited = {r.version: r.event for r in registry.audit(model) if r.action == "publish"}
    for version in registry.versions(model):
        if version in audited:
            if audited[version] == event:
                return version
        elif _made_for(registry, model, version) == event:
            return version
    return None


def _made_for(registry: "Registry", model: str, version: int) -> str | None:
    """Return the event in a version's manifest; None where the version is damaged."""
    try:
        event = registry.manifest(model, version).event
    except BundleError:
        return None
    return None if event is None else event.id


def next_version(registry: "Registry", model: str, now: State) -> int:
    """Return a number that no version has or ever had, also if its folder is gone."""
    audited = (record.version for record in registry.audit(model))
    aliased = (number or 0 for number in msgspec.structs.astuple(now.aliases))
    return max(now.highest, *registry.versions(model), *audited, *aliased) + 1


@contextmanager
def keep_versions(registry: "Registry", model: str) -> Iterator[None]:
    """Nobody removes a version of the model while the block writes down that it needs one.

    Whoever removes one asks with the lock what needs it: what is written with the lock is seen, or
    comes after the removal and finds no version. A registry that this process may only read is not
    locked by it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_file(registry.root / model / LOCK_FILE))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
        yield
