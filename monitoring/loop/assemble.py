"""A model version from data: train (or take a graph that exists), instrument, evaluate, publish.

Runs where torch is: the command line's `train` and `wrap`, and the lifecycle's child processes.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from models import reporting
from models.attacks.threat import geometry_of
from models.base.errors import BundleError, RegistryError, TrainingError
from models.corruptions import random_benign
from models.data import DataSet, Rows
from models.data.window import Window
from models.evaluation.subject import Subject
from models.evaluation.suite import evaluate
from models.nets import export, factories
from models.training import distributed
from models.training.loop import Progress, Recipe, TrainResult, train
from models.versions.bundle import MODEL, REFERENCE, WEIGHTS, Bundle
from models.versions.facts import BenignFacts, DataFacts, EventFacts, TrainingFacts, WrappingFacts
from models.versions.figures import Evaluation, summary
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import Manifest
from monitoring.scoring.instrument import Instrumented, instrument, run_graph
from monitoring.scoring.material import Victim, flops, head_material
from monitoring.scoring.perturbation.benign import Benign

__all__ = [
    "Order",
    "Window",
    "WrapOrder",
    "make_version",
    "open_subject",
    "rebuild",
    "wrap_version",
]

THREAT = ThreatModel(eps=0.15)  # where the order names none
PARITY_ROWS = 2000
JUDGED_ROWS = (250, 1000)  # of a large test set, least and most: `holdfast evaluate` takes all
JUDGED_FLOPS = 5e13  # of a judgement, which costs about 2000 forward passes a row
JUDGED_PASSES = 2000
Judging = Callable[[int, int, str], None]  # progress of an evaluation: done, total, what


@dataclass(frozen=True)
class Order:
    """What to make and why. `threat` is what the version is judged by and the heads learn."""

    model: str
    recipe: Recipe
    net: factories.NetSpec
    event: EventFacts
    actor: str
    parent: Bundle | None = None  # its weights are the start
    window: Window | None = None
    shuffle_labels: bool = False  # for tests of the gates: a challenger that must be refused
    threat: ThreatModel = THREAT
    benign: Benign | None = None  # the user's own examples of what is no attack


@dataclass(frozen=True)
class WrapOrder:
    """What to make of a graph that exists: `origin` says where it comes from."""

    model: str
    event: EventFacts
    actor: str
    threat: ThreatModel
    origin: WrappingFacts
    seed: int = 0
    benign: Benign | None = None


def make_version(
    registry: Registry,
    data: DataSet,
    order: Order,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> int:
    """Train and publish a version; returns its number. At most one version per event.

    Args:
        registry: where it is published, whole or not at all.
        data: what it is trained, calibrated and judged on.
        order: what to make.
        progress: told of the training.
        checkpoint: file that a killed run is taken up from; removed once there is a version.

    Raises:
        TrainingError: training or export failed.
        DataError: too few rows, or a threat that does not fit the input.
        RegistryError: the version cannot be written.
    """
    made_before = registry.published_for(order.model, order.event.id)
    if made_before is not None:
        return made_before
    geometry_of(order.threat, data.schema)  # a threat that does not fit is told before the training
    torch.set_num_threads(1)
    torch.manual_seed(order.recipe.seed)
    rows = _training_rows(data, order)
    trained = train(
        _start(order), rows, data.schema, order.recipe, progress=progress, checkpoint=checkpoint
    )
    plain = export.to_onnx(trained.net, data.schema)
    seen = data.test.x[:PARITY_ROWS]
    difference = export.parity(trained.net, plain, data.schema, seen)
    if not difference <= export.TOLERANCE:  # NaN is no parity either
        raise TrainingError(f"onnxruntime differs from torch by {difference:.2g} in the logits")
    victim = Victim(data.schema, order.threat, trained.net, plain)
    material, source = head_material(
        victim, data, order.window, order.recipe.seed, benign=order.benign
    )
    made = instrument(
        plain, data.schema, data.classes, material, source=source, seed=order.recipe.seed
    )
    training = _training(data, order, rows, trained, difference)
    manifest = _manifest(data, order, made, training)
    window = None if order.window is None else order.window.test
    version = _judge_and_publish(registry, data, order, manifest, made, trained.net, window)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return version


def wrap_version(
    registry: Registry,
    data: DataSet,
    plain: onnx.ModelProto,
    order: WrapOrder,
    *,
    progress: Judging | None = None,
) -> int:
    """Instrument a graph that exists and publish it; returns the version's number.

    Args:
        registry: where it is published, whole or not at all.
        data: what the heads are fitted and calibrated on, and the graph is judged on.
        plain: takes raw rows of `data.schema`, gives `logits (N, C)` and maybe `features (N, F)`.
        order: what to make.
        progress: told of the evaluation.

    Raises:
        TrainingError: the graph does not give finite logits of every class.
        DataError: too few rows, or a threat that does not fit the input.
        RegistryError: the version cannot be written.
    """
    made_before = registry.published_for(order.model, order.event.id)
    if made_before is not None:
        return made_before
    geometry_of(order.threat, data.schema)
    torch.set_num_threads(1)
    _check_logits(plain, data)
    victim = Victim(data.schema, order.threat, None, plain)
    material, source = head_material(victim, data, None, order.seed, benign=order.benign)
    made = instrument(plain, data.schema, data.classes, material, source=source, seed=order.seed)
    training = TrainingFacts(
        data=_data_facts(data),
        seed=order.seed,
        rows=0,
        benign=_benign_facts(order),
        wrapped=order.origin,
    )
    manifest = _manifest(data, order, made, training)
    return _judge_and_publish(registry, data, order, manifest, made, None, None, progress)


def rebuild(bundle: Bundle) -> nn.Module:
    """The torch net of a bundle, in eval mode. Raises TrainingError for a wrapped model."""
    if WEIGHTS not in bundle.manifest.files:
        raise TrainingError(f"{bundle.name} is a wrapped model: it has no weights to work with")
    training = bundle.manifest.training
    if training is None or training.net is None:
        raise TrainingError(f"{bundle.name}: its manifest does not say what its net is")
    spec = msgspec.convert(training.net, factories.NetSpec)
    return export.load_weights(factories.build(spec), bundle.read(WEIGHTS))


def open_subject(bundle: Bundle) -> Subject:
    """The served graph and the torch net of a bundle (None: wrapped), on one thread."""
    torch.set_num_threads(1)
    net = rebuild(bundle) if WEIGHTS in bundle.manifest.files else None
    return Subject(Runner(bundle), net)


def _start(order: Order) -> nn.Module:
    return factories.build(order.net) if order.parent is None else rebuild(order.parent)


def _training_rows(data: DataSet, order: Order) -> Rows:
    """The data set's training rows, corrupted copies, and the window's rows repeated.

    The window is repeated (five times at most) to about a third of the whole.
    """
    rows, rng = data.train, np.random.default_rng(order.recipe.seed)
    for _ in range(order.recipe.corrupted_copies):
        rows = rows.joined(Rows(random_benign(data.schema, data.train.x, rng), data.train.y))
    if order.window is not None and len(order.window.train):
        repeats = max(1, min(5, len(rows) // (2 * len(order.window.train))))
        for _ in range(repeats):
            rows = rows.joined(order.window.train)
    if order.shuffle_labels:
        rows = Rows(rows.x, rng.permutation(rows.y))
    return rows


def _check_logits(plain: onnx.ModelProto, data: DataSet) -> None:
    """A wrapped graph must answer the data's own rows."""
    (logits,) = run_graph(plain, data.schema, data.test.x[:PARITY_ROWS], "logits")
    rows = len(data.test.x[:PARITY_ROWS])
    if logits.shape != (rows, len(data.classes)):
        raise TrainingError(
            f"the graph gives logits of shape {list(logits.shape)} for {rows} rows of {data.name}, "
            f"which has {len(data.classes)} classes: give the data that the model was made for"
        )
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise TrainingError(
            f"the graph gives no finite logits for row {int(np.argmin(finite))} of the test rows "
            f"of {data.name} ({int((~finite).sum())} of {rows}): leave such rows out, or mend it"
        )


