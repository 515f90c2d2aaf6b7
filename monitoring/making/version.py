"""A model version from data: train (or take a graph that exists), instrument, judge, publish.

Runs where torch is: the command line's `train` and `wrap`, and the lifecycle's child processes.
"""

import math
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from models.attacks.threat import geometry_of
from models.base.errors import TrainingError
from models.certificates.layers import chain_of
from models.data import DataSet
from models.data.lineage import Lineage
from models.nets import export, factories
from models.training.certified import start_certified
from models.training.loop import Progress as TrainingProgress
from models.training.loop import TrainResult, train
from models.training.precision import choose_device
from models.training.recipe import Recipe
from models.versions.facts import BenignFacts, DataFacts, LiveFacts, TrainingFacts
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from models.versions.registry import Registry
from models.versions.schema import Manifest
from monitoring.making.opening import rebuild
from monitoring.making.orders import Order, WrapOrder
from monitoring.making.progress import CALIBRATING, Progress, of_stage
from monitoring.making.publishing import judge_and_publish
from monitoring.making.rows import Material, training_rows
from monitoring.scoring.certificates.outputs import Certifying
from monitoring.scoring.instrument import Instrumented, instrument, run_graph
from monitoring.scoring.material import Victim, head_material
from monitoring.scoring.pieces import Pieces

PARITY_ROWS = 2000


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
        progress: called with how far training, calibrating and judging are.
        checkpoint: file that a killed run is taken up from; removed once there is a version.

    Raises:
        TrainingError: training or export failed, or the device is not there.
        DataError: too few rows, or a threat that does not fit the input.
        RegistryError: the version cannot be written.
    """
    made_before = registry.published_for(order.model, order.event.id)
    if made_before is not None:
        return made_before
    geometry_of(order.threat, data.schema)  # a misfit is said before the training
    promise_of(order.recipe, order.threat)
    choose_device(order.device)
    torch.set_num_threads(1)
    torch.manual_seed(order.recipe.seed)
    source, data = data, order.lineage.relabelled(data)
    learnt = training_rows(data, order)
    trained = train(
        _start(order), learnt.rows, data.schema, order.recipe,
        progress=_show_loss(progress), checkpoint=checkpoint, device=order.device,
    )  # fmt: skip
    pieces = Pieces(CALIBRATING, of_stage(progress, "calibrating"))
    pieces.begin("the graph")
    certifying = certifying_of(trained.net, order.recipe, order.threat)
    clip = certifying is not None and data.schema.kind == "image"
    plain = export.to_onnx(trained.net, data.schema, clip=clip)
    seen = data.test.x[:PARITY_ROWS]
    difference = export.parity(trained.net, plain, data.schema, seen)
    if not difference <= export.TOLERANCE:  # NaN is no parity either
        raise TrainingError(f"onnxruntime differs from torch by {difference:.2g} in the logits")
    victim = Victim(data.schema, order.threat, trained.net, plain)
    material, held = head_material(
        victim, data, order.window, order.recipe.seed, benign=order.benign, pieces=pieces
    )
    made = instrument(
        plain, data.schema, data.classes, material,
        source=held, seed=order.recipe.seed, pieces=pieces, certifying=certifying,
    )  # fmt: skip
    training = _training(source, order, learnt, trained, difference)
    manifest = _manifest(data, order, made, training)
    version = judge_and_publish(
        registry, data, order, manifest, made, trained.net,
        None if order.window is None else order.window.test,
        of_stage(progress, "judging"), learnt.lineage,
    )  # fmt: skip
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return version


def wrap_version(
    registry: Registry,
    data: DataSet,
    plain: onnx.ModelProto,
    order: WrapOrder,
    *,
    progress: Progress | None = None,
) -> int:
    """Instrument a graph that exists and publish it; returns the version's number.

    Args:
        registry: where it is published, whole or not at all.
        data: what the heads are fitted and calibrated on, and the graph is judged on.
        plain: takes raw rows of `data.schema`, gives `logits (N, C)` and maybe `features (N, F)`.
        order: what to make.
        progress: called with how far calibrating and judging are.

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
    pieces = Pieces(CALIBRATING, of_stage(progress, "calibrating"))
    pieces.begin("the graph")
    _check_logits(plain, data)
    victim = Victim(data.schema, order.threat, None, plain)
    material, source = head_material(
        victim, data, None, order.seed, benign=order.benign, pieces=pieces
    )
    made = instrument(
        plain, data.schema, data.classes, material, source=source, seed=order.seed, pieces=pieces
    )
    training = TrainingFacts(
        data=_data_facts(data),
        seed=order.seed,
        rows=0,
        benign=_benign_facts(order),
        wrapped=order.origin,
    )
    manifest = _manifest(data, order, made, training)
    judging = of_stage(progress, "judging")
    return judge_and_publish(registry, data, order, manifest, made, None, None, judging)


