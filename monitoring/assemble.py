"""A model version from data: train, export, instrument, evaluate, publish.

Runs where torch is: the command line's `train` and the lifecycle's child processes.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from models import corruptions, evaluate, export, nets, report
from models.bundle import MODEL, REFERENCE, WEIGHTS, Bundle
from models.data import DataSet, Rows, hash_shares
from models.errors import TrainingError
from models.registry import Registry, utc_now
from models.runner import Runner
from models.schema import SCHEMA_VERSION, Calibration, InputArray, Manifest
from models.train import Progress, Recipe, TrainResult, train
from monitoring.instrument import Instrumented, Material, instrument

ATTACK_SIZES = (0.05, 0.1, 0.15, 0.2, 0.3)
FIT_ROWS = 1500
WINDOW_SHARES = (0.5, 0.25)  # train, calibration; the rest tests
WINDOW_REFERENCE = 40  # held-out window rows from which the stream is compared with the window


@dataclass(frozen=True)
class Window:
    """Labelled traffic, distinct rows only, split by hash; nothing held out elsewhere is in it."""

    train: Rows
    calibration: Rows
    test: Rows

    @classmethod
    def of(cls, rows: Rows, data: DataSet) -> "Window":
        """Split `rows`, dropping repeats (the last label wins) and the data set's own rows."""
        shares = hash_shares(rows.x)
        _, last = np.unique(shares[::-1], return_index=True)
        keep = np.sort(len(shares) - 1 - last)
        own = np.concatenate([hash_shares(p.x) for p in (data.train, data.calibration, data.test)])
        keep = keep[~np.isin(shares[keep], own)]
        rows, shares = rows.take(keep), shares[keep]
        first, second = WINDOW_SHARES[0], sum(WINDOW_SHARES)
        return cls(
            rows.take(shares < first),
            rows.take((shares >= first) & (shares < second)),
            rows.take(shares >= second),
        )


@dataclass(frozen=True)
class Order:
    """What to make and why."""

    model: str
    recipe: Recipe
    net: nets.NetSpec
    event: dict[str, Any]  # at least "id" and "reason"
    actor: str
    parent: Bundle | None = None  # its weights are the start
    window: Window | None = None
    shuffle_labels: bool = False  # for tests of the gates: a challenger that must be refused


def make_version(
    registry: Registry, data: DataSet, order: Order, *, progress: Progress | None = None
) -> int:
    """Train and publish a version; returns its number. At most one version per `event["id"]`."""
    made_before = registry.published_for(order.model, str(order.event["id"]))
    if made_before is not None:
        return made_before
    torch.set_num_threads(1)
    torch.manual_seed(order.recipe.seed)
    rows = _training_rows(data, order)
    trained = train(_start(order), rows, data.schema, order.recipe, progress=progress)
    plain = export.to_onnx(trained.net, data.schema)
    difference = export.parity(trained.net, plain, data.schema, data.test.x)
    if not difference <= export.TOLERANCE:  # NaN is no parity either
        raise TrainingError(f"onnxruntime differs from torch by {difference:.2g} in the logits")
    material, source = _material(trained.net, data, order)
    made = instrument(
        plain, data.schema, data.classes, material, source=source, seed=order.recipe.seed
    )

    manifest = _manifest(data, order, rows, trained, made, difference)
    unpublished = Bundle(Path(MODEL), manifest, made.reference, made.model.SerializeToString())
    subject = evaluate.Subject(Runner(unpublished), trained.net)
    window = None if order.window is None else order.window.test
    figures = evaluate.evaluate(subject, data.test, window=window)
    manifest = msgspec.structs.replace(manifest, evaluation=figures)

    def make(version: int) -> tuple[Mapping[str, bytes], Manifest]:
        numbered = msgspec.structs.replace(manifest, version=version)
        return _files(numbered, made, trained.net), numbered

    return registry.publish(
        order.model,
        make,
        actor=order.actor,
        reason=str(order.event["reason"]),
        event=str(order.event["id"]),
    )


def rebuild(bundle: Bundle) -> nn.Module:
    """The torch net of a bundle, in eval mode."""
    spec = msgspec.convert(bundle.manifest.training["net"], nets.NetSpec)
    return export.load_weights(nets.build(spec), bundle.read(WEIGHTS))


def open_subject(bundle: Bundle) -> evaluate.Subject:
    """The served graph and the torch net of a bundle, for evaluation on one thread."""
    torch.set_num_threads(1)
    return evaluate.Subject(Runner(bundle), rebuild(bundle))


