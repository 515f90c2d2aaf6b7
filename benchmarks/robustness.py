"""`python -m benchmarks.robustness DATA [...]`: what a preset reaches, and what it costs.

Trains the preset of the data (bundled or a path) on one thread and attacks the first rows of its
test part with the own cascade (APGD-CE, APGD-T, Square), and with the reference AutoAttack on
request. Prints CPU seconds and shares with 95 % intervals. `--save` and `--load` keep the weights.
"""

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from models import attacks, data
from models.attacks.threat import geometry_of
from models.base.allocation import keep_freed_memory
from models.nets import export, factories
from models.statistics.intervals import proportion
from models.training.loop import train
from models.training.presets import preset
from models.training.recipe import Recipe


def share(right: torch.Tensor) -> str:
    """A share with its interval."""
    p = proportion(right.numpy())
    return f"{p.value:.1%} ({p.low:.1%} to {p.high:.1%}, n = {p.n})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--net", default="auto")
    parser.add_argument("--eps", type=float, nargs="*", help="sizes of the attack")
    parser.add_argument("--rows", type=int, default=1000, help="test rows that are attacked")
    parser.add_argument("--recipe", default="{}", help="JSON: fields of the recipe to change")
    parser.add_argument("--queries", type=int, default=5000, help="of the square attack")
    parser.add_argument("--reference", action="store_true", help="the reference AutoAttack, too")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--load", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = data.load(asked.data)
    start = preset(rows.schema, len(rows.train), quick=asked.quick)
    changes = msgspec.json.decode(asked.recipe)
    recipe = msgspec.convert(msgspec.to_builtins(start.recipe) | changes, Recipe)
    torch.manual_seed(recipe.seed)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), asked.net))
    print(f"{rows.name}: {len(rows.train)} training rows, {recipe}", flush=True)
    if asked.load is not None:
        export.load_weights(net, asked.load.read_bytes())
    else:
        began = time.process_time()
        result = train(net, rows.train, rows.schema, recipe, progress=tell())
        net = result.net
        print(f"training: {time.process_time() - began:.1f} CPU-s, {result.precision}", flush=True)
    if asked.save is not None:
        asked.save.write_bytes(export.weights_bytes(net))
    x = torch.from_numpy(rows.schema.to_unit(rows.test.x))
    y = torch.from_numpy(rows.test.y.astype(np.int64))
    with attacks.frozen(net):
        logits_of = attacks.logits_only(net)
        with torch.no_grad():
            right = torch.cat([logits_of(part).argmax(1) for part in x.split(500)]) == y
        print(f"clean: {share(right)}", flush=True)
        x, y = x[: asked.rows], y[: asked.rows]
        for eps in asked.eps or [start.threat.eps]:
            threat = geometry_of(start.threat, rows.schema, eps)
            began = time.process_time()
            verdict = attacks.cascade(
                logits_of, x, y, threat, attacks=attacks.standard(queries=asked.queries)
            )
            used = time.process_time() - began
            for name, survived in verdict.after.items():
                print(f"eps {eps:.4g} after {name}: {share(survived)}", flush=True)
            print(f"eps {eps:.4g} own cascade: {used:.0f} CPU-s", flush=True)
            if asked.reference:
                began = time.process_time()
                survived = attacks.reference_autoattack(net, x, y, threat)
                used = time.process_time() - began
                print(f"eps {eps:.4g} reference: {share(survived)}, {used:.0f} CPU-s", flush=True)


def tell():  # type: ignore[no-untyped-def]
    """A line now and then."""
    told = [time.monotonic()]

    def progress(step: int, steps: int, loss: float) -> None:
        if time.monotonic() - told[0] > 20:
            told[0] = time.monotonic()
            used = time.process_time()
            print(f"  step {step} of {steps}, loss {loss:.3f}, {used:.0f} CPU-s", flush=True)

    return progress


if __name__ == "__main__":
    main()
