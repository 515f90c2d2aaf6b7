"""Retraining that adapts and does not forget, on digits (docs/benchmarks.md).

    OMP_NUM_THREADS=1 python -u -m benchmarks.retraining [--parts votes swap cycles] [--seeds 1]

votes   by which neighbours old rows are renamed where labels of two classes change places
swap    labels of two classes change places; they are followed, or old and new rows are mixed
cycles  three windows in a row, each moved in another way: what is lost on the original test part

Windows are held-out rows (calibration and test part) in a moved form, half of them; the other half
judges. Referee, window, rows and training are the loop's own; no scores are put in, so the change
that matches a window, which needs a version's channels, is left out. `--quick` takes 15 and 8
epochs with three attack steps in place of 40 and 20 with seven.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from models import corruptions, data
from models.data import DataSet, Rows
from models.data.lineage import LEFT_OUT, NO_LINEAGE, Lineage
from models.evaluation.gates import referee
from models.evaluation.gates.following import vote
from models.nets import factories
from models.training.fine_tuning import fine_tuning_recipe
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.facts import EventFacts
from monitoring.loop.refereeing import judge_window, usable_window
from monitoring.making.orders import Order
from monitoring.making.rows import training_rows

CLASSES = (3, 8)  # whose labels change places
CLIENTS = 10
Move = Callable[[DataSet, Rows, np.random.Generator], Rows]


def main() -> None:
    """Measure the parts that are asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=6)
    parser.add_argument("--parts", nargs="*", default=["votes", "swap", "cycles"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits, started = data.load("digits"), time.process_time()
    for seed in range(options.first, options.first + options.seeds):
        lab = Lab(digits, seed, quick=options.quick)
        for part in options.parts:
            {"votes": votes, "swap": swap, "cycles": cycles}[part](lab)
    print(f"all: {time.process_time() - started:.0f} CPU-s")


class Lab:
    """A champion, and held-out rows: half of them come as traffic, the other half judges."""

    def __init__(self, digits: DataSet, seed: int, *, quick: bool) -> None:
        self.digits, self.seed, self.jobs = digits, seed, 0
        self.first, self.more, self.steps = (15, 8, 3) if quick else (40, 20, 7)
        torch.manual_seed(seed)
        net = factories.build(factories.spec_for(digits.schema, len(digits.classes)))
        recipe = Recipe(epochs=self.first, attack_steps=self.steps, seed=seed)
        self.champion = train(net, digits.train, digits.schema, recipe).net
        self.rng = np.random.default_rng(seed)
        pool = digits.calibration.joined(digits.test)
        order = self.rng.permutation(len(pool))
        self.came, self.judge = pool.take(order[:360]), pool.take(order[360:])

    def accuracy(self, net: nn.Module, rows: Rows) -> float:
        named = referee.probabilities_of(net, self.digits.schema, rows.x).argmax(axis=1)
        return float((named == rows.y).mean())

    def retrain(
        self,
        net: nn.Module,
        anchor: nn.Module,
        lineage: Lineage,
        window: Rows,
        *,
        mixed: bool = False,
    ) -> tuple[nn.Module, Lineage]:
        """Referee, follow what has changed, and train; `mixed`: neither filtered nor followed."""
        self.jobs += 1
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(
                folder / "window.npz", x=window.x, y=window.y, predicted=window.y,
                clients=np.array([f"client-{k % CLIENTS}" for k in range(len(window))]),
                at=1000.0 * self.jobs + np.arange(len(window)),
            )  # fmt: skip
            if mixed:
                kept = np.ones(len(window), dtype=bool)
                np.savez(folder / "referee.npz", kept=kept, earlier=kept[:0])
            else:
                lineage = self.referee(anchor, lineage, folder)
            dealt = usable_window(folder, self.digits, lineage)
        begun = Recipe(attack_steps=self.steps, seed=self.seed + self.jobs - 1)
        recipe = fine_tuning_recipe(begun, self.more, begins=True)
        spec = factories.spec_for(self.digits.schema, len(self.digits.classes))
        order = Order(
            "digits", recipe, spec, EventFacts("job"), "benchmark", window=dealt, lineage=lineage
        )
        learnt = training_rows(lineage.relabelled(self.digits), order)
        own = copy.deepcopy(net).requires_grad_(True)
        return train(own, learnt.rows, self.digits.schema, recipe).net, learnt.lineage

    def referee(self, anchor: nn.Module, lineage: Lineage, folder: Path) -> Lineage:
        """The lineage to go on with, as a person would have it who says yes."""
        subject = SimpleNamespace(
            net=anchor, schema=self.digits.schema, classes=self.digits.classes, black_box=False
        )
        said = judge_window(subject, self.digits, folder, lineage)  # type: ignore[arg-type]
        verdicts = ", ".join(f"{check.name} {check.verdict}" for check in said.checks)
        print(f"    {verdicts}; {said.kept} of {said.rows} rows kept")
        if not said.changes:
            return lineage
        lineage = Lineage.decode((folder / "lineage.npz").read_bytes())
        concerned = np.isin(self.digits.train.y, CLASSES)
        now, true = lineage.labels["train"][concerned], swapped(self.digits.train.y[concerned])
        kept = now != LEFT_OUT
        print(
            f"    of {len(now)} old rows {(~kept).mean():.1%} are left out, "
            f"{(now[kept] == true[kept]).mean():.1%} of the others right"
        )
        return lineage


def turn(degrees: float) -> Move:
    def move(digits: DataSet, rows: Rows, rng: np.random.Generator) -> Rows:
        unit = corruptions.rotated(digits.schema.to_unit(rows.x), degrees)
        return Rows(digits.schema.from_unit(unit), rows.y)

    return move


def noise(sigma: float) -> Move:
    def move(digits: DataSet, rows: Rows, rng: np.random.Generator) -> Rows:
        unit = corruptions.noisy(digits.schema.to_unit(rows.x), sigma, rng)
        return Rows(digits.schema.from_unit(unit), rows.y)

    return move


def dark(share: float) -> Move:
    def move(digits: DataSet, rows: Rows, rng: np.random.Generator) -> Rows:
        unit = share * digits.schema.to_unit(rows.x)
        return Rows(digits.schema.from_unit(unit.astype(np.float32)), rows.y)

    return move


MOVES = (("rotate 30", turn(30)), ("dark .4", dark(0.4)), ("noise .25", noise(0.25)))


def swapped(y: np.ndarray) -> np.ndarray:
    a, b = CLASSES
    return np.where(y == a, b, np.where(y == b, a, y))


def votes(lab: Lab) -> None:
    """Old rows of two classes, by their nearest rows of a window that is turned by 25 degrees."""
    digits = lab.digits
    judge = referee.fine_tune(lab.champion, digits.schema, digits.train, lab.seed)
    window = turn(25)(digits, lab.came, lab.rng)
    named = referee.probabilities_of(judge, digits.schema, window.x).argmax(axis=1)
    old = digits.train.take(np.isin(digits.train.y, CLASSES))
    for words, embed in (
        ("raw pixels", lambda x: digits.schema.to_unit(x).reshape(len(x), -1)),
        ("the champion's features", partial(referee.features_of, lab.champion, digits.schema)),
        ("the referee's features", partial(referee.features_of, judge, digits.schema)),
    ):
        for voters in (window, window.take(np.isin(named, CLASSES))):
            found = vote(embed(old.x), embed(voters.x), swapped(voters.y))
            kept = found != LEFT_OUT
            good = (found[kept] == swapped(old.y)[kept]).mean()
            print(
                f"votes, seed {lab.seed}, {words}, {len(voters)} voters: {(~kept).mean():.0%} of "
                f"{len(old)} rows are left out, {good:.0%} of the others right"
            )


def swap(lab: Lab) -> None:
    """Labels of two classes change places; the traffic is a little darker (another content)."""
    parts = (dark(0.9)(lab.digits, part, lab.rng) for part in (lab.came, lab.judge))
    window, rows = (Rows(part.x, swapped(part.y)) for part in parts)
    before = lab.accuracy(lab.champion, rows)
    followed, lineage = lab.retrain(lab.champion, lab.champion, NO_LINEAGE, window)
    print(f"swap, seed {lab.seed}, followed: {before:.3f} -> {lab.accuracy(followed, rows):.3f}")
    mixed, _ = lab.retrain(lab.champion, lab.champion, NO_LINEAGE, window, mixed=True)
    print(f"swap, seed {lab.seed}, plain mixing: {before:.3f} -> {lab.accuracy(mixed, rows):.3f}")
    later = turn(15)(lab.digits, lab.came, lab.rng)  # it must not bring the old labels back
    after, _ = lab.retrain(followed, followed, lineage, Rows(later.x, swapped(later.y)))
    print(f"swap, seed {lab.seed}, the version after that: {lab.accuracy(after, rows):.3f}")


def cycles(lab: Lab) -> None:
    """Three windows, one after the other, each moved in another way."""
    net, lineage, test = lab.champion, NO_LINEAGE, lab.digits.test
    first = lab.accuracy(net, test)
    for k, (name, move) in enumerate(MOVES):
        window, rows = (move(lab.digits, part, lab.rng) for part in (lab.came, lab.judge))
        before = lab.accuracy(net, rows)
        net, lineage = lab.retrain(net, lab.champion, lineage, window)
        old = [
            f"{each} {lab.accuracy(net, moved(lab.digits, lab.judge, lab.rng)):.3f}"
            for each, moved in MOVES[:k]
        ]
        print(
            f"cycles, seed {lab.seed}, {name}: {before:.3f} -> {lab.accuracy(net, rows):.3f}; "
            f"original {first:.3f} -> {lab.accuracy(net, test):.3f}; {', '.join(old)}"
        )


if __name__ == "__main__":
    main()