def _data_facts(data: DataSet) -> DataFacts:
    """What is needed to load the same data again, and to see that it is the same."""
    return DataFacts(data.name, data.fingerprint, msgspec.to_builtins(data.source))


def _benign_facts(order: Order | WrapOrder) -> BenignFacts | None:
    return None if order.benign is None else order.benign.facts


def _training(
    data: DataSet, order: Order, rows: Rows, trained: TrainResult, parity: float
) -> TrainingFacts:
    return TrainingFacts(
        data=_data_facts(data),
        seed=order.recipe.seed,
        rows=len(rows),
        recipe=msgspec.to_builtins(order.recipe),
        net=msgspec.to_builtins(order.net),
        window_rows=0 if order.window is None else len(order.window.train),
        steps=trained.steps,
        cpu_seconds=round(trained.cpu_seconds, 2),
        precision=trained.precision,
        parity=parity,
        benign=_benign_facts(order),
    )


def _manifest(
    data: DataSet, order: Order | WrapOrder, made: Instrumented, training: TrainingFacts
) -> Manifest:
    parent = order.parent if isinstance(order, Order) else None
    return msgspec.structs.replace(
        made.manifest(order.model, data.schema, data.classes),  # the registry gives the number
        training=training,
        parent=None if parent is None else parent.manifest.version,
        event=order.event,
    )


