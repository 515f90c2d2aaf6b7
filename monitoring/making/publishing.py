"""The last step of making a version: judge it beside the champion and publish it, whole or not."""

import io
from collections.abc import Mapping

import msgspec
import numpy as np
import torch
from torch import nn

from models import reporting
from models.base.errors import BundleError, RegistryError
from models.data import DataSet, Rows
from models.data.lineage import FILE as LINEAGE
from models.data.lineage import NO_LINEAGE, Lineage
from models.evaluation.subject import Subject
from models.evaluation.suite import evaluate
from models.nets import export
from models.training import distributed
from models.training.precision import choose_device
from models.versions.bundle import MODEL, REFERENCE, WEIGHTS
from models.versions.examples import EXAMPLES, choose_examples, encode_examples
from models.versions.figures import Evaluation, summary
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import Manifest
from monitoring.making.orders import Order, WrapOrder
from monitoring.making.progress import StageProgress
from monitoring.scoring.instrument import Instrumented
from monitoring.scoring.material import flops

JUDGED_ROWS = (250, 1000)  # of a large test set, least and most: `holdfast evaluate` takes all
JUDGED_FLOPS = 5e13  # of a judgement, which costs about 2000 forward passes a row
JUDGED_PASSES = 2000


def judge_and_publish(
    registry: Registry,
    data: DataSet,
    order: Order | WrapOrder,
    manifest: Manifest,
    made: Instrumented,
    net: nn.Module | None,
    window: Rows | None,
    progress: StageProgress | None = None,
    lineage: Lineage = NO_LINEAGE,
) -> int:
    """Judge an instrumented graph, put the figures into its files, and publish it.

    Args:
        registry: where it is published, whole or not at all.
        data: it is judged on the test part.
        order: why it was made, and the threat that it is judged by.
        manifest: all but the number and the evaluation.
        made: the graph and what goes beside it.
        net: the trained net; None for a wrapped graph, which is attacked by queries.
        window: held-out labelled rows of live traffic.
        progress: called with each unit of the evaluation.
        lineage: what the version keeps of live traffic.

    Returns:
        The version's number, in every process under `torchrun`; process 0 writes.

    Raises:
        RegistryError: the version cannot be written.
    """
    previous_version, previous = _champion_figures(registry, order.model, data)
    figures = evaluate(
        Subject(Runner(made.bundle(manifest)), net).on(_device_of(order)),
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
        files = _files(numbered, figures, made, net, lineage)
        return files | (_examples(data) if order.examples else {}), numbered

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


def _device_of(order: Order | WrapOrder) -> torch.device:
    """Where the net is attacked; a wrapped graph is asked on the CPU."""
    return choose_device(order.device if isinstance(order, Order) else "cpu")


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


def _examples(data: DataSet) -> dict[str, bytes]:
    """Some rows of the test part, for people to try the version with."""
    places = choose_examples(data.test.x, data.test.y, len(data.classes))
    rows = data.test.take(places)
    return {EXAMPLES: encode_examples(rows.x, rows.y)}


def _files(
    manifest: Manifest,
    figures: Evaluation,
    made: Instrumented,
    net: nn.Module | None,
    lineage: Lineage,
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
    if lineage.live or lineage.labels:
        files[LINEAGE] = lineage.encode()
    return files if net is None else files | {WEIGHTS: export.weights_bytes(net)}
