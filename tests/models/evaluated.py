"""Subjects for the tests of the evaluation: real ones, made in a second or two each."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from models.attacks.threat import geometry_of
from models.corruptions import random_benign
from models.data import DataSet, Rows
from models.evaluation.adversarial import attack_net
from models.evaluation.subject import Subject
from models.nets import export, factories
from models.training.loop import Recipe, train
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import InputArray
from monitoring.scoring.instrument import Material, instrument
from tests import bundles
from tests.service import tables


def black_box(root: Path) -> Subject:
    """A wrapped graph for the digits: nothing but answers."""
    bundles.publish(root)
    return Subject(Runner(Registry(root).open("digits")))


@cache
def white_box(name: str) -> Subject:
    """A torch net and its graph: for `cancer`, `wine` (tables) or `colours` (bytes)."""
    data: DataSet = getattr(tables, name)()
    spec = factories.spec_for(data.schema, len(data.classes), "auto")
    if name == "colours":
        spec = factories.spec_for(data.schema, len(data.classes), "small_conv")
    torch.manual_seed(0)
    net = factories.build(spec)
    recipe = Recipe(method="standard", epochs=4 if name == "colours" else 40, precision="fp32")
    net = train(net, data.train, data.schema, recipe).net
    plain = export.to_onnx(net, data.schema)
    made = instrument(plain, data.schema, data.classes, _material(data, net), source="tests")
    manifest = made.manifest(name, data.schema, data.classes, version=1)
    bundle = made.bundle(manifest)
    return Subject(Runner(bundle), net)


def _material(data: DataSet, net: torch.nn.Module) -> Material:
    rng, fit, held = np.random.default_rng(0), data.train, data.calibration
    threat = geometry_of(ThreatModel(eps=0.1), data.schema)

    def benign(x: InputArray) -> InputArray:
        return np.concatenate([random_benign(data.schema, x, rng) for _ in range(3)])

    def attack(rows: Rows) -> InputArray:
        return attack_net(net, data.schema, rows, threat, attack="pgd", budget=5)

    return Material(
        references=fit.x,
        fit_clean=fit.x,
        fit_corrupted=benign(fit.x),
        fit_adversarial=attack(fit),
        held_clean=held.x,
        held_corrupted=benign(held.x),
        held_adversarial=attack(held),
        reference=held.x,
    )
