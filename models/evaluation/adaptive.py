"""What an attacker finds who knows the detectors, beside the attack of the suite that does not.

The static attack fools the net and leaves to chance whether the row is flagged. The adaptive one
has the bundle: the served graph with its scores and thresholds, and their gradients.
"""

import contextlib
from collections.abc import Mapping

import msgspec
import numpy as np
import torch
from torch import Tensor

from models import attacks
from models.attacks.catalogue import Strength, find_attack
from models.attacks.gradient.adaptive import AnswersOf, adaptive
from models.attacks.onnx.interpreter import NotDifferentiableError
from models.attacks.threat import Threat
from models.data import Rows
from models.evaluation.gaps import reason_of
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays, Subject, ask_rows
from models.evaluation.units import BLOCK, Block
from models.evaluation.white_box import WhiteBox
from models.statistics.arrays import Bools
from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from models.versions.figures import Adaptive, Fooled, StaticFooled, WeighedFooled

IN_TURN = "in turn"  # the weight None of `attacks.adaptive`


def obstacle(subject: Subject) -> str | None:
    """Why the served graph has no gradient to follow; None where it has.

    Any error counts: the graph may be somebody else's, and hold what the interpreter cannot read.
    A graph that casts or rounds its input is read, and gives no gradient all the same.
    """
    try:
        row = torch.zeros(
            (1, *subject.schema.shape), requires_grad=True
        )  # of a table: first values
        with torch.enable_grad():
            logits, excess = WhiteBox(subject.runner)(row)
    except Exception as error:
        return f"the served graph gives no gradient: {reason_of(error)}"
    if not (logits.requires_grad and excess.requires_grad):
        return "the served graph gives no gradient: its input is rounded or cast on the way"
    return None


def attacks_of(plan: Plan) -> tuple[Strength, ...]:
    """The static attack: those of the cascade with gradients, or Square on a black box."""
    with_gradients = tuple(by for by in plan.cascade if find_attack(by.attack).gradient)
    return with_gradients or plan.cascade


def cost(plan: Plan) -> int:
    """Forward passes per row, about."""
    climbs = 2 * len(plan.adaptive_weights) * plan.adaptive_restarts
    return sum(by.cost for by in attacks_of(plan)) + 5 * climbs * plan.adaptive_steps


def search(subject: Subject, plan: Plan, threat: Threat, block: Block, right: Bools) -> Arrays:
    """Both attacks on the rows of a block that are right without one.

    Args:
        subject, plan, threat: what is attacked, how and how far.
        block: its rows.
        right: which of them `(N,)` are right.

    Returns:
        Bools `(N,)`: `attacked`; `fooled-static`, `unseen-static` (wrong and not flagged as
        perturbed), `both-static` (nor as drift); the same with the number of each weight of the
        plan; `flat`, where the likelihood has no gradient at the static example.
    """
    own, count = np.flatnonzero(right), len(block.index)
    flags: dict[str, Bools] = {"attacked": right.copy(), "flat": np.zeros(count, bool)}
    marks = ("static", *(str(k) for k in range(len(plan.adaptive_weights))))
    names = [f"{what}-{mark}" for what in ("fooled", "unseen", "both") for mark in marks]
    flags |= {name: np.zeros(count, bool) for name in names}
    if len(own) == 0:
        return dict(flags)
    rows = block.rows.take(own)
    x, y = subject.tensors(rows)
    with subject.logits() as logits_of:
        start = attacks.cascade(
            logits_of, x, y, threat, attacks=attacks_of(plan), batch_size=BLOCK, seed=block.seed,
        ).x_adv  # fmt: skip
    boxes = _boxes(subject, x.device)
    flags["flat"][own] = _flat(boxes[0], start)
    for name, fell in _judge_rows(subject, rows, start).items():
        flags[f"{name}-static"][own] = fell
    left = np.arange(len(own))
    for k, weight in enumerate(plan.adaptive_weights):
        for box in boxes:
            generator = torch.Generator(x.device).manual_seed(block.seed)
            attacked = adaptive(
                box, x[left], y[left], threat, weight=weight, steps=plan.adaptive_steps,
                start=start[left], restarts=plan.adaptive_restarts, generator=generator,
            )  # fmt: skip
            for name, fell in _judge_rows(subject, rows.take(left), attacked.x_adv).items():
                flags[f"{name}-{k}"][own[left]] |= fell
        # A row that neither the static attack nor the first weight turns is leaf up.
        left = np.flatnonzero((flags["fooled-static"] | flags["fooled-0"])[own])
        if len(left) == 0:
            break
    return dict(flags)


