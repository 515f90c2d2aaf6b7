"""What pixels and patches reach against an attacker's full knowledge of the scores.

    python -m benchmarks.adaptive_sparse [DATA] --load FILE [--rows 60]

Fits the heads on the net and searches, for every right test row, few pixels (greedily) and a patch
(by ascent from random starts), first for a wrong answer alone, then for min(margin, -excess) > 0:
wrong and unseen, the excess being the log-odds of the score over its threshold in the served
graph. Judged by the served graph.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import attacks, data
from models.attacks.base import margin
from models.attacks.onnx.interpreter import DifferentiableGraph
from models.attacks.sparse.pixels import SIDE, scaled_count
from models.base.allocation import keep_freed_memory
from models.evaluation.subject import answer
from models.nets import export, factories
from models.training.presets import preset
from models.versions.runner import Runner
from monitoring.counting.metrics import Flags
from monitoring.scoring.instrument import instrument
from monitoring.scoring.material import Victim, head_material

Scores = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]
WAYS = ("1 pixel", "3 pixels", "5 pixels", "patch of 2", "patch of 3")


def scores_of(runner: Runner) -> Scores:
    """Log-probabilities, and the excess of flag and suspicion over their thresholds."""
    names = ("probabilities", "perturbation_likelihood", "suspicion")
    graph = DifferentiableGraph(runner.bundle.model_bytes, names)
    schema, facts = runner.manifest.input, runner.manifest.calibration
    assert facts.suspicion_threshold is not None
    limits = {"flagged": facts.perturbation_threshold, "suspicious": facts.suspicion_threshold}
    span, offset = torch.from_numpy(schema.span), torch.from_numpy(schema.offset)

    def ask(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        told = graph(x * span + offset)
        seen = dict(zip(limits, (told[name] for name in names[1:]), strict=True))
        excess = {
            name: value.clamp(1e-6, 1 - 1e-6).logit() - math.log(limits[name] / (1 - limits[name]))
            for name, value in seen.items()
        }
        return told["probabilities"].clamp_min(1e-30).log(), excess

    return ask


def search(way: str, ask: Scores, x: Tensor, label: int, aim: str | None, seed: int) -> Tensor:
    """Rows of one label under a way to attack, aimed past a score or at a wrong answer alone."""

    def aimed(rows: Tensor) -> Tensor:
        logits, excess = ask(rows)
        value = margin(logits, torch.full((len(rows),), label))
        if aim is not None:
            value = torch.minimum(value, -excess[aim])
        return torch.stack([torch.zeros_like(value), value], dim=1)

    nobody, number = (
        torch.zeros(len(x), dtype=torch.int64),
        int(way.split()[-1 if "of" in way else 0]),
    )
    generator = torch.Generator().manual_seed(seed)
    if "pixel" in way:
        return attacks.pixels(aimed, x, nobody, count=scaled_count(number, *x.shape[2:]))
    side = max(1, round(number * min(x.shape[2:]) / SIDE))
    return attacks.patch(aimed, x, nobody, side=side, steps=40, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--load", type=Path, required=True, help="weights of the preset's net")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = data.load(asked.data)
    threat = preset(rows.schema, len(rows.train)).threat
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes)))
    net = export.load_weights(net, asked.load.read_bytes()).eval()
    plain = export.to_onnx(net, rows.schema)
    victim = Victim(rows.schema, threat, net, plain)
    material, source = head_material(victim, rows, None, asked.seed)
    made = instrument(plain, rows.schema, rows.classes, material, source=source, seed=asked.seed)
    runner = Runner(made.bundle(made.manifest(rows.name, rows.schema, rows.classes, version=1)))
    ask, test = scores_of(runner), rows.test.take(np.arange(min(asked.rows, len(rows.test))))
    right = answer(runner, test.x).probabilities.argmax(axis=1) == test.y
    test = test.take(np.flatnonzero(right))
    print(f"{rows.name}, {len(test)} right rows\n\n| attack | aimed past | wrong | and not flagged "
          "| and not suspicious |\n|---|---|---|---|---|")  # fmt: skip
    for way in WAYS:
        for aim in (None, "flagged", "suspicious"):
            wrong, unflagged, unseen = judge(runner, ask, test.x, test.y, way, aim, asked.seed)
            told = " | ".join(f"{share:.1%}" for share in (wrong, unflagged, unseen))
            print(f"| {way} | {aim or '-'} | {told} |", flush=True)


def judge(
    runner: Runner,
    ask: Scores,
    x_raw: np.ndarray,
    y: np.ndarray,
    way: str,
    aim: str | None,
    seed: int,
) -> tuple[float, float, float]:
    """Shares of the rows that are wrong; wrong and not flagged; wrong and not suspicious."""
    schema, shares = runner.manifest.input, []
    for label in np.unique(y):
        own = torch.from_numpy(schema.to_unit(x_raw[y == label]))
        found = search(way, ask, own, int(label), aim, seed)
        told = answer(runner, schema.from_unit(found.numpy()))
        wrong = told.probabilities.argmax(axis=1) != label
        flags = Flags.of(told, runner.manifest)
        shares.append(np.stack([wrong, wrong & ~flags.perturbation, wrong & ~flags.suspicious]))
    a, b, c = np.concatenate(shares, axis=1).mean(axis=1).tolist()
    return a, b, c


if __name__ == "__main__":
    main()