def _start(order: Order) -> nn.Module:
    return nets.build(order.net) if order.parent is None else rebuild(order.parent)


def _training_rows(data: DataSet, order: Order) -> Rows:
    """The data set's training rows, corrupted copies, and the window's rows repeated.

    The window is repeated (five times at most) to about a third of the whole.
    """
    rows, rng = data.train, np.random.default_rng(order.recipe.seed)
    for _ in range(order.recipe.corrupted_copies):
        rows = rows.joined(Rows(_corrupted(data, data.train.x, rng), data.train.y))
    if order.window is not None and len(order.window.train):
        repeats = max(1, min(5, len(rows) // (2 * len(order.window.train))))
        for _ in range(repeats):
            rows = rows.joined(order.window.train)
    if order.shuffle_labels:
        rows = Rows(rows.x, rng.permutation(rows.y))
    return rows


def _material(net: nn.Module, data: DataSet, order: Order) -> tuple[Material, str]:
    """Rows for the heads: half of the training rows as references, the other half to fit on."""
    training, held, stream = data.train, data.calibration, data.calibration
    source = f"{len(held)} rows of {data.name} that were not trained on"
    if (window := order.window) is not None:
        training, held = training.joined(window.train), held.joined(window.calibration)
        source += f", {len(window.calibration)} of the labelled traffic"
        if len(window.calibration) >= WINDOW_REFERENCE:
            stream = window.calibration
            source += " (which the stream is compared with)"
    rng = np.random.default_rng(order.recipe.seed)
    shuffled = training.take(rng.permutation(len(training)))
    half = len(shuffled) // 2
    fit = shuffled.take(np.arange(half, min(len(shuffled), half + FIT_ROWS)))
    material = Material(
        references=shuffled.x[:half],
        fit_clean=fit.x,
        fit_corrupted=_benign(data, fit.x, rng),
        fit_adversarial=_adversarial(net, data, fit),
        held_clean=held.x,
        held_corrupted=_benign(data, held.x, rng),
        held_adversarial=_adversarial(net, data, held),
        reference=stream.x,
    )
    return material, source


def _corrupted(data: DataSet, x: InputArray, rng: np.random.Generator) -> InputArray:
    """Raw rows `(N, ...)`, each with one random benign corruption."""
    return data.schema.from_unit(corruptions.random_corruptions(data.schema.to_unit(x), rng))


def _benign(data: DataSet, x: InputArray, rng: np.random.Generator) -> InputArray:
    """As many corrupted copies of the rows as there are kinds of corruption."""
    return np.concatenate([_corrupted(data, x, rng) for _ in corruptions.CORRUPTIONS])


def _adversarial(net: nn.Module, data: DataSet, rows: Rows) -> InputArray:
    """FGSM and PGD-10 on every row at five sizes."""
    parts = [
        evaluate.attacked_rows(net, data.schema, rows, eps, attack=attack, steps=10)
        for eps in ATTACK_SIZES
        for attack in ("fgsm", "pgd")
    ]
    return np.concatenate(parts)


def _manifest(
    data: DataSet,
    order: Order,
    rows: Rows,
    trained: TrainResult,
    made: Instrumented,
    difference: float,
) -> Manifest:
    calibration: Calibration = made.calibration
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=order.model,
        version=0,  # the registry gives the number
        created_at=utc_now(),
        input=data.schema,
        classes=data.classes,
        channels=made.channels,
        calibration=calibration,
        training={
            "recipe": msgspec.to_builtins(order.recipe),
            "net": msgspec.to_builtins(order.net),
            "seed": order.recipe.seed,
            "data": {"name": data.name, "fingerprint": data.fingerprint},
            "rows": len(rows),
            "window_rows": 0 if order.window is None else len(order.window.train),
            "cpu_seconds": round(trained.cpu_seconds, 2),
            "steps": trained.steps,
            "parity": difference,
        },
        evaluation={},
        parent=None if order.parent is None else order.parent.manifest.version,
        event=order.event,
        files={},
    )


def _files(manifest: Manifest, made: Instrumented, net: nn.Module) -> dict[str, bytes]:
    reference = io.BytesIO()
    np.savez(reference, allow_pickle=False, **{k: np.asarray(v) for k, v in made.reference.items()})
    evaluation = msgspec.json.format(msgspec.json.encode(manifest.evaluation), indent=1)
    return {
        MODEL: made.model.SerializeToString(),
        REFERENCE: reference.getvalue(),
        WEIGHTS: export.weights_bytes(net),
        "report.json": evaluation,
        "card.md": report.card(manifest).encode(),
    }
