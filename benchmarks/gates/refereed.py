"""The step before the training: what the program says of honest and of poisoned windows."""

import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from benchmarks.gates.poisons import Poison
from benchmarks.gates.versions import make_anchor
from benchmarks.gates.windows import draw
from models.data import DataSet
from models.training.recipe import Recipe


def judge_windows(
    folder: Path,
    whole: DataSet,
    recipe: Recipe,
    seeds: range,
    draws: tuple[int, int],
    near: tuple[str, ...],
    far: tuple[str, ...],
    poisons: dict[str, Poison],
) -> None:
    """Honest and poisoned windows before the loop's own function: verdicts, and poison left.

    Args:
        folder: a registry, for the anchors.
        whole, recipe: of the anchors.
        seeds: of the anchors.
        draws: windows of each near kind and anchor, and of each other one.
        near, far: honest kinds; those that the referee's own moves do not reach are far.
        poisons: put behind the third of `near`.
    """
    said: dict[str, Counter[str]] = defaultdict(Counter)
    left: dict[str, list[float]] = defaultdict(list)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    honest, begun = Counter[str](), time.process_time()
    for seed in seeds:
        anchor = make_anchor(folder, whole, recipe, seed)
        print(f"{whole.name} seed {seed}: made, {time.process_time() - begun:.0f} CPU-s so far")
        for k in range(max(draws)):
            for kind, name in enumerate((*near, *far, *poisons)):
                if k >= draws[name not in near]:
                    continue
                rng = np.random.default_rng((seed, kind, k))
                drawn = draw(anchor.world, near[2] if name in poisons else name, rng)
                if name in poisons:
                    poisons[name](anchor, drawn, rng)
                word, ruling = anchor.judge(drawn)
                said[name][word] += 1
                honest[word] += name in near
                doubts = [c for c in ruling.told.checks if c.verdict != "pass"]
                why[name].update(f"{c.name} {c.verdict}" for c in doubts)
                if name not in near or doubts:
                    words = "; ".join(f"{c.name} {c.verdict}: {c.detail}" for c in doubts)
                    print(f"  {name}, draw {k}: {word}: {words}", flush=True)
                bad = drawn.bad if name in poisons else ~drawn.bad
                if bad.any():
                    left[name].append(float((bad & ruling.kept).sum() / bad.sum()))
                said[name]["client set aside"] += bool(ruling.aside)
            print(
                f"  {sum(honest.values())} honest windows so far: {dict(honest)}, "
                f"{time.process_time() - begun:.0f} CPU-s",
                flush=True,
            )
    print(f"\n{whole.name}: windows of {len(drawn.rows)} rows, {len(seeds)} anchors")
    for name, verdicts in said.items():
        group = "honest" if name in near else "far" if name in far else "poison"
        kept = (
            f"{'of the bad rows' if group == 'poison' else 'rows'} kept {np.mean(left[name]):.1%}"
        )
        print(f"  {group:7}{name:28} {dict(+verdicts)}; {kept}; {dict(why[name])}")
    print(f"  honest near windows: {dict(+honest)} of {honest.total()}")
    print(f"  {time.process_time() - begun:.0f} CPU-s", flush=True)