def _show_loss(progress: Progress | None) -> TrainingProgress | None:
    if progress is None:
        return None

    def report(step: int, steps: int, loss: float) -> None:
        begins = math.isnan(loss)
        words = f"goes on after step {step} of {steps}" if step else f"{steps} steps"
        progress("training", step, steps, words if begins else f"{step}/{steps}, loss {loss:.3f}")

    return report


def _start(order: Order) -> nn.Module:
    """The net to begin with: the parent's weights, or fresh ones."""
    if order.parent is not None:
        return rebuild(order.parent)
    net = factories.build(order.net)
    if order.recipe.method == "certified":
        start_certified(net, torch.Generator().manual_seed(order.recipe.seed))
    return net


def certifying_of(net: nn.Module, recipe: Recipe, threat: ThreatModel) -> Certifying | None:
    """What is proven of the answers of a net; None where it was not trained for it.

    Args:
        net: trained.
        recipe: of its training.
        threat: what the version is judged by, and what certificates are about.

    Raises:
        TrainingError: the net has parts that bounds cannot pass, or the threat allows no change.
    """
    facts = promise_of(recipe, threat)
    return None if facts is None else Certifying(net, chain_of(net), facts)


def promise_of(recipe: Recipe, threat: ThreatModel) -> CertificateFacts | None:
    """Which sizes a version will be certified for; None where its method proves nothing.

    Raises:
        TrainingError: the threat allows no change, so nothing could be proven.
    """
    if recipe.method != "certified":
        return None
    if not threat.eps > 0:
        raise TrainingError(
            f"eps must be above 0 for method certified: certificates are about changes of the size "
            f"that the version is judged by; got {threat.eps:g}"
        )
    sizes = {round(share * threat.eps, 6) for share in recipe.certified_shares}
    radii = tuple(sorted(sizes - {0.0} | {threat.eps}))
    return CertificateFacts(threat.eps, radii, threat.columns)


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


def _live_facts(lineage: Lineage) -> LiveFacts | None:
    rows = {side: len(live.at) for side, live in lineage.live.items()}
    ages = [int(age) for live in lineage.live.values() for age in np.unique(live.age)]
    return LiveFacts(rows.get("train", 0), rows.get("test", 0), len(set(ages))) if rows else None


def _training(
    source: DataSet, order: Order, learnt: Material, trained: TrainResult, parity: float
) -> TrainingFacts:
    return TrainingFacts(
        data=_data_facts(source),
        seed=order.recipe.seed,
        rows=len(learnt.rows),
        recipe=msgspec.to_builtins(order.recipe),
        net=msgspec.to_builtins(order.net),
        window_rows=0 if order.window is None else len(order.window.train),
        steps=trained.steps,
        cpu_seconds=round(trained.cpu_seconds, 2),
        precision=trained.precision,
        device=trained.device,
        parity=parity,
        benign=_benign_facts(order),
        live=_live_facts(learnt.lineage),
        followed=order.followed,
        matched=None if learnt.match is None else learnt.match.facts,
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
