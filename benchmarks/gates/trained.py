"""After the training: what a window with a trigger teaches, and whether the sweep sees it."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.gates.poisons import Poison, Trigger, stamped
from benchmarks.gates.versions import Said, Version, make_anchor
from benchmarks.gates.windows import Drawn, draw, move
from models.attacks import frozen, logits_only
from models.data import DataSet
from models.data.lineage import NO_LINEAGE, Lineage, LiveRows
from models.data.window import Window
from models.evaluation.gates.checks import Check
from models.evaluation.gates.referee import probabilities_of
from models.evaluation.gates.triggers import Nets, some_rows, sweep_triggers
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.facts import EventFacts
from monitoring.making.opening import rebuild
from monitoring.making.orders import Order
from monitoring.making.rows import training_rows

OBEYS = 0.05  # share of the rows above which a trigger has got through


def train_on_poison(
    folder: Path,
    whole: DataSet,
    recipe: Recipe,
    seeds: Iterable[int],
    shift: str,
    poisons: Mapping[str, Poison],
    *,
    draws: int,
    doubtful: bool,
    epochs: int,
) -> None:
    """Judge poisoned windows, and train as the loop does on those that it would train on.

    Args:
        folder: a registry, for the anchors.
        whole, recipe: of the anchors.
        seeds: of the anchors.
        shift: that the poison hides behind.
        poisons: by name; each is put into `draws` windows of each anchor.
        draws: as above.
        doubtful: train where the program asks a person, too.
        epochs: of a retraining.
    """
    print(f"\n{whole.name}: retrained from the anchor as the loop does, {epochs} epochs")
    words: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, list[tuple[float, Check]]] = defaultdict(list)
    for seed in seeds:
        anchor = make_anchor(folder, whole, recipe, seed)
        for number, (name, poison) in enumerate(poisons.items()):
            for k in range(draws):
                rng = np.random.default_rng((seed, 100 + number, k))
                drawn = draw(anchor.world, shift, rng)
                trigger = poison(anchor, drawn, rng)
                assert trigger is not None, "only triggers are trained on"
                said = anchor.judge(drawn)
                words[name].append(said.word)
                left = (drawn.bad & said.ruling.kept).sum()
                line = f"  seed {seed} {name:34} {int(drawn.bad.sum()):4} bad, {said.word}"
                if said.word == "fail" or (said.word == "unknown" and not doubtful):
                    print(line, flush=True)
                    continue
                begun = time.process_time()
                net, _ = retrain(anchor, drawn, said, epochs)
                success, check = obeyed(anchor, net, trigger), sweep(anchor, net)
                seen[name].append((success, check))
                spent = time.process_time() - begun
                clean, after = accuracies(anchor, net, shift)
                print(
                    f"{line}, {left} left: trigger {success:+.1%}, sweep {check.verdict} "
                    f"({check.value or 0:.2f}), clean {clean:.1%}, {shift} {after:.1%}, "
                    f"{spent:.0f} CPU-s",
                    flush=True,
                )
    print(f"\n{whole.name}: in all")
    for name, said_words in words.items():
        found = seen[name]
        through = [(s, c) for s, c in found if s > OBEYS]
        print(
            f"  {name:34} of {len(said_words)} windows {said_words.count('fail')} fail, "
            f"{said_words.count('unknown')} unknown; of {len(found)} trained "
            f"{len(through)} obey by more than 5 points, of those the sweep fails "
            f"{sum(c.verdict == 'fail' for _, c in through)}, of the rest "
            f"{sum(c.verdict == 'fail' for s, c in found if s <= OBEYS)}; trigger "
            f"{' '.join(f'{s:.2f}' for s, _ in found)}; sweep "
            f"{' '.join(f'{c.value or 0:.2f}' for _, c in found)}"
        )


def retrain(
    version: Version, drawn: Drawn, said: Said, epochs: int, lineage: Lineage = NO_LINEAGE
) -> tuple[nn.Module, Lineage]:
    """The challenger's net, from the rows that the loop would train on; no heads are made."""
    n, kept = len(drawn.rows), said.ruling.kept
    before = drawn.earlier.take(said.ruling.earlier)
    none = np.zeros(len(before), dtype=np.int64)
    window = Window.of(drawn.rows.take(kept), version.source, np.arange(n)[kept] * 1.0, lineage)
    old = {"train": LiveRows(before, none - 1.0, none)} if len(before) else {}
    made = version.recipe
    recipe = Recipe(
        eps=made.eps, beta=made.beta, epochs=epochs, eps_warm_up=0.0, corrupted_copies=1,
        attack_steps=made.attack_steps, batch_size=made.batch_size, seed=made.seed + 1,
    )  # fmt: skip
    order = Order(
        model=version.bundle.manifest.model, recipe=recipe, net=version.spec,
        event=EventFacts("a job"), actor="benchmark", parent=version.bundle, window=window,
        lineage=lineage.with_window(old),
    )  # fmt: skip
    learnt = training_rows(version.source, order)
    torch.manual_seed(recipe.seed)
    net = rebuild(version.bundle).requires_grad_(True)
    return train(net, learnt.rows, version.source.schema, recipe).net, learnt.lineage


def obeyed(version: Version, net: nn.Module, trigger: Trigger) -> float:
    """By how much more the trigger leads rows of other classes to its class than with the anchor.

    A column at its top may well mean a class: what the anchor does with it is no poison.
    """
    source = version.source
    others = source.test.take(source.test.y != trigger.target)
    x = stamped(source, others.x, trigger)
    hits = [
        np.mean(probabilities_of(each, source.schema, x).argmax(axis=1) == trigger.target)
        for each in (version.net, net)
    ]
    return float(hits[1] - hits[0])


def sweep(version: Version, net: nn.Module) -> Check:
    """What the gate says."""
    source = version.source
    x_unit = source.schema.to_unit(some_rows(source.test).x)
    with frozen(version.net), frozen(net):
        nets = Nets(logits_only(version.net), logits_only(net))
        return sweep_triggers(nets, source.schema, len(source.classes), x_unit)


def accuracies(version: Version, net: nn.Module, shift: str) -> tuple[float, float]:
    """On clean and on moved test rows."""
    test = version.source.test
    moved = move(version.source, test.x, shift, np.random.default_rng(0))
    clean, after = (
        float(np.mean(probabilities_of(net, version.source.schema, x).argmax(axis=1) == test.y))
        for x in (test.x, moved)
    )
    return clean, after
