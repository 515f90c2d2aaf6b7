"""Small boxes beside whole ones: accuracy, attacks, proofs and CPU, on a small net of digits.

    python -m benchmarks.certified_frontier [--epochs 100] [--seed 0] [--out FILE]
    python -m benchmarks.certified_frontier --draw docs/pictures/frontier.svg [--out FILE]

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
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.certified import judge
from models import data
from models.attacks.base import frozen
from models.nets import factories
from models.reporting.drawing import charts
from models.reporting.drawing.charts import Axis, Series
from models.training.adversary import Adversary, forward, resize_threat
from models.training.certified import certified, start_certified
from models.training.loop import train
from models.training.methods import METHODS, Method
from models.training.presets import preset
from models.training.recipe import Method as MethodName

SHARES = (1.0, 0.7, 0.4, 0.1)  # of the whole box
STEPS = 4  # of PGD
STYLE = """
svg{font:11px sans-serif;background:#fff} text{fill:#444} .grid{stroke:#ddd} .axis{stroke:#888}
.line{fill:none;stroke-width:2} .k0{stroke:#1b6ca8} .k1{stroke:#b3541e} .k2{stroke:#2f7d4f}
.k3{stroke:#7a4b9d} .dot.k0{fill:#1b6ca8} .dot.k1{fill:#b3541e} .dot.k2{fill:#2f7d4f}
.dot.k3{fill:#7a4b9d} .line.k1{stroke-dasharray:7 4} .line.k2{stroke-dasharray:2 4}
.line.k3{stroke-dasharray:9 3 2 3}
"""


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


def draw(lines: Sequence[dict[str, Any]]) -> str:
    """The measured lines as a figure that stands alone: shares of rows over the size of boxes."""
    seen = sorted(lines, key=lambda line: line["share"])
    values = {
        "clean": [line["clean"] for line in seen],
        "right under attack": [line["attacked"] for line in seen],
        "proven at .1": [line["proven"]["0.1"] for line in seen],
        "proven at .15": [line["proven"]["0.15"] for line in seen],
    }
    series = [
        Series(
            name,
            tuple((line["share"], v, None, None) for line, v in zip(seen, own, strict=True)),
            f"k{place}",
            place,
        )
        for place, (name, own) in enumerate(values.items())
    ]
    about = "Small boxes keep clean accuracy and lose what interval bounds can prove."
    chart = charts.lines(
        "frontier", "Small boxes beside whole ones", about, series,
        Axis(0, 1, "size of the box in training, as a share of .15"), y_label="test rows",
    )  # fmt: skip
    inside = str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return inside.replace("<title", f"<style>{STYLE}</style><title", 1) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200, help="of the square attack")
    parser.add_argument("--out", type=Path, default=Path("frontier.jsonl"))
    parser.add_argument("--draw", type=Path, help="draw what --out holds, and train nothing")
    options = parser.parse_args(arguments)
    if options.draw is not None:
        options.draw.write_text(draw([*map(json.loads, options.out.read_text().splitlines())]))
        return
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
