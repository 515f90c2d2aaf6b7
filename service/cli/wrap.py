"""`holdfast wrap`: score heads, calibration and an evaluation for an ONNX model that exists."""

import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from models.base.errors import AdaptError, HoldfastError
from models.base.files import sha256_file
from models.versions.facts import EventFacts, WrappingFacts
from models.versions.judging import NORMS
from models.versions.registry import MODEL_NAME, Registry, check_name
from service.cli.checks.extras import need_training
from service.cli.source import source_options
from service.cli.terminal.figures import gap_lines, headline, share_or_none
from service.cli.terminal.output import emit, json_option, tell_notes
from service.cli.terminal.progress import Bar
from service.cli.train import benign_examples, promote_or_say_why
from service.configuration.settings import Settings

if TYPE_CHECKING:
    from models.data import DataSet, Source
    from models.versions.judging import ThreatModel
    from models.wrapping import Adapted, Model, Options
    from monitoring.scoring.perturbation.benign import Benign

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
@click.option("--columns", default="", help="The data's columns in the order of the model's: a,b,c")
@click.option(
    "--accept-weak",
    is_flag=True,
    help="Wrap the model even if it is no better than chance, or seems to be fed wrongly.",
)
@click.option("--eps", type=float, help="Size of the attack in units of 0..1 (by the data).")
@click.option("--norm", type=click.Choice(NORMS), default="linf", help="What eps measures.")
@click.option(
    "--benign",
    type=click.Path(),
    help="Data of your own that are no attacks (formats as --data): the alarm lets them be.",
)
@click.option(
    "--examples/--no-examples", default=True, help="Put 24 held-out rows into the version, to try."
)
@click.option("--promote/--no-promote", default=True, help="Make it the champion if none stands.")
@json_option
@click.pass_obj
def wrap(
    settings: Settings,
    /,
    file: Path,
    data: str,
    reading: dict[str, Any],
    model: str | None,
    eps: float | None,
    norm: str,
    benign: str | None,
    examples: bool,
    promote: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Put score heads on MODEL.ONNX, calibrate them on DATA and publish the whole as a version.

    How the model takes its input and which output holds the classes is tried out and printed.

    \b
    Example:
      holdfast wrap resnet.onnx --data photos/ --model photos
      holdfast wrap churn.onnx --data churn.csv --label left --categorical region
    """
    need_training()
    from models.data import Source
    from models.wrapping import adapt

    name = model or _name_of(file)
    check_name(name)
    given, rows, threat = _read(file, Source(data, **reading), norm, eps)
    for note in rows.notes:
        _say(f"note: {note}")
    own = benign_examples(benign, rows)
    adapted = adapt(given, rows, options=_options(said), progress=_say)
    registry = Registry(settings.registry_dir, settings.keys)
    facts = msgspec.structs.replace(adapted.facts, file=file.name, sha256=sha256_file(file))
    version = _publish(registry, name, rows, adapted, facts, threat, own, examples=examples)
    if promote:
        promote_or_say_why(registry, name, version, ACTOR)
    _report(registry, name, version, facts, as_json)


def _read(
    file: Path, source: "Source", norm: str, eps: float | None
) -> "tuple[Model, DataSet, ThreatModel]":
    """The model, the data and the threat; what is wrong with them is said at once.

    Raises:
        AdaptError: the model cannot be read, or several of them have faults.
        DataError: the data cannot be read, or eps and norm mean nothing for them.
    """
    from models import data as sets
    from models.wrapping import read_model

    faults: list[HoldfastError] = []
    model = rows = threat = None
    try:
        _say(f"reading {file}")
        model = read_model(file)
    except HoldfastError as error:
        faults.append(error)
    try:
        _say(f"reading {source.path}")
        rows = sets.load(source)
        threat = _threat(rows, norm, eps)
    except HoldfastError as error:
        faults.append(error)
    if model is None or rows is None or threat is None:
        if len(faults) == 1:
            raise faults[0]
        raise AdaptError("\n".join(["the model and the data have faults:", *map(str, faults)]))
    return model, rows, threat


def _options(said: dict[str, Any]) -> "Options":
    from models.wrapping import Options

    names = ("output", "features", "scale", "layout", "accept_weak")
    options = Options(**{name: said[name] for name in names})
    return replace(options, classes=_names(said["classes"]), columns=_names(said["columns"]))


def _names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _threat(rows: "DataSet", norm: str, eps: float | None) -> "ThreatModel":
    """The usual threat for such data, with what the user says of it.

    Raises:
        DataError: eps and norm mean nothing for these data.
    """
    from models.attacks.threat import geometry_of
    from models.training.presets import preset

    usual = preset(rows.schema, len(rows.train)).threat
    threat = msgspec.structs.replace(usual, norm=norm, eps=usual.eps if eps is None else eps)
    geometry_of(threat, rows.schema)
    return threat


def _publish(
    registry: Registry,
    name: str,
    rows: "DataSet",
    adapted: "Adapted",
    facts: WrappingFacts,
    threat: "ThreatModel",
    benign: "Benign | None",
    *,
    examples: bool,
) -> int:
    """Instrument, calibrate, evaluate and publish; nothing is written before that."""
    from monitoring.making.orders import WrapOrder
    from monitoring.making.version import wrap_version

    event = EventFacts(f"wrap-{uuid.uuid4().hex[:12]}", f"wrapped {facts.file} by hand")
    order = WrapOrder(name, event, ACTOR, threat, facts, benign=benign, examples=examples)
    with Bar(name) as bar:
        return wrap_version(registry, rows, adapted.plain, order, progress=bar)


def _name_of(file: Path) -> str:
    """The file's name as a model's name.

    >>> _name_of(Path("My ResNet-18.onnx"))
    'my_resnet-18'
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", file.stem.lower()).strip("_-")
    if not MODEL_NAME.fullmatch(name):
        raise AdaptError(f"{file.name} gives no name for a model: add --model NAME")
    return name


def _say(words: str) -> None:
    click.echo(words, err=True)


def _report(
    registry: Registry, name: str, version: int, facts: WrappingFacts, as_json: bool
) -> None:
    manifest = registry.manifest(name, version)
    tell_notes(manifest, registry.aliases(name).champion)
    figures = manifest.evaluation
    assert figures is not None  # what is published was judged
    clean, robust = share_or_none(figures.clean), share_or_none(figures.robust)
    page = registry.path(name, version) / "report.html"

    def text() -> str:
        lines = [*_lines(facts), *(line.strip() for line in gap_lines(figures))]
        head = f"{name}/{version}: {headline(figures, manifest.input)}; {page}"
        return "\n".join([head, *(f"  {line}" for line in lines)])

    emit(
        {"model": name, "version": version, "clean": clean, "robust": robust, "adapted": facts},
        as_json,
        text,
    )


def _lines(facts: WrappingFacts) -> list[str]:
    """How the model is fed and read, and what its owner should know."""
    lines = [f"input: {facts.layout}, scale {facts.scale}; classes {facts.classes}"]
    if facts.output is not None:
        read = facts.output
        lines.append(f"answer: {read.kind} of {read.tensor!r}, read from {read.read_from!r}")
    if facts.features is not None:
        lines.append(f"features: {facts.features.tensor!r}, {facts.features.size} of them")
    if facts.as_in_file is not None:
        seen = facts.as_in_file
        lines.append(
            f"{seen.own.n} rows as they stand in the file: the model itself is right on "
            f"{seen.own.value:.1%}, the wrapped one on {seen.wrapped.value:.1%}"
        )
    lines += [f"not measured: {what}: {why}" for what, why in facts.not_measured.items()]
    return [*lines, *(f"note: {note}" for note in facts.notes)]