def _judge_and_publish(
    registry: Registry,
    data: DataSet,
    order: Order | WrapOrder,
    manifest: Manifest,
    made: Instrumented,
    net: nn.Module | None,
    window: Rows | None,
    progress: Judging | None = None,
) -> int:
    previous_version, previous = _champion_figures(registry, order.model, data)
    figures = evaluate(
        Subject(Runner(made.bundle(manifest)), net),
        data.test,
        threat=order.threat,
        window=window,
        previous=previous,
        previous_version=previous_version,
        limit=_judged_rows(net, data),
        unseen=data.unseen_test,
        groups=data.test_groups,
        progress=progress,
    )
    manifest = msgspec.structs.replace(manifest, evaluation=summary(figures))

    def make(version: int) -> tuple[Mapping[str, bytes], Manifest]:
        numbered = msgspec.structs.replace(manifest, version=version)
        return _files(numbered, figures, made, net), numbered

    if distributed.rank() != 0:
        return int(distributed.share(None))
    try:
        version = registry.publish(
            order.model,
            make,
            actor=order.actor,
            reason=order.event.reason,
            event=order.event.id,
        )
    except OSError as error:
        raise RegistryError(
            f"the version cannot be written to {registry.root}: {error.strerror or error}; "
            "nothing was published; see to space and permissions there and start again"
        ) from error
    return int(distributed.share(version))


def _judged_rows(net: nn.Module | None, data: DataSet) -> int:
    """How many test rows a new version is judged on: fewer for a large net."""
    least, most = JUDGED_ROWS
    if net is None:
        return most
    return max(least, min(most, int(JUDGED_FLOPS / (JUDGED_PASSES * flops(net, data.schema)))))


def _champion_figures(
    registry: Registry, model: str, data: DataSet
) -> tuple[int | None, Evaluation | None]:
    """Number and figures of the champion, where they can be compared with the new version's."""
    champion = registry.aliases(model).champion if registry.versions(model) else None
    if champion is None:
        return None, None
    try:
        manifest = registry.manifest(model, champion)
    except BundleError:  # a damaged champion is one more reason for a new version
        return None, None
    same = (manifest.input, manifest.classes) == (data.schema, data.classes)
    comparable = same and manifest.evaluation is not None
    return (champion, manifest.evaluation) if comparable else (None, None)


def _files(
    manifest: Manifest, figures: Evaluation, made: Instrumented, net: nn.Module | None
) -> dict[str, bytes]:
    reference = io.BytesIO()
    np.savez(reference, allow_pickle=False, **{k: np.asarray(v) for k, v in made.reference.items()})
    files = {
        MODEL: made.model.SerializeToString(),
        REFERENCE: reference.getvalue(),
        "report.json": msgspec.json.format(msgspec.json.encode(figures), indent=1),
        "report.html": reporting.render(manifest, figures).encode(),
        "card.md": reporting.card(manifest).encode(),
    }
    return files if net is None else files | {WEIGHTS: export.weights_bytes(net)}
