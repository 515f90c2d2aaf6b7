"""`holdfast train`: what needs torch is imported only when asked for."""

import dataclasses
import hashlib
import re
import uuid
from pathlib import Path
from typing import Any

import click

from models.base.errors import DataError, HoldfastError
from models.nets.catalogue import CATALOGUE as NETS
from models.training.recipe import AUGMENTATIONS, DEVICES, METHODS, PRECISIONS
from models.versions.facts import EventFacts
from models.versions.judging import NORMS
from models.versions.registry import Registry, check_name
from service.cli.checks.extras import need_training
from service.cli.source import source_options
from service.cli.terminal.figures import gap_lines, headline, share_or_none
from service.cli.terminal.output import emit, json_option, tell_notes
from service.cli.terminal.progress import Bar
from service.configuration.settings import Settings

BOUND = re.compile(r"(?P<column>.+)=(?P<down>[\d.]+)(?::(?P<up>[\d.]+))?")


@click.command()
@click.argument("data", default="digits")
@source_options
@click.option("--model", help="Name of the model; the data's name by default.")
@click.option("--if-empty", is_flag=True, help="Do nothing if the model has a version.")
@click.option("--promote/--no-promote", default=True, help="Make it the champion if none stands.")
@click.option("--quick", is_flag=True, help="A fraction of the time, some robustness less.")
@click.option("--method", type=click.Choice(METHODS), help="How it is trained (trades).")
@click.option("--norm", type=click.Choice(NORMS), help="What eps measures (linf).")
@click.option("--eps", type=float, help="Size of the training attack in units of 0..1.")
@click.option("--test-eps", type=float, help="Size of the attack it is judged by.")
@click.option("--fixed", multiple=True, help="A column of a table that an attacker cannot change.")
@click.option(
    "--bound", multiple=True, help="COLUMN=SHARE or COLUMN=DOWN:UP: how much of eps it may move."
)
@click.option("--epochs", type=click.IntRange(1), help="Rounds through the rows.")
@click.option("--batch-size", type=click.IntRange(1), help="Rows of a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Of AdamW (0.002).")
@click.option("--beta", type=click.FloatRange(0), help="Weight of robustness in TRADES.")
@click.option(
    "--attack-steps", type=click.IntRange(1), help="Gradient steps of the training attack."
)
@click.option(
    "--augment", multiple=True, type=click.Choice(AUGMENTATIONS), help="May be given repeatedly."
)
@click.option(
    "--corrupted-copies", type=click.IntRange(0, 20), help="Copies of every row, corrupted (0)."
)
@click.option(
    "--certified-share",
    "certified_shares",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="A further size to prove answers for, as a share of eps (method certified).",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the layers (auto).")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="That the net is trained and judged on; auto: a GPU where torch can use one.",
)
@click.option(
    "--net",
    default="auto",
    help=f"auto, {', '.join(NETS)}, or module:factory of your own.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of the features dropped in training.",
)
@click.option("--batch-norm", is_flag=True, help="Batch normalisation after each layer.")
@click.option(
    "--benign",
    type=click.Path(),
    help="Data of your own that are no attacks (formats as DATA): the alarm learns to let them be.",
)
@click.option(
    "--examples/--no-examples", default=True, help="Put 24 held-out rows into the version, to try."
)
@click.option("--init-from", help="Version or alias whose weights are the start.")
@click.option("--seed", type=int, default=0, help="Of weights, batches and attacks.")
@json_option
@click.pass_obj
def train(
    settings: Settings,
    /,
    data: str,
    reading: dict[str, Any],
    model: str | None,
    if_empty: bool,
    promote: bool,
    net: str,
    dropout: float,
    batch_norm: bool,
    benign: str | None,
    examples: bool,
    init_from: str | None,
    device: Any,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train a robust model on DATA and publish it as a version.

    DATA is the name of a bundled set (digits, breast_cancer, wine) or a path: a .npz, MNIST's IDX
    files, a folder of images (class/name.png), Parquet, or CSV. Cut off and run again, it goes on
    where it was. Several processes share the work under torchrun.

    \b
    Example:
      holdfast train photos/ --net resnet18 --augment flip --augment shift
      holdfast train churn.csv --label left --fixed age
      torchrun --nproc-per-node 2 --no-python holdfast train photos/
    """
    registry = Registry(settings.registry_dir, settings.keys)
    if if_empty and _has_version(registry, model or data):  # before anything is loaded
        return
    need_training()
    from models import data as sets
    from models.training import distributed
    from models.training.precision import choose_device

    choose_device(device)  # one that is not there is said before anything is loaded
    first = distributed.rank() == 0
    with Bar(model or data, silent=not first, file=settings.progress_file) as bar:
        bar("reading", 0, 0, data)
        rows = sets.load(sets.Source(data, **reading))
        name = bar.what = model or rows.name
        check_name(name)
        if if_empty and _has_version(registry, name):  # a path names no model until it is read
            return
        for note in rows.notes:
            bar.note(f"note: {note}")
        order = _order(registry, rows, name, net, {"dropout": dropout, "batch_norm": batch_norm},
                       init_from, chosen)  # fmt: skip
        own = benign_examples(benign, rows)
        order = dataclasses.replace(order, benign=own, examples=examples, device=device)
        version = _make(settings, registry, rows, order, bar)
    distributed.leave()
    if not first:
        return
    manifest = registry.manifest(name, version)
    figures = manifest.evaluation
    assert figures is not None  # what is published was judged
    if promote:
        promote_or_say_why(registry, name, version, "command line")
    tell_notes(manifest, registry.aliases(name).champion)
    clean, robust = share_or_none(figures.clean), share_or_none(figures.robust)
    page = registry.path(name, version) / "report.html"
    emit(
        {"model": name, "version": version, "clean": clean, "robust": robust},
        as_json,
        lambda: "\n".join(
            [f"{name}/{version}: {headline(figures, manifest.input)}; {page}", *gap_lines(figures)]
        ),
    )


def promote_or_say_why(registry: Registry, model: str, version: int, actor: str) -> None:
    """Make a version the first champion, or say on standard error what is against it."""
    from monitoring.making.first import promote_first

    why_not = promote_first(registry, model, version, actor=actor)
    if why_not is not None:
        click.echo(f"warning: {why_not}", err=True)


def benign_examples(path: str | None, rows: Any) -> Any:
    """The user's own benign examples for a model of `rows`, labelled like them; None for none."""
    if path is None:
        return None
    from models.data import Source
    from monitoring.scoring.perturbation.benign import load_benign

    label = rows.source.label if rows.schema.kind == "tabular" else ""
    return load_benign(Source(path, label=label), rows.schema)


def _has_version(registry: Registry, name: str) -> bool:
    """Whether there is nothing to do under `--if-empty`; says so."""
    versions = registry.versions(name)
    if not versions:
        return False
    if registry.aliases(name).champion is not None:
        click.echo(f"model {name} has a champion already", err=True)
    else:
        click.echo(
            f"model {name} has version {versions[-1]} already, which is not its champion; to "
            f"serve it: holdfast models promote {name} {versions[-1]}",
            err=True,
        )
    return True


def _order(
    registry: Registry,
    rows: Any,
    name: str,
    net: str,
    options: dict[str, Any],
    init_from: str | None,
    chosen: dict[str, Any],
) -> Any:
    """What is to be made: the preset for the data, with what was chosen by hand."""
    import msgspec

    from models.attacks.threat import geometry_of
    from models.nets.factories import NetSpec, spec_for
    from models.training.presets import preset
    from models.training.recipe import Recipe
    from monitoring.making.orders import Order
    from monitoring.making.version import promise_of

    start = preset(rows.schema, len(rows.train), quick=chosen.pop("quick"), method=chosen["method"])
    test_eps, columns = chosen.pop("test_eps"), _columns(chosen.pop("fixed"), chosen.pop("bound"))
    changes = {k: v for k, v in chosen.items() if v is not None and v != ()} | {"columns": columns}
    if "attack_steps" in changes:
        changes["attack_ramp"] = ()
    recipe = msgspec.convert(msgspec.to_builtins(start.recipe) | changes, Recipe)
    if test_eps is None:
        test_eps = start.threat.eps if chosen["eps"] is None else recipe.eps
    threat = msgspec.structs.replace(recipe.threat_model, eps=test_eps)
    for option, judged in (("--eps", recipe.threat_model), ("--test-eps", threat)):
        try:
            geometry_of(judged, rows.schema)
        except DataError as error:
            about = f"{option}: " if str(error).startswith("eps ") else ""
            raise HoldfastError(f"{about}{error}") from None
    promise_of(recipe, threat)  # an eps that nothing can be certified for is said at once
    parent = None if init_from is None else registry.open(name, init_from)
    spec = spec_for(
        rows.schema, len(rows.classes), net, certifiable=recipe.method == "certified", **options
    )
    if parent is not None:
        training = parent.manifest.training
        if training is None or training.net is None:
            raise DataError(f"{parent.name} is a wrapped model: it has no weights to start from")
        if (parent.manifest.input, parent.manifest.classes) != (rows.schema, rows.classes):
            raise DataError(
                f"{parent.name} takes another input or has other classes than {rows.name}: "
                "its weights cannot be the start"
            )
        kept = msgspec.convert(training.net, NetSpec)
        if (net != "auto" or any(options.values())) and _plain(spec) != _plain(kept):
            raise DataError(
                f"{parent.name} has another net than --net, --dropout and --batch-norm ask for: "
                "leave them out to start from its weights"
            )
        spec = kept if net == "auto" else msgspec.structs.replace(kept, folder=spec.folder)
    event = EventFacts(f"train-{uuid.uuid4().hex[:12]}", f"trained on {rows.name} by hand")
    return Order(name, recipe, spec, event, "command line", parent=parent, threat=threat)


def _plain(spec: Any) -> bytes:
    import msgspec

    return msgspec.json.encode([spec.factory, spec.kwargs], order="sorted")


def _columns(fixed: tuple[str, ...], bounds: tuple[str, ...]) -> dict[str, float | list[float]]:
    columns: dict[str, float | list[float]] = dict.fromkeys(fixed, 0.0)
    for text in bounds:
        match = BOUND.fullmatch(text)
        if match is None:
            raise click.UsageError(f"--bound wants COLUMN=SHARE or COLUMN=DOWN:UP; got {text!r}")
        down, up = match["down"], match["up"] or match["down"]
        try:
            columns[match["column"]] = [float(down), float(up)]
        except ValueError:
            raise click.UsageError(f"--bound {text!r}: a share is a number such as 0.5") from None
    return columns


def _make(settings: Settings, registry: Registry, rows: Any, order: Any, bar: Bar) -> int:
    """Train and publish; a run that was cut off goes on from its checkpoint."""
    import msgspec

    from monitoring.making.version import make_version

    what = msgspec.json.encode([order.recipe, order.net, rows.fingerprint])
    digest = hashlib.sha256(what).hexdigest()[:12]
    checkpoint = Path(settings.state) / "training" / f"{order.model}-{digest}.safetensors"
    try:
        return make_version(registry, rows, order, progress=bar, checkpoint=checkpoint)
    except KeyboardInterrupt:
        if registry.published_for(order.model, order.event.id) is None:
            start = "goes on from its checkpoint" if checkpoint.exists() else "begins anew"
            bar.note(f"stopped; nothing was published; the same command {start}")
        raise
