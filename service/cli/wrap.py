"""`holdfast wrap`: score heads, calibration and an evaluation for an ONNX model that exists."""

import re
import uuid
from pathlib import Path
from typing import Any

import click

from models.base.errors import AdaptError
from models.base.files import sha256_file
from models.versions.facts import EventFacts, WrappingFacts
from models.versions.judging import NORMS
from models.versions.registry import MODEL_NAME, Registry, check_name
from service.cli.figures import gap_lines, headline, share_or_none
from service.cli.output import emit, json_option, tell_notes
from service.cli.progress import Bar
from service.cli.source import source_options
from service.cli.train import benign_examples, need_training, promote_or_say_why
from service.configuration.settings import Settings

ACTOR = "command line"


@click.command()
@click.argument("file", metavar="MODEL.ONNX", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    help="Labelled rows that the model was not trained on: a file, a folder or a bundled name.",
)
@source_options
@click.option("--model", help="Name of the model; the file's name by default.")
@click.option("--output", default="", help="Tensor with the logits or probabilities.")
@click.option("--features", default="", help="Tensor of the feature layer; `none` for none.")
@click.option(
    "--scale",
    default="auto",
    help="What the model takes: auto, raw, unit, symmetric, imagenet, byte, dataset, or MEAN,STD "
    "in units of [0, 1] (of each channel: all means first).",
)
@click.option(
    "--layout", type=click.Choice(["auto", "nchw", "nhwc"]), default="auto", help="Of images."
)
@click.option("--classes", default="", help="The data's classes in the order of the model's: a,b,c")
@click.option("--eps", type=float, help="Size of the attack in units of 0..1 (by the data).")
@click.option("--norm", type=click.Choice(NORMS), default="linf", help="What eps measures.")
@click.option(
    "--benign",
    type=click.Path(),
    help="Data of your own that are no attacks (formats as --data): the alarm lets them be.",
)
@click.option("--promote/--no-promote", default=True, help="Make it the champion if none stands.")
@json_option
@click.pass_obj
def wrap(
    settings: Settings,
    file: Path,
    data: str,
    reading: dict[str, Any],
    model: str | None,
    output: str,
    features: str,
    scale: str,
    layout: str,
    classes: str,
    eps: float | None,
    norm: str,
    benign: str | None,
    promote: bool,
    as_json: bool,
) -> None:
    """Put score heads on MODEL.ONNX, calibrate them on DATA and publish the whole as a version.

    How the model takes its input and which output holds the classes is found out and told.

    \b
    Example:
      holdfast wrap resnet.onnx --data photos/ --model photos
      holdfast wrap churn.onnx --data churn.csv --label left --categorical region
    """
    need_training()
    import msgspec

    from models import data as sets
    from models.attacks.threat import geometry_of
    from models.training.presets import preset
    from models.wrapping import Options

    name = model or _name_of(file)
    check_name(name)
    rows = sets.load(sets.Source(data, **reading))
    for note in rows.notes:
        click.echo(f"note: {note}", err=True)
    usual = preset(rows.schema, len(rows.train)).threat
    threat = msgspec.structs.replace(usual, norm=norm, eps=usual.eps if eps is None else eps)
    geometry_of(threat, rows.schema)  # refuses eps and norms that mean nothing, before any work
    options = Options(
        output=output,
        features=features,
        scale=scale,
        layout=layout,  # type: ignore[arg-type]
        classes=tuple(part.strip() for part in classes.split(",")) if classes else (),
    )
    registry = Registry(settings.registry_dir, settings.keys)
    own = benign_examples(benign, rows)
    version, facts = _publish(registry, name, file, rows, options, threat, own)
    if promote:
        promote_or_say_why(registry, name, version, ACTOR)
    _tell(registry, name, version, facts, as_json)


def _publish(
    registry: Registry,
    name: str,
    file: Path,
    rows: Any,
    options: Any,
    threat: Any,
    benign: Any,
) -> tuple[int, dict[str, Any]]:
    """Adapt, then instrument, calibrate, evaluate and publish; nothing is written before that."""
    import msgspec

    from models.wrapping import adapt, read_model
    from monitoring.making.orders import WrapOrder
    from monitoring.making.version import wrap_version

    adapted = adapt(read_model(file), rows, options=options)
    facts = {"file": file.name, "sha256": sha256_file(file)} | adapted.facts
    event = EventFacts(f"wrap-{uuid.uuid4().hex[:12]}", f"wrapped {file.name} by hand")
    origin = msgspec.convert(facts, WrappingFacts)
    order = WrapOrder(name, event, ACTOR, threat, origin, benign=benign)
    with Bar(name) as bar:
        return wrap_version(registry, rows, adapted.plain, order, progress=bar), facts


def _name_of(file: Path) -> str:
    """The file's name as a model's name.

    >>> _name_of(Path("My ResNet-18.onnx"))
    'my_resnet-18'
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", file.stem.lower()).strip("_-")
    if not MODEL_NAME.fullmatch(name):
        raise AdaptError(f"{file.name} gives no name for a model: add --model NAME")
    return name


def _tell(
    registry: Registry, name: str, version: int, facts: dict[str, Any], as_json: bool
) -> None:
    manifest = registry.manifest(name, version)
    tell_notes(manifest, registry.aliases(name).champion)
    figures = manifest.evaluation
    assert figures is not None  # what is published was judged
    clean, robust = share_or_none(figures.clean), share_or_none(figures.robust)
    page = registry.path(name, version) / "report.html"

    def text() -> str:
        read, layer = facts["output"], facts["features"]
        lines = [
            f"{name}/{version}: {headline(figures)}; {page}",
            f"  input: {facts['layout']}, scale {facts['scale']}; classes {facts['classes']}",
            f"  answer: {read['kind']} of {read['tensor']!r}, read from {read['read_from']!r}",
        ]
        if layer is not None:
            lines.append(f"  features: {layer['tensor']!r}, {layer['size']} of them")
        lines += [f"  note: {note}" for note in facts["notes"]]
        return "\n".join(lines + gap_lines(figures))

    emit(
        {"model": name, "version": version, "clean": clean, "robust": robust, "adapted": facts},
        as_json,
        text,
    )