def adaptive_figures(results: Mapping[str, Arrays], plan: Plan) -> Adaptive | None:
    """Shares of the attacked rows; None where the unit `adaptive` was not run."""
    if "adaptive" not in results:
        return None
    flags = {name: np.asarray(column, bool) for name, column in results["adaptive"].items()}
    rows = flags["attacked"]
    marks = [str(k) for k in range(len(plan.adaptive_weights))]
    static = msgspec.structs.asdict(_fooled(flags, "static"))
    weights = [
        WeighedFooled(
            weight=IN_TURN if weight is None else weight,
            **msgspec.structs.asdict(_fooled(flags, mark)),
        )
        for weight, mark in zip(plan.adaptive_weights, marks, strict=True)
    ]
    flat = flags["flat"][rows]
    return Adaptive(
        n=int(rows.sum()),
        steps=plan.adaptive_steps,
        restarts=plan.adaptive_restarts,
        static=StaticFooled(attack=" + ".join(by.attack for by in attacks_of(plan)), **static),
        adaptive=_fooled(flags, "static", *marks),
        weights=tuple(weights),
        best=max(weights, key=lambda w: w.undetected.share or 0.0).weight,
        flat=round(float(flat.mean()), 4) if len(flat) else None,
    )


def _fooled(flags: Mapping[str, Bools], *marks: str) -> Fooled:
    """Of the attacked rows those that any of the attacks `marks` fooled, and how unseen."""
    rows = flags["attacked"]

    def share(what: str) -> Proportion:
        return proportion(np.any([flags[f"{what}-{mark}"] for mark in marks], axis=0)[rows])

    return Fooled(
        fooled=share("fooled"), undetected=share("unseen"), undetected_by_both=share("both")
    )


def _boxes(subject: Subject, device: torch.device) -> list[AnswersOf]:
    """The attacker's aims: past the perturbation score, and past both scores."""
    boxes: list[AnswersOf] = [WhiteBox(subject.runner, device=device)]
    # Where it cannot be followed, the drift score is judged all the same, but not aimed at.
    with contextlib.suppress(NotDifferentiableError):
        boxes.append(WhiteBox(subject.runner, drift=True, device=device))
    return boxes


def _judge_rows(subject: Subject, rows: Rows, x_unit: Tensor) -> dict[str, Bools]:
    """What the service would say: wrong, wrong and unseen, and unseen by both scores."""
    facts = subject.runner.manifest.calibration
    answers = ask_rows(subject.runner, Rows(subject.schema.from_unit(x_unit.cpu().numpy()), rows.y))
    wrong = ~np.asarray(answers["right"], bool)
    unseen = wrong & (np.asarray(answers["perturbation"], float) <= facts.perturbation_threshold)
    both = unseen & (np.asarray(answers["drift"], float) > facts.alpha)
    return {"fooled": wrong, "unseen": unseen, "both": both}


def _flat(box: AnswersOf, x: Tensor) -> Bools:
    """Where the excess has no gradient `(N,)`: there the attack is blind, and so is its figure."""
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(box(leaf)[1].sum(), leaf)
    return np.asarray((gradient.nan_to_num().flatten(1).abs().amax(dim=1) == 0).cpu())
