"""What an attacker finds who knows the detectors, beside the attack of the suite that does not.

The static attack fools the net and leaves to chance whether the row is flagged. The adaptive one
has the bundle: the served graph with its scores and thresholds, and their gradients.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import attacks
from models.attacks.catalogue import Strength, find_attack
from models.attacks.gradient.adaptive import AnswersOf, adaptive
from models.attacks.onnx.interpreter import NotDifferentiableError
from models.attacks.threat import Threat
from models.data import Rows
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays, Subject, ask_rows
from models.evaluation.units import BLOCK, Block
from models.evaluation.white_box import WhiteBox
from models.statistics.intervals import Bools, proportion

IN_TURN = "in turn"  # the weight None of `attacks.adaptive`


def obstacle(subject: Subject) -> str | None:
    """Why the served graph has no gradient to follow; None where it has."""
    try:
        WhiteBox(subject.runner)
    except NotDifferentiableError as error:
        return str(error)
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
    told: dict[str, Bools] = {"attacked": right.copy(), "flat": np.zeros(count, bool)}
    marks = ("static", *(str(k) for k in range(len(plan.adaptive_weights))))
    names = [f"{what}-{mark}" for what in ("fooled", "unseen", "both") for mark in marks]
    told |= {name: np.zeros(count, bool) for name in names}
    if len(own) == 0:
        return dict(told)
    rows = block.rows.take(own)
    x, y = subject.tensors(rows)
    with subject.logits() as logits_of:
        start = attacks.cascade(
            logits_of, x, y, threat, attacks=attacks_of(plan), batch_size=BLOCK, seed=block.seed,
        ).x_adv  # fmt: skip
    boxes = _boxes(subject, x.device)
    told["flat"][own] = _flat(boxes[0], start)
    for name, flags in _judge_rows(subject, rows, start).items():
        told[f"{name}-static"][own] = flags
    left = np.arange(len(own))
    for k, weight in enumerate(plan.adaptive_weights):
        for box in boxes:
            generator = torch.Generator(x.device).manual_seed(block.seed)
            found = adaptive(
                box, x[left], y[left], threat, weight=weight, steps=plan.adaptive_steps,
                start=start[left], restarts=plan.adaptive_restarts, generator=generator,
            )  # fmt: skip
            for name, flags in _judge_rows(subject, rows.take(left), found.x_adv).items():
                told[f"{name}-{k}"][own[left]] |= flags
        # A row that neither the static attack nor the first weight turns is given up.
        left = np.flatnonzero((told["fooled-static"] | told["fooled-0"])[own])
        if len(left) == 0:
            break
    return dict(told)


def adaptive_figures(
    results: Mapping[str, Arrays], plan: Plan, reason: str | None
) -> dict[str, Any]:
    """Shares of the attacked rows, as plain data; `reason` says why nothing was measured."""
    if reason is not None or "adaptive" not in results:
        return {"measured": False, "reason": reason or "this suite does not run it"}
    told = {name: np.asarray(flags, bool) for name, flags in results["adaptive"].items()}
    rows = told["attacked"]
    marks = [str(k) for k in range(len(plan.adaptive_weights))]

    def shares(*which: str) -> dict[str, Any]:
        any_of = {
            key: np.any([told[f"{name}-{mark}"] for mark in which], axis=0)[rows]
            for key, name in (
                ("fooled", "fooled"),
                ("undetected", "unseen"),
                ("undetected_by_both", "both"),
            )
        }
        return {key: proportion(flags).plain() for key, flags in any_of.items()}

    weights = [
        {"weight": IN_TURN if weight is None else weight, **shares(mark)}
        for weight, mark in zip(plan.adaptive_weights, marks, strict=True)
    ]
    best = max(weights, key=lambda w: w["undetected"]["value"] or 0.0)
    flat = told["flat"][rows]
    return {
        "measured": True,
        "n": int(rows.sum()),
        "steps": plan.adaptive_steps,
        "restarts": plan.adaptive_restarts,
        "static": {"attack": " + ".join(by.attack for by in attacks_of(plan)), **shares("static")},
        "adaptive": shares("static", *marks),
        "weights": weights,
        "best": best["weight"],
        "flat": round(float(flat.mean()), 4) if len(flat) else None,
    }


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
    told = ask_rows(subject.runner, Rows(subject.schema.from_unit(x_unit.cpu().numpy()), rows.y))
    wrong = ~np.asarray(told["right"], bool)
    unseen = wrong & (np.asarray(told["perturbation"], float) <= facts.perturbation_threshold)
    both = unseen & (np.asarray(told["drift"], float) > facts.alpha)
    return {"fooled": wrong, "unseen": unseen, "both": both}


def _flat(box: AnswersOf, x: Tensor) -> Bools:
    """Where the excess has no gradient `(N,)`: there the attack is blind, and so is its figure."""
    given = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(box(given)[1].sum(), given)
    return np.asarray((gradient.nan_to_num().flatten(1).abs().amax(dim=1) == 0).cpu())
