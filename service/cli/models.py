"""`holdfast models`: the registry from the command line."""

import time

import click
import msgspec

from models.base.errors import BundleError, RegistryError
from models.versions.bundle import open_bundle
from models.versions.registry import AuditRecord, Registry
from models.versions.runner import Runner
from service.cli.changes import hold, promote, release, rollback
from service.cli.kept.versions import prune
from service.cli.sign import sign
from service.cli.terminal.figures import share_or_none
from service.cli.terminal.output import emit, json_option, table
from service.configuration.settings import Settings
from service.watcher.holds import hold_note


@click.group()
def models() -> None:
    """List, show, verify, promote and roll back versions; hold and release models.

    \b
    Example:
      holdfast models list
    """


for command in (promote, rollback, hold, release, sign, prune):
    models.add_command(command)


@models.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """All versions of all models, and who holds which.

    \b
    Example:
      holdfast models list
    """
    registry, rows, notes = Registry(settings.registry_dir, settings.keys), [], []
    for model in registry.models():
        try:
            state = registry.state(model)
        except RegistryError as error:
            state, damage = None, str(error)
            notes.append(damage)
        hold = None if state is None else state.find_hold(time.time())
        notes += [] if hold is None else [hold_note(model, hold)]
        anchor = None if state is None else state.anchor
        notes += [] if anchor is None else [f"{model}: {anchor.words()}"]
        canary = None if state is None else state.find_canary(time.time())
        notes += [] if canary is None else [f"{model}: {canary.words()}"]
        for version in registry.versions(model):
            row = {"model": model, "version": version, "aliases": None}
            if state is None:  # who mends it by promoting a version wants to know which
                rows.append(row | _figures(registry, model, version) | {"error": damage})
                continue
            aliases = msgspec.to_builtins(state.aliases)
            row["aliases"] = [name for name, number in aliases.items() if number == version]
            row["hold"] = msgspec.to_builtins(hold)
            row["anchor"] = anchor is not None and anchor.version == version
            row["canary"] = msgspec.to_builtins(canary)
            rows.append(row | _figures(registry, model, version))
    emit(rows, as_json, lambda: "\n".join([_listing(rows), *notes]))


def _figures(registry: Registry, model: str, version: int) -> dict[str, object]:
    """What a listing says of a version, or why it cannot."""
    try:
        manifest = registry.manifest(model, version)
    except (BundleError, RegistryError) as error:
        return {"error": str(error)}
    figures, event = manifest.evaluation, manifest.event
    return {
        "created_at": manifest.created_at,
        "clean": None if figures is None else share_or_none(figures.clean),
        "robust": None if figures is None else share_or_none(figures.robust),
        "reason": "" if event is None else event.reason,
    }


def _listing(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no models yet: holdfast train digits"
    header = ("model", "version", "aliases", "clean", "robust", "made", "because")
    keys = ("clean", "robust", "created_at", "reason")
    return table(
        header,
        [
            (r["model"], r["version"], _aliases(r["aliases"]), *(_cell(r, k) for k in keys))
            for r in rows
        ],
    )


def _aliases(names: object) -> str:
    return ",".join(names) if isinstance(names, list) else "damaged"


def _cell(row: dict[str, object], name: str) -> object:
    value = row.get(name, "damaged")
    return "unknown" if value is None else value


@models.command()
@click.argument("model")
@click.argument("version", default="champion")
@json_option
@click.pass_obj
def show(settings: Settings, model: str, version: str, as_json: bool) -> None:
    """A version's manifest, who holds the model, and its audit.

    \b
    Example:
      holdfast models show digits 2
    """
    registry = Registry(settings.registry_dir, settings.keys)
    manifest = registry.manifest(model, registry.resolve(model, version))
    hold, anchor, canary, damage = None, None, None, ""
    audit: tuple[AuditRecord, ...] = ()
    try:
        state, audit = registry.state(model), registry.audit(model)
        hold, anchor = state.find_hold(time.time()), state.anchor
        canary = state.find_canary(time.time())
    except RegistryError as error:  # of one of them: the manifest is whole
        damage = str(error)
    value = {
        "manifest": msgspec.to_builtins(manifest),
        "hold": msgspec.to_builtins(hold),
        "anchor": msgspec.to_builtins(anchor),
        "canary": msgspec.to_builtins(canary),
        "audit": msgspec.to_builtins(audit),
    }
    if damage:
        value["audit_error"] = damage

    def text() -> str:
        header = ("at", "action", "version", "champion", "actor", "reason")
        rows = [(a.at, a.action, a.version, a.aliases.champion, a.actor, a.reason) for a in audit]
        head = msgspec.structs.replace(manifest, evaluation={}, files={}, sizes={})
        parts = [
            msgspec.json.format(msgspec.json.encode(head)).decode(),
            "" if hold is None else hold_note(model, hold),
            "" if anchor is None else anchor.words(),
            "" if canary is None else canary.words(),
            damage or table(header, rows),
        ]
        return "\n\n".join(part for part in parts if part)

    emit(value, as_json, text)


@models.command()
@click.argument("model")
@click.argument("version", default="champion")
@click.pass_obj
def card(settings: Settings, model: str, version: str) -> None:
    """Print the model card.

    \b
    Example:
      holdfast models card digits
    """
    click.echo(
        Registry(settings.registry_dir, settings.keys).open(model, version).read("card.md").decode()
    )


@models.command()
@click.argument("model")
@click.argument("version", required=False)
@json_option
@click.pass_obj
def verify(settings: Settings, model: str, version: str | None, as_json: bool) -> None:
    """Check the digests of a version (or all) and that onnxruntime can run it.

    \b
    Example:
      holdfast models verify digits
    """
    registry = Registry(settings.registry_dir, settings.keys)
    versions = [registry.resolve(model, version)] if version else list(registry.versions(model))
    if not versions:
        registry.path(model, 1)
    results = {}
    for number in versions:
        try:
            Runner(open_bundle(registry.path(model, number), registry.keys))
            results[number] = "ok"
        except BundleError as error:
            results[number] = error.reason
    emit(results, as_json, lambda: "\n".join(f"{model}/{n}: {r}" for n, r in results.items()))
    if any(r != "ok" for r in results.values()):
        raise click.exceptions.Exit(1)
