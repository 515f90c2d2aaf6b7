"""`holdfast models`: the registry from the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from models.bundle import open_bundle
from models.errors import BundleError
from models.registry import Registry
from models.runner import Runner
from monitoring.alarm import promise
from monitoring.explanation import Explanation, histogram_text
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
    registry, rows = Registry(settings.registry_dir, settings.keys), []
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
    registry = Registry(settings.registry_dir, settings.keys)
    manifest = registry.manifest(model, registry.resolve(model, version))
    audit = registry.audit(model)
    value = {"manifest": msgspec.to_builtins(manifest), "audit": msgspec.to_builtins(audit)}

    def text() -> str:
        header = ("at", "action", "version", "champion", "actor", "reason")
        rows = [(a.at, a.action, a.version, a.aliases.champion, a.actor, a.reason) for a in audit]
        shown = msgspec.structs.replace(manifest, evaluation={}, files={}, sizes={})
        return (
            msgspec.json.format(msgspec.json.encode(shown)).decode() + "\n\n" + table(header, rows)
        )

    emit(value, as_json, text)


@models.command()
@click.argument("model")
@json_option
@click.pass_obj
def drift(settings: Settings, model: str, as_json: bool) -> None:
    """The last drift alarm: what moved, since when, and by which requests.

    \b
    Example:
      holdfast models drift digits
    """
    Registry(settings.registry_dir, settings.keys).aliases(model)  # an unknown model is told
    try:
        state = json.loads((Path(settings.state) / "watch" / f"{model}.json").read_text())
        told = msgspec.convert(state.get("explained"), Explanation | None)
    except FileNotFoundError:
        raise click.ClickException(
            f"nothing watches {model} yet: start `holdfast watch` (or `holdfast up`)"
        ) from None
    except (ValueError, AttributeError) as error:
        raise click.ClickException(f"the watcher's state is not readable: {error}") from None
    on = state.get("alarm_since") is not None
    value = {
        "model": model,
        "version": state["version"],
        "alarm": on,
        "promise": promise(settings.drift_c, None),
        "last_alarm": msgspec.to_builtins(told),
    }
    emit(value, as_json, lambda: _alarm(told, on, value))


def _alarm(told: Explanation | None, on: bool, value: dict[str, object]) -> str:
    head = f"{value['model']} {value['version']}: {value['promise']}"
    if told is None:
        return f"{head}\nno alarm since this version is watched"
    began = "" if told.began_at is None else f", about {_clock(told.began_at)}"
    lines = [
        head,
        f"alarm {'on' if on else 'over'}, raised {_clock(told.raised_at)}, version {told.version}:",
        told.words,
        f"request {told.requests}; it began after request {told.change_at}{began}",
        "",
        histogram_text(told),
        "",
    ]
    rows = [(f"{m.id}/{m.row}", _clock(m.at), m.cell, f"{m.gain:.2f}") for m in told.movers]
    if rows:
        lines.append(table(("request", "at", "its value", "gain"), rows))
    return "\n".join([*lines, *([told.note] if told.note else [])])


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


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
    wanted = [registry.resolve(model, version)] if version else list(registry.versions(model))
    if not wanted:
        registry.path(model, 1)
    results = {}
    for number in wanted:
        try:
            Runner(open_bundle(registry.path(model, number), registry.keys))
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
    registry = Registry(settings.registry_dir, settings.keys)
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
    after = Registry(settings.registry_dir, settings.keys).rollback(
        model, actor="command line", reason=reason
    )
    emit(after, as_json, lambda: f"champion of {model} is {after.champion}")
