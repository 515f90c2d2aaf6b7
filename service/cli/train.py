"""`holdfast train` and `holdfast evaluate`: what needs torch, imported only when asked for."""

import importlib.util
import uuid

import click

from models.errors import HoldfastError
from models.registry import Registry
from service.cli.output import Progress, emit, json_option
from service.settings import Settings

TRAIN_PACKAGES = ("torch", "onnx", "sklearn", "safetensors")


def need_training() -> None:
    """Say what is missing before anything else fails for it."""
    missing = [name for name in TRAIN_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise HoldfastError(
            f"this command needs the train extra ({', '.join(missing)} missing): "
            "pip install 'holdfast[train]'"
        )


@click.command()
@click.argument("data", default="digits")
@click.option("--model", help="Name of the model; the data's name by default.")
@click.option("--if-empty", is_flag=True, help="Do nothing if the model has a champion.")
@click.option("--promote/--no-promote", default=True, help="Make it the champion if none stands.")
@click.option("--epochs", type=click.IntRange(1), help="Rounds through the rows (50).")
@click.option("--eps", type=float, help="Size of the training attack in units of 0..1 (0.25).")
@click.option(
    "--method", type=click.Choice(["trades", "pgd", "standard"]), help="How it is trained (trades)."
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of the features dropped in training.",
)
@click.option("--batch-norm", is_flag=True, help="Batch normalisation after each convolution.")
@click.option("--seed", type=int, default=0, help="Of weights, batches and attacks.")
@json_option
@click.pass_obj
def train(
    settings: Settings,
    data: str,
    model: str | None,
    if_empty: bool,
    promote: bool,
    epochs: int | None,
    eps: float | None,
    method: str | None,
    dropout: float,
    batch_norm: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a robust model on DATA and publish it as a version.

    \b
    Example:
      holdfast train digits --epochs 20
    """
    name, registry = model or data, Registry(settings.registry_dir)
    if if_empty and registry.versions(name) and registry.aliases(name).champion is not None:
        click.echo(f"model {name} has a champion already", err=True)
        return
    need_training()
    import msgspec

    from models import data as sets
    from models.nets import NetSpec
    from models.threat import Linf
    from models.train import Recipe
    from monitoring.assemble import Order, make_version

    chosen = {"epochs": epochs, "eps": eps, "method": method, "seed": seed}
    recipe = msgspec.convert({k: v for k, v in chosen.items() if v is not None}, Recipe)
    try:
        Linf(recipe.eps)
    except ValueError as error:
        raise HoldfastError(f"--eps: {error}") from None
    rows = sets.load(data)
    kwargs = {
        "shape": list(rows.schema.shape),
        "classes": len(rows.classes),
        "dropout": dropout,
        "batch_norm": batch_norm,
    }
    event = {"id": f"train-{uuid.uuid4().hex[:12]}", "reason": f"trained on {data} by hand"}
    order = Order(name, recipe, NetSpec("small_conv", kwargs), event, "command line")
    version = make_version(registry, rows, order, progress=Progress(f"training {name}"))
    figures = registry.manifest(name, version).evaluation
    if promote and registry.aliases(name).champion is None:
        registry.promote(name, version, expected=None, actor="command line", reason="the first")
    clean, robust = figures["clean"]["value"], figures["robust"]["value"]
    emit(
        {"model": name, "version": version, "clean": clean, "robust": robust},
        as_json,
        lambda: (
            f"{name}/{version}: clean accuracy {clean:.1%}, {robust:.1%} under attack at eps "
            f"{figures['eps']:g} (n = {figures['n']}); {registry.path(name, version) / 'card.md'}"
        ),
    )


@click.command()
@click.argument("model", default="digits")
@click.option("--version", "which", default="champion", help="A number or an alias.")
@json_option
@click.pass_obj
def evaluate(settings: Settings, model: str, which: str, as_json: bool) -> None:
    """Evaluate a version again on its held-out data: clean, attacked, corrupted, edge cases.

    \b
    Example:
      holdfast evaluate digits --version 2 --json
    """
    need_training()
    from models import data as sets
    from models.evaluate import evaluate as judge
    from monitoring.assemble import open_subject

    bundle = Registry(settings.registry_dir).open(model, which)
    rows = sets.load(bundle.manifest.training["data"]["name"])
    figures = judge(open_subject(bundle), rows.test)

    def text() -> str:
        lines = [f"{bundle.name} on {figures['n']} held-out rows (95 % intervals)"]
        for name in ("clean", "robust"):
            p = figures[name]
            lines.append(f"  {name:8} {p['value']:.1%}  ({p['low']:.1%} to {p['high']:.1%})")
        lines += [
            f"  {r['attack']} {r['eps']:<5g} {r['value']:.1%}" for r in figures["robust_curve"]
        ]
        return "\n".join(lines)

    emit(figures, as_json, text)
