"""Retraining that adapts and does not forget: the loop's own steps on digits (docs/benchmarks.md).

    OMP_NUM_THREADS=1 python -u -m benchmarks.retraining [--seeds 2] [--parts swap cycles small]

votes   by which neighbours old rows are renamed where labels of two classes change places
swap    labels of two classes change places; they are followed, or old and new rows are mixed
cycles  three windows in a row, each moved in another way: what is lost on the original test part
small   windows of 100 rows: what the change that matches the window adds

Windows are held-out rows (calibration and test part) in a moved form, so that no content of the
original is in them; every step is that of the loop (`monitoring.loop.child`).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch

from models import corruptions, data
from models.data import DataSet, Rows
from models.data.lineage import LEFT_OUT
from models.evaluation.gates import referee
from models.evaluation.gates.following import vote
from models.evaluation.subject import right
from models.nets import factories
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.facts import EventFacts, MatchFacts
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.loop import child
from monitoring.loop.jobs import Job, Task
from monitoring.loop.terms import Terms, frozen
from monitoring.making import rows as making
from monitoring.making.matching import Match
from monitoring.making.orders import Order
from monitoring.making.version import make_version

CLASSES = (3, 8)  # whose labels change places
CLIENTS, EPOCHS = 10, 20
Move = Callable[[DataSet, Rows, np.random.Generator], Rows]


def main() -> None:
    """Measure the parts that are asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=6)
    parser.add_argument("--parts", nargs="*", default=["swap", "cycles", "small"])
    parser.add_argument("--gates", action="store_true", help="judge challengers by the gates, too")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, a weaker attack")
    options = parser.parse_args()
    child._print_progress = lambda *_: None
    digits, started = data.load("digits"), time.process_time()
    for seed in range(options.first, options.first + options.seeds):
        if "votes" in options.parts:
            votes(digits, seed)
        for part in options.parts:
            if part == "votes":
                continue
            with tempfile.TemporaryDirectory() as folder:
                lab = Lab(digits, Path(folder), seed, gates=options.gates, quick=options.quick)
                {"swap": swap, "cycles": cycles, "small": small}[part](lab)
    print(f"all: {time.process_time() - started:.0f} CPU-s")


class Lab:
    """A registry with a champion, and windows that its loop is given."""

    def __init__(
        self, digits: DataSet, folder: Path, seed: int, *, gates: bool, quick: bool
    ) -> None:
        self.digits, self.folder, self.seed, self.jobs = digits, folder, seed, 0
        self.gates = gates
        self.options = {"recipe": {"epochs": 8, "attack_steps": 3}} if quick else {}
        self.rng = np.random.default_rng(seed)
        self.registry = Registry(folder / "registry")
        recipe = Recipe(epochs=15 if quick else 40, attack_steps=3 if quick else 7, seed=seed)
        net, threat = factories.spec_for(digits.schema, 10), ThreatModel(eps=0.15)
        order = Order("digits", recipe, net, EventFacts("first"), "benchmark", threat=threat)
        make_version(self.registry, digits, order)
        self.registry.promote("digits", 1, expected=None, actor="benchmark", reason="the first")

    def runner(self, version: int) -> Runner:
        return Runner(self.registry.open("digits", str(version)))

    def accuracy(self, version: int, rows: Rows) -> float:
        return float(right(self.runner(version), rows).mean())

    def retrain(
        self, rows: Rows, *, champion: int | None = None, follow: bool = True, excuse: bool = False
    ) -> tuple[int, str]:
        """Run the loop's steps on a window; returns the new champion and what it learnt from."""
        self.jobs += 1
        folder = self.folder / f"job-{self.jobs}"
        folder.mkdir()
        champion = champion or self.registry.aliases("digits").champion
        assert champion is not None
        clients = np.array([f"client-{k % CLIENTS}" for k in range(len(rows))])
        predicted = self.runner(champion).run(rows.x).probabilities.argmax(axis=1)
        np.savez(
            folder / "window.npz", x=rows.x, y=rows.y, predicted=predicted, clients=clients,
            at=1000.0 * self.jobs + np.arange(len(rows)),
        )  # fmt: skip
        terms = frozen(Terms(retrain_epochs=EPOCHS))
        job = Job(
            f"job-{self.jobs}", "retrain", "digits", champion, "person", "", 0.0, 0.0,
            options=self.options, terms=terms,
        )  # fmt: skip
        task = Task(job, str(self.registry.root), "sqlite://", retrain_epochs=EPOCHS)
        refereed = child.referee(task, folder)
        print(f"    {[(c.name, c.verdict) for c in refereed.checks]}, {refereed.kept} kept")
        if refereed.changed and follow:
            changed = {"changes": refereed.changes, "followed": "the benchmark"}
            task = with_job(task, **changed)
        if excuse:  # no filter: it would delete what is new
            np.savez(
                folder / "referee.npz", kept=np.ones(len(rows), dtype=bool),
                earlier=np.zeros(0, dtype=bool),
            )  # fmt: skip
        trained = child.train(task, folder)
        task = with_job(task, challenger=trained.version)
        for check in child.gate(task, folder).checks if self.gates else ():
            if check.verdict != "pass":
                print(f"    {check.verdict} {check.name}: {check.detail[:150]}")
        self.registry.promote(
            "digits", trained.version, expected="any", actor="benchmark", reason="",
            approved=bool(task.job.followed),
        )  # fmt: skip
        return trained.version, trained.material

    def window(self, rows: Rows, move: Move, n: int) -> Rows:
        chosen = rows.take(self.rng.choice(len(rows), min(n, len(rows)), replace=False))
        return move(self.digits, chosen, self.rng)


