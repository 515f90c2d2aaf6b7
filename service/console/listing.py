"""The versions of a model as the page lists them, and who changed what."""

import msgspec

from models.base.errors import HoldfastError
from models.statistics.shares import Proportion
from models.versions.examples import EXAMPLES
from models.versions.registry import Aliases, Registry
from models.versions.schema import Manifest
from service.console.state import read_changes
from service.console.telling.asks import tell_change

MOST_VERSIONS = 60
MOST_CHANGES = 100


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version; shares are None where they were not measured, `fault` says what is damaged."""

    version: int
    made: str = ""
    because: str = ""
    parent: int | None = None
    clean: Proportion | None = None
    robust: Proportion | None = None
    attack: str = ""
    eps: float | None = None
    window: Proportion | None = None
    corruption: float | None = None
    aliases: list[str] = []
    bytes: int = 0
    rows: int = 0
    certificates: bool = False
    examples: bool = False
    report: bool = False
    fault: str = ""


class Versions(msgspec.Struct, frozen=True):
    """The newest versions, the newest first."""

    model: str
    total: int
    versions: list[VersionRow]


class AuditRow(msgspec.Struct, frozen=True):
    """A change of the registry."""

    at: float
    text: str
    actor: str
    action: str


def list_versions(registry: Registry, model: str) -> Versions:
    """Every version of a model, as its manifest has it. Raises UnknownModelError."""
    state = registry.state(model)
    numbers = registry.versions(model)
    newest = numbers[::-1][:MOST_VERSIONS]
    rows = [_row(registry, model, number, state.aliases) for number in newest]
    return Versions(model, len(numbers), rows)


def list_changes(registry: Registry, model: str) -> list[AuditRow]:
    """Who changed what, the newest first. Raises UnknownModelError."""
    registry.state(model)
    changes = read_changes(registry, model, MOST_CHANGES)
    return [AuditRow(c.at, tell_change(c), c.actor, c.action) for c in changes]


def _row(registry: Registry, model: str, number: int, aliases: Aliases) -> VersionRow:
    names = [name for name in aliases.__struct_fields__ if getattr(aliases, name) == number]
    try:
        manifest = registry.manifest(model, number)
    except (HoldfastError, OSError) as error:
        fault = str(error).replace(f"{registry.root}/", "")
        return VersionRow(version=number, aliases=names, fault=fault)
    return _describe(manifest, names)


def _describe(manifest: Manifest, names: list[str]) -> VersionRow:
    evaluation, training, event = manifest.evaluation, manifest.training, manifest.event
    robust = None if evaluation is None else evaluation.robust
    mce = None if evaluation is None else evaluation.mce
    return VersionRow(
        version=manifest.version,
        made=manifest.created_at,
        because="" if event is None else event.reason,
        parent=manifest.parent,
        clean=None if evaluation is None else evaluation.clean,
        robust=None if robust is None else Proportion(*robust.parts),
        attack="" if robust is None else robust.attack,
        eps=None if robust is None else robust.eps,
        window=None if evaluation is None else evaluation.window,
        corruption=None if mce is None else mce.value,
        aliases=names,
        bytes=sum(manifest.sizes.values()),
        rows=0 if training is None else training.rows,
        certificates=manifest.certificate is not None,
        examples=EXAMPLES in manifest.files,
        report="report.html" in manifest.files,
    )
