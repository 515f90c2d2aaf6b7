"""`holdfast models`: the registry from the command line."""

import click
import msgspec

from models.bundle import open_bundle
from models.errors import BundleError
from models.registry import Registry
from models.runner import Runner
from service.cli.output import emit, json_option, table
from service.settings import Settings


@click.group()
def models() -> None:
    """List, show, verify, promote and roll back versions.

    \b
    Example:
      holdfast models list
    """


@models.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """All versions of all models.

    \b
    Example:
      holdfast models list
    """
    registry, rows = Registry(settings.registry_dir), []
    for model in registry.models():
        aliases = msgspec.to_builtins(registry.aliases(model))
        for version in registry.versions(model):
            named = [name for name, number in aliases.items() if number == version]
            row = {"model": model, "version": version, "aliases": named}
            try:
                manifest = registry.manifest(model, version)
            except BundleError as error:
                rows.append(row | {"error": str(error)})
                continue
            figures = manifest.evaluation
            rows.append(
                row
                | {
                    "created_at": manifest.created_at,
                    "clean": figures["clean"]["value"],
                    "robust": figures["robust"]["value"],
                    "reason": manifest.event.get("reason", ""),
                }
            )
    emit(rows, as_json, lambda: _listing(rows))


def _listing(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no models yet: holdfast train digits"
    header = ("model", "version", "aliases", "clean", "robust", "made", "because")
    keys = ("clean", "robust", "created_at", "reason")
    return table(
        header,
        [
            (r["model"], r["version"], ",".join(r["aliases"]), *(r.get(k, "damaged") for k in keys))  # type: ignore[arg-type]
            for r in rows
        ],
    )


@models.command()
@click.argument("model")
@click.argument("version", default="champion")
@json_option
@click.pass_obj
def show(settings: Settings, model: str, version: str, as_json: bool) -> None:
    """A version's manifest, and the audit of the model.

    \b
    Example:
      holdfast models show digits 2
    """
    registry = Registry(settings.registry_dir)
    manifest = registry.manifest(model, registry.resolve(model, version))
    audit = registry.audit(model)
    value = {"manifest": msgspec.to_builtins(manifest), "audit": msgspec.to_builtins(audit)}

    def text() -> str:
        header = ("at", "action", "version", "champion", "actor", "reason")
        rows = [(a.at, a.action, a.version, a.aliases.champion, a.actor, a.reason) for a in audit]
        shown = msgspec.structs.replace(manifest, evaluation={}, files={})
        return (
            msgspec.json.format(msgspec.json.encode(shown)).decode() + "\n\n" + table(header, rows)
        )

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
    click.echo(Registry(settings.registry_dir).open(model, version).read("card.md").decode())


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
    registry = Registry(settings.registry_dir)
    wanted = [registry.resolve(model, version)] if version else list(registry.versions(model))
    if not wanted:
        registry.path(model, 1)
    results = {}
    for number in wanted:
        try:
            Runner(open_bundle(registry.path(model, number)))
            results[number] = "ok"
        except BundleError as error:
            results[number] = error.reason
    emit(results, as_json, lambda: "\n".join(f"{model}/{n}: {r}" for n, r in results.items()))
    if any(r != "ok" for r in results.values()):
        raise click.exceptions.Exit(1)


@models.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option("--expected", type=int, help="The champion it shall replace; the present one.")
@click.option("--reason", default="by hand", help="Why; kept in the audit.")
@json_option
@click.pass_obj
def promote(
    settings: Settings, model: str, version: int, expected: int | None, reason: str, as_json: bool
) -> None:
    """Make a version the champion; running services follow within a second.

    \b
    Example:
      holdfast models promote digits 2 --reason "checked by eye"
    """
    registry = Registry(settings.registry_dir)
    if expected is None:
        expected = registry.aliases(model).champion
    after = registry.promote(model, version, expected=expected, actor="command line", reason=reason)
    emit(after, as_json, lambda: f"champion of {model} is {after.champion}")


@models.command()
@click.argument("model")
@click.option("--reason", default="by hand", help="Why; kept in the audit.")
@json_option
@click.pass_obj
def rollback(settings: Settings, model: str, reason: str, as_json: bool) -> None:
    """Bring the previous champion back.

    \b
    Example:
      holdfast models rollback digits --reason "complaints from the field"
    """
    after = Registry(settings.registry_dir).rollback(model, actor="command line", reason=reason)
    emit(after, as_json, lambda: f"champion of {model} is {after.champion}")
