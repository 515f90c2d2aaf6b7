"""Small boxes beside whole ones: accuracy, attacks, proofs and CPU, on a small net of digits.

    python -m benchmarks.certified_frontier [--epochs 100] [--seed 0] [--out FILE]

SABR (Mueller et al. 2023, "Certified Training: Small Boxes are All You Need") looks for a bad point
with PGD and bounds the loss over a small box around it, inside the whole one. A share of 1 is plain
interval training. What is proven here is proven by interval bounds, as the served graph does it;
published figures of SABR rest on complete verifiers, which take seconds to minutes for a row.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.certified import judge
from models import data
from models.attacks.base import frozen
from models.nets import factories
from models.training.adversary import Adversary, forward, resize_threat
from models.training.certified import certified, start_certified
from models.training.loop import train
from models.training.methods import METHODS, Method
from models.training.presets import preset
from models.training.recipe import Method as MethodName

SHARES = (1.0, 0.7, 0.4, 0.1)  # of the whole box
STEPS = 4  # of PGD


def small_boxes(share: float) -> Method:
    """The loss of certified training over boxes of a share of the size, around points of PGD."""

    def loss(net: nn.Module, x: Tensor, y: Tensor, adversary: Adversary, beta: float) -> Tensor:
        whole = adversary.threat
        around = dataclasses.replace(adversary, threat=resize_threat(whole, 1 - share))
        small = dataclasses.replace(adversary, threat=resize_threat(whole, share))
        with frozen(net):
            with torch.no_grad():
                target = F.one_hot(y, forward(net, x[:1]).shape[1]).to(x.dtype)
            x_adv = around.climb(net, around.noise(x), x, target) if share < 1 else x
        return certified(net, x_adv.detach(), y, small, beta)

    return loss


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200, help="of the square attack")
    parser.add_argument("--out", type=Path, default=Path("frontier.jsonl"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = data.load("digits")
    chosen = preset(rows.schema, len(rows.train), method="certified")
    spec = factories.spec_for(rows.schema, len(rows.classes), widths=[16, 32], hidden=64)
    for share in SHARES:
        name = f"boxes-{share:g}"
        METHODS[name] = small_boxes(share)
        recipe = msgspec.structs.replace(
            chosen.recipe, method=cast("MethodName", name), epochs=options.epochs,
            attack_steps=STEPS, seed=options.seed,
        )  # fmt: skip
        torch.manual_seed(options.seed)
        net = factories.build(spec)
        start_certified(net, torch.Generator().manual_seed(options.seed))
        result = train(net, rows.train, rows.schema, recipe)
        line = {"share": share, "cpu_seconds": round(result.cpu_seconds, 1)}
        line |= judge(result.net, rows, chosen.threat.eps, options.queries)
        with options.out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