def with_job(task: Task, **fields: object) -> Task:
    return msgspec.structs.replace(task, job=msgspec.structs.replace(task.job, **fields))


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


def halves(lab: Lab) -> tuple[Rows, Rows]:
    """Held-out rows: half of them come as traffic, the other half judges."""
    pool = lab.digits.calibration.joined(lab.digits.test)
    order = lab.rng.permutation(len(pool))
    return pool.take(order[: len(pool) // 2]), pool.take(order[len(pool) // 2 :])


def votes(digits: DataSet, seed: int) -> None:
    """Old rows of two classes, by their nearest rows of a window that is turned by 25 degrees."""
    torch.manual_seed(seed)
    net = factories.build(factories.spec_for(digits.schema, 10))
    net = train(net, digits.train, digits.schema, Recipe(epochs=20, seed=seed)).net
    judge = referee.fine_tune(net, digits.schema, digits.train, seed)
    pool = digits.calibration.joined(digits.test)
    chosen = pool.take(np.random.default_rng(seed).permutation(len(pool))[: len(pool) // 2])
    window = turn(25)(digits, chosen, np.random.default_rng(seed))
    named = referee.probabilities_of(judge, digits.schema, window.x).argmax(axis=1)
    old = digits.train.take(np.isin(digits.train.y, CLASSES))
    for words, embed in (
        ("raw pixels", lambda x: digits.schema.to_unit(x).reshape(len(x), -1)),
        ("the champion's features", partial(referee.features_of, net, digits.schema)),
        ("the referee's features", partial(referee.features_of, judge, digits.schema)),
    ):
        for voters in (window, window.take(np.isin(named, CLASSES))):
            found = vote(embed(old.x), embed(voters.x), swapped(voters.y))
            kept = found != LEFT_OUT
            good = (found[kept] == swapped(old.y)[kept]).mean()
            print(
                f"  votes, seed {seed}, {words}, {len(voters)} voters: {(~kept).mean():.0%} of "
                f"{len(old)} rows are left out, {good:.0%} of the others right"
            )


def swap(lab: Lab) -> None:
    """Labels of two classes change places; the traffic is a little brighter (another content)."""
    print(f"swap, seed {lab.seed}")
    came, judge = halves(lab)
    window, rows = (dark(0.9)(lab.digits, part, lab.rng) for part in (came, judge))
    window, rows = Rows(window.x, swapped(window.y)), Rows(rows.x, swapped(rows.y))
    before, known = lab.accuracy(1, rows), 1
    for words, follow in (("followed", True), ("plain mixing", False)):
        version, _ = lab.retrain(window, champion=1, follow=follow, excuse=not follow)
        after = lab.accuracy(version, rows)
        print(
            f"  {words}: {before:.3f} -> {after:.3f} on {len(rows)} rows with new labels",
            flush=True,
        )
        known = version if follow else known
    later = turn(15)(lab.digits, came, lab.rng)  # a later window must not bring the old ones back
    version, _ = lab.retrain(Rows(later.x, swapped(later.y)), champion=known)
    print(f"  the version after that: {lab.accuracy(version, rows):.3f}")


def cycles(lab: Lab) -> None:
    """Three windows, one after the other, each moved in another way."""
    print(f"cycles, seed {lab.seed}")
    came, judge = halves(lab)
    seen: list[tuple[str, Move]] = []
    first = lab.accuracy(1, lab.digits.test)
    for name, move in MOVES:
        seen.append((name, move))
        window, rows = move(lab.digits, came, lab.rng), move(lab.digits, judge, lab.rng)
        champion = lab.registry.aliases("digits").champion
        before = lab.accuracy(int(champion or 0), rows)
        version, material = lab.retrain(window)
        old = [
            f"{n} {lab.accuracy(version, m(lab.digits, judge, lab.rng)):.3f}" for n, m in seen[:-1]
        ]
        print(
            f"  {name}: {before:.3f} -> {lab.accuracy(version, rows):.3f}; original {first:.3f} -> "
            f"{lab.accuracy(version, lab.digits.test):.3f}; before that {', '.join(old) or 'none'}"
        )
        print(f"    {material}")


def small(lab: Lab) -> None:
    """Windows of 100 rows: with the change that matches, and with random ones."""
    print(f"small windows, seed {lab.seed}")
    came, judge = halves(lab)
    true = making.match_window
    none = MatchFacts("", 0, 0.0, 0.0, "", "none: as asked")
    for name, move in MOVES:
        window, rows = lab.window(came, move, 200), move(lab.digits, judge, lab.rng)
        before = lab.accuracy(1, rows)
        for words, match in (("random", lambda *_: Match(none)), ("matched", true)):
            making.match_window = match
            version, material = lab.retrain(window, champion=1)
            after, kept = lab.accuracy(version, rows), lab.accuracy(version, lab.digits.test)
            print(
                f"  {name}, {words}: {before:.3f} -> {after:.3f}; original {kept:.3f}", flush=True
            )
            print(f"    {material}")
    making.match_window = true


if __name__ == "__main__":
    main()
