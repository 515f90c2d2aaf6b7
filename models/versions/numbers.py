"""The numbers of versions: which a job has made, and which comes next."""

from typing import TYPE_CHECKING

import msgspec

from models.base.errors import BundleError
from models.versions.registry_state import State

if TYPE_CHECKING:
    from models.versions.registry import Registry


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
