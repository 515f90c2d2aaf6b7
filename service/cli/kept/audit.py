"""`holdfast audit`: whether the record of who changed what still is what was written."""

import click

from models.base.errors import HoldfastError, RegistryError, UnknownModelError
from models.versions.registry import Registry
from models.versions.registry_files import AuditCheck, ModelFiles
from service.cli.terminal.output import emit, json_option
from service.configuration.settings import Settings


@click.group()
def audit() -> None:
    """Verify the audit: each line of it holds the hash of the line before.

    \b
    Example:
      holdfast audit verify
    """


@audit.command()
@click.argument("model", required=False)
@click.option("--head", help="A head that was noted earlier: is it still in the chain?")
@json_option
@click.pass_obj
def verify(settings: Settings, model: str | None, head: str | None, as_json: bool) -> None:
    """Follow the hash chain of a model's audit, or of every model's; status 1 where it is broken.

    Note the head elsewhere: who may write the state directory can write a whole new chain, but
    not one with that head in it.

    \b
    Example:
      holdfast audit verify digits
    """
    if head is not None and model is None:
        raise click.UsageError("--head is of one model: name it")
    registry = Registry(settings.registry_dir, settings.keys)
    models = registry.models() if model is None else (model,)
    if model is not None and model not in registry.models():
        raise UnknownModelError(model, registry.models())
    rows, lines, broken = [], [], False
    for name in models:
        row = _check(registry, name, head)
        rows.append({"model": name, **row})
        lines.append(_line(name, row))
        broken |= bool(row["fault"])
    emit(rows, as_json, lambda: "\n".join(lines) or "no models yet")
    if broken:
        raise click.exceptions.Exit(1)


def _check(registry: Registry, model: str, head: str | None) -> dict[str, object]:
    """What is known of an audit; one that cannot be read has that as its fault."""
    try:
        found = ModelFiles(registry.root / model).check_audit()
    except (HoldfastError, OSError) as error:
        found = AuditCheck(0, 0, "", 0, str(error), 0, ())
    fault = found.fault
    if not fault and not found.records:
        fault = str(RegistryError("it has no whole record"))
    if not fault and head is not None and head not in found.links:
        why = "lines were rewritten since it was noted"
        if found.unknown:
            why = f"whether one did is not known: {found.unknown}"
        fault = f"no line leads to the head {head}: {why}"
    return {
        "records": found.records,
        "unchained": found.unchained,
        "head": found.head,
        "line": found.line,
        "fault": fault,
        "torn_bytes": found.torn_bytes,
        "unknown": found.unknown,
    }


def _line(model: str, row: dict[str, object]) -> str:
    if row["fault"]:
        where = f"line {row['line']}: " if row["line"] else ""
        return f"{model}: BROKEN: {where}{row['fault']}"
    words = f"{model}: {row['records']} records, head {row['head']}"
    if row["unchained"]:
        words += f"; the first {row['unchained']} are of a program without a chain"
        words += ", which one hash of all of them now covers"
    if row["torn_bytes"]:
        words += f"; a crash has cut off a last line ({row['torn_bytes']} bytes): its change never"
        words += " took effect, and the next change removes it"
    if row["unknown"]:
        words += f"; {row['unknown']}"
    return words
