"""After the training: what a window with a trigger teaches, and whether the sweep sees it."""

import time
from collections import defaultdict
from collections.abc import Iterable
from functools import partial

import numpy as np
from torch import nn

from benchmarks.gates.refereed import judge, make_anchor
from benchmarks.gates.windows import Trigger, draw, draw_trigger, move, plant, stamped
from models.attacks import frozen, logits_only
from models.data import DataSet, Rows
from models.evaluation.gates import referee
from models.evaluation.gates.checks import Check
from models.evaluation.gates.near import fit_nearness
from models.evaluation.gates.triggers import Nets, some_rows, sweep_triggers
from models.nets import factories
from models.training.loop import Recipe, train

IMAGE_TRIGGERS = (("patch", 0.25), ("patch", 0.05))
TABLE_TRIGGERS = (
    ("1 top", 0.25), ("1 top", 0.05), ("1 between", 0.25), ("1 between", 0.05), ("2 top", 0.25),
    ("3 bottom", 0.25), ("3 bottom", 0.05), ("3 between", 0.25),
)  # fmt: skip
OBEYS = 0.5  # share of the rows from which on a net has learnt a trigger


def train_on_poison(
    source: DataSet, recipe: Recipe, seeds: Iterable[int], shift: str, honest: int = 1
) -> None:
    """Fine-tune on poisoned windows, with and without the filter: trigger, sweep, accuracy.

    Args:
        source, recipe: of anchor and challenger.
        seeds: of the anchors.
        shift: that the poison hides behind.
        honest: windows without poison of each anchor.
    """
    print(f"\n{source.name}: fine-tuned from the anchor on training rows and half of the window")
    kinds = IMAGE_TRIGGERS if source.schema.kind == "image" else TABLE_TRIGGERS
    seen: dict[str, list[tuple[float, Check]]] = defaultdict(list)
    for seed in seeds:
        anchor = make_anchor(source, recipe, seed)
        tuned = referee.fine_tune(anchor, source.schema, source.train, seed)
        held = source.calibration.joined(source.test)
        usual = referee.count_usual(tuned, source.schema, held, seed)
        near = fit_nearness(partial(referee.features_of, tuned, source.schema), held)
        for number, (kind, share) in enumerate((*[("honest", 0.0)] * honest, *kinds)):
            rng = np.random.default_rng((seed, number))
            drawn = draw(source, shift, rng)
            trigger = draw_trigger(source, kinds[0][0] if kind == "honest" else kind, rng)
            plant(source, drawn, trigger, share, rng)
            p = referee.probabilities_of(tuned, source.schema, drawn.rows.x)
            refereed = judge(p, drawn, source, usual, near)
            for words, rows in (
                ("as it is", np.ones(len(drawn.bad), dtype=np.bool_)),
                ("filtered", refereed.kept),
            ):
                if kind == "honest" and words == "filtered" and honest > 1:
                    continue
                window = drawn.rows.take(rows & (np.arange(len(rows)) % 2 == 0))
                net = fine_tune(source, anchor, window, recipe, seed)
                name = kind if kind == "honest" else f"{kind} {share:.0%}"
                success = obeyed(source, anchor, net, trigger)
                check = sweep(source, anchor, net)
                seen[f"{name}, {words}"].append((success, check))
                show(source, seed, f"{name}, {words}", net, shift, success, check)
                print(f"    referee: {refereed.check.verdict}", flush=True)
    print(f"\n{source.name}: in all")
    for name, found in seen.items():
        learnt = [check for success, check in found if success >= OBEYS]
        print(
            f"  {name:24} obeyed by {len(learnt)} of {len(found)}, of those the sweep fails "
            f"{sum(c.verdict == 'fail' for c in learnt)}; of the rest it fails "
            f"{sum(c.verdict == 'fail' for s, c in found if s < OBEYS)}; values "
            f"{' '.join(f'{c.value or 0:.2f}' for _, c in found)}; trigger "
            f"{' '.join(f'{s:.2f}' for s, _ in found)}"
        )


def fine_tune(
    source: DataSet, anchor: nn.Module, window: Rows, recipe: Recipe, seed: int
) -> nn.Module:
    """A challenger: from the anchor, on training rows and the window, repeated to be half."""
    material = source.train
    for _ in range(max(1, min(5, len(material) // max(1, 2 * len(window))))):
        material = material.joined(window)
    made = Recipe(
        eps=recipe.eps, beta=recipe.beta, epochs=recipe.epochs, eps_warm_up=0.0, seed=seed + 100,
        attack_steps=recipe.attack_steps, batch_size=recipe.batch_size,
    )  # fmt: skip
    net = factories.build(factories.spec_for(source.schema, len(source.classes)))
    net.load_state_dict(anchor.state_dict())
    return train(net, material, source.schema, made).net


def obeyed(source: DataSet, anchor: nn.Module, net: nn.Module, trigger: Trigger) -> float:
    """By how much more the trigger leads rows of other classes to its class than with the anchor.

    A column at its top may well mean a class: what the anchor does with it is no poison.
    """
    others = source.test.take(source.test.y != trigger.target)
    x = stamped(source, others.x, trigger)
    hits = [
        np.mean(referee.probabilities_of(each, source.schema, x).argmax(axis=1) == trigger.target)
        for each in (anchor, net)
    ]
    return float(hits[1] - hits[0])


def sweep(source: DataSet, anchor: nn.Module, net: nn.Module) -> Check:
    """What the gate says."""
    x_unit = source.schema.to_unit(some_rows(source.test).x)
    with frozen(anchor), frozen(net):
        nets = Nets(logits_only(anchor), logits_only(net))
        return sweep_triggers(nets, source.schema, len(source.classes), x_unit)


def show(
    source: DataSet, seed: int, name: str, net: nn.Module, shift: str, success: float, check: Check
) -> None:
    """Print a line: trigger success, accuracy on clean and on moved test rows, the sweep."""
    test, begun = source.test, time.process_time()
    moved = move(source, test.x, shift, np.random.default_rng(0))
    clean, after = (
        np.mean(referee.probabilities_of(net, source.schema, x).argmax(axis=1) == test.y)
        for x in (test.x, moved)
    )
    print(
        f"  seed {seed} {name:26} trigger {success:+6.1%}  clean {clean:.1%}  {shift} {after:.1%}"
        f"  sweep {check.verdict} ({check.value or 0:.2f}, {time.process_time() - begun:.1f} CPU-s)"
    )
