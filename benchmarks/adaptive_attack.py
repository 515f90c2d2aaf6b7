"""What an attacker gains who knows the scores: static against adaptive, weight by weight.

    python -m benchmarks.adaptive_attack [DATA] [--load FILE] [--method standard] [--rows 100]

Trains a net (or takes `--load`), fits and calibrates the heads, and attacks the first test rows
that are right at the preset's eps with the static cascade (APGD-CE + APGD-T) and with the adaptive
attack of `models.attacks.gradient.adaptive` on the served graph. Every figure is judged by the
served graph: wrong; wrong and not flagged as perturbed; nor as drift.
"""

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from models import data
from models.attacks.threat import geometry_of
from models.base.allocation import keep_freed_memory
from models.data import DataSet
from models.evaluation.adaptive import adaptive_figures, obstacle, search
from models.evaluation.plan import Plan, make_plan
from models.evaluation.subject import Subject, ask_rows
from models.evaluation.units import BLOCK, Block
from models.nets import export, factories
from models.training.loop import train
from models.training.presets import preset
from models.versions.figures import Adaptive, Fooled
from models.versions.judging import ThreatModel
from models.versions.runner import Runner
from monitoring.scoring.instrument import instrument
from monitoring.scoring.material import Victim, head_material

HEAD = ("attacker", "wrong", "wrong and not flagged", "nor as drift")


def main() -> None:
    asked = _options()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = data.load(asked.data)
    threat = preset(rows.schema, len(rows.train), quick=asked.quick).threat
    if asked.eps is not None:
        threat = msgspec.structs.replace(threat, eps=asked.eps)
    subject = _subject(rows, threat, asked)
    full = make_plan(subject, "full", threat)
    plan = msgspec.structs.replace(
        full,
        adaptive_steps=asked.steps,
        adaptive_restarts=asked.restarts,
        cascade=tuple(
            msgspec.structs.replace(each, budget=asked.static_steps) for each in full.cascade
        ),
    )
    began = time.process_time()
    figures = _measure(subject, rows, plan, asked.rows)
    used = time.process_time() - began
    print(f"{rows.name}, {asked.method}, {threat.norm} {threat.eps:.4g}: {used:.0f} CPU-s")
    print(_table(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--load", type=Path, help="weights of the preset's net")
    parser.add_argument("--method", default="trades", help="of the training; names the table, too")
    parser.add_argument("--quick", action="store_true", help="the quick preset")
    parser.add_argument("--net", default="auto")
    parser.add_argument("--eps", type=float, help="of the attack")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of the adaptive attack")
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--static-steps", type=int, default=50)
    return parser.parse_args()


def _subject(rows: DataSet, threat: ThreatModel, asked: argparse.Namespace) -> Subject:
    """The served graph and its net."""
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), asked.net))
    if asked.load is not None:
        net = export.load_weights(net, asked.load.read_bytes())
    else:
        recipe = preset(rows.schema, len(rows.train), quick=asked.quick).recipe
        recipe = msgspec.structs.replace(recipe, method=asked.method)
        net = train(net, rows.train, rows.schema, recipe).net
    plain = export.to_onnx(net, rows.schema)
    material, source = head_material(Victim(rows.schema, threat, net, plain), rows, None, 0)
    made = instrument(plain, rows.schema, rows.classes, material, source=source)
    manifest = made.manifest(rows.name, rows.schema, rows.classes, version=1)
    bundle = made.bundle(manifest)
    return Subject(Runner(bundle), net)


def _measure(subject: Subject, rows: DataSet, plan: Plan, count: int) -> Adaptive | str:
    """The figures, or why they cannot be measured."""
    if (reason := obstacle(subject)) is not None:
        return reason
    parts = []
    for start in range(0, count, BLOCK):
        index = np.arange(start, min(start + BLOCK, count, len(rows.test)))
        block = Block(rows.test.take(index), index, seed=start)
        right = np.asarray(ask_rows(subject.runner, block.rows)["right"], bool)
        threat = geometry_of(plan.threat, subject.schema)
        parts.append(search(subject, plan, threat, block, right))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    figures = adaptive_figures({"adaptive": columns}, plan)
    assert figures is not None
    return figures


def _table(figures: Adaptive | str) -> str:
    if isinstance(figures, str):
        return f"not measured: {figures}"
    rows: list[tuple[str, Fooled]] = [(f"static: {figures.static.attack}", figures.static)]
    rows += [(f"weight {each.weight}", each) for each in figures.weights]
    rows.append(("adaptive, best per row", figures.adaptive))
    lines = [f"| {' | '.join(HEAD)} |", "|---|---|---|---|"]
    for name, each in rows:
        shares = (each.fooled, each.undetected, each.undetected_by_both)
        cells = (f"{p.value:.1%} ({p.low:.1%} to {p.high:.1%})" for p in shares)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    flat = "not known" if figures.flat is None else f"{figures.flat:.1%}"
    return "\n".join([*lines, f"\nn = {figures.n}; flat: {flat}"])


if __name__ == "__main__":
    main()
