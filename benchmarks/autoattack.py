"""Own AutoAttack cascade against the reference: verdicts row by row, and CPU time.

    python -m benchmarks.autoattack [--rows N] [--mnist N] [--eps E] [--norm l2] [--full]
                                    [--runs N] [--net FILE] [--json FILE]

Trains a small net on scikit-learn's digits by TRADES (--mnist N: on 12,000 images of MNIST from
../shared/data, judged on N test images), then runs the own cascade (APGD-CE, APGD-T, square) and
pyautoattack with the same three, one after the other in this process; --full: its standard suite,
with FAB-T, too. Both on frozen weights, float32, one thread. --net keeps the trained weights.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from models import attacks, data
from models.attacks.threat import Threat, geometry_of
from models.nets import factories
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.judging import ThreatModel

MNIST = (Path(__file__).parents[1] / "../shared/data/mnist").resolve()
DIGITS_RECIPE = Recipe(epochs=50)
MNIST_RECIPE = Recipe(
    eps=0.3, beta=4.0, epochs=4, batch_size=128, attack_steps=5, eps_warm_up=0.4, ema=0.98
)
MNIST_ROWS = 12_000
SAME = ("apgd-ce", "apgd-t", "square")


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Result and CPU seconds."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def trained(rows: data.DataSet, count: int | None, recipe: Recipe, kept: Path | None) -> nn.Module:
    """The net, from `kept` where it is there."""
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), "small_conv"))
    if kept is not None and kept.exists():
        net.load_state_dict(torch.load(kept, weights_only=True))
        return net
    part = rows.train.take(slice(0, count))  # type: ignore[arg-type]
    result = train(net, part, rows.schema, recipe)
    print(f"trained in {result.cpu_seconds:.0f} CPU-seconds")
    if kept is not None:
        torch.save(result.net.state_dict(), kept)
    return result.net


def compare(
    net: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, seed: int, full: bool
) -> dict[str, Any]:
    """Verdicts and CPU seconds of the own cascade and of the reference, in this order."""

    def own() -> Tensor:
        with attacks.frozen(net):
            return attacks.cascade(attacks.logits_only(net), x, y, threat, seed=seed).survived

    def reference(names: tuple[str, ...] | None) -> Tensor:
        return attacks.reference_autoattack(net, x, y, threat, attacks=names, seed=seed)

    ours, seconds = timed(own)
    result: dict[str, Any] = {
        "rows": len(y),
        "seed": seed,
        "own": {"right": int(ours.sum()), "cpu_seconds": round(seconds, 1)},
    }
    for name, names in (("reference", SAME), *([("reference_full", None)] if full else [])):
        theirs, theirs_seconds = timed(lambda names=names: reference(names))  # type: ignore[misc]
        result[name] = {
            "right": int(theirs.sum()),
            "cpu_seconds": round(theirs_seconds, 1),
            "right_by_own_only": int((ours & ~theirs).sum()),
            "right_by_reference_only": int((theirs & ~ours).sum()),
            "cpu_ratio": round(seconds / theirs_seconds, 3),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200, help="test images of the digits")
    parser.add_argument("--mnist", type=int, default=0, metavar="N", help="N images of MNIST")
    parser.add_argument("--eps", type=float, default=None, help="default: .2, MNIST .3")
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf")
    parser.add_argument("--full", action="store_true", help="the standard suite, with FAB-T, too")
    parser.add_argument("--runs", type=int, default=1, help="repeat with other seeds")
    parser.add_argument("--net", type=Path, default=None, help="keep the trained weights here")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if options.mnist and not MNIST.is_dir():
        raise SystemExit("no MNIST beside the checkout (../shared/data/mnist)")
    torch.set_num_threads(1)
    rows = data.load(str(MNIST) if options.mnist else "digits")
    recipe, count = (MNIST_RECIPE, MNIST_ROWS) if options.mnist else (DIGITS_RECIPE, None)
    net = trained(rows, count, recipe, options.net).eval()
    test = rows.test.take(slice(0, options.mnist or options.rows))  # type: ignore[arg-type]
    x, y = torch.from_numpy(rows.schema.to_unit(test.x)), torch.from_numpy(test.y)
    eps = options.eps if options.eps is not None else 0.3 if options.mnist else 0.2
    threat = geometry_of(ThreatModel(options.norm, eps), rows.schema)
    results = []
    for seed in range(options.runs):
        results.append(compare(net, x, y, threat, seed=seed, full=options.full))
        print(json.dumps(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
