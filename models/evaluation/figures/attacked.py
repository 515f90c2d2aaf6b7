"""The figures under attack: what each attack left, the worst of them, and evidence on masking."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.figures.masking import Evidence
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays, right_rows
from models.statistics.arrays import Bools, IntArray
from models.statistics.intervals import proportion
from models.versions.figures import AttackFigure

REFERENCE = "autoattack (reference)"
Results = Mapping[str, Arrays]


def worst_case(
    results: Results, plan: Plan, groups: IntArray | None = None
) -> tuple[AttackFigure | None, Bools | None]:
    """Accuracy under the worst of the attacks at the threat's size, and its rows `(N,)`.

    A row counts that is right without an attack and under every attack that was run. Without the
    cascade, the strongest of them, there is no figure: the others would flatter.
    """
    if "cascade" not in results:
        return None, None
    ran = [*(by.attack for by in plan.cascade)]
    units = ["cascade"]
    for by in plan.alone:
        if f"alone-{by.attack}" in results:
            units.append(f"alone-{by.attack}")
            ran.append(str(by))
    if "autoattack" in results:
        units.append("autoattack")
        ran.append(REFERENCE)
    units += [f"curve-{plan.threat.eps:g}"] * (f"curve-{plan.threat.eps:g}" in results)
    worst = right_rows(results["clean"])
    for unit in units:
        worst = worst & right_rows(results[unit])
    share = proportion(worst, groups)
    return AttackFigure(*share.parts, attack=" + ".join(ran), eps=plan.threat.eps), worst


def attack_figures(
    results: Results, plan: Plan, groups: IntArray | None = None
) -> tuple[AttackFigure, ...]:
    """Accuracy under each attack; a name with `+` is what is left after all of those."""
    clean, eps = right_rows(results["clean"]), plan.threat.eps
    left = [
        (str(by), clean & right_rows(results[unit]))
        for by in plan.alone
        if (unit := f"alone-{by.attack}") in results
    ]
    if "cascade" in results:
        left += _after_each(results["cascade"], [by.attack for by in plan.cascade])
    if "autoattack" in results:
        left.append((REFERENCE, right_rows(results["autoattack"])))
    return tuple(
        AttackFigure(*proportion(flags, groups).parts, attack=name, eps=eps) for name, flags in left
    )


def curve_figures(
    results: Results, plan: Plan, groups: IntArray | None = None
) -> tuple[AttackFigure, ...]:
    """Accuracy under the attacks of the curve, by size."""
    name = " + ".join(map(str, plan.curve))
    return tuple(
        AttackFigure(*proportion(right_rows(results[unit]), groups).parts, attack=name, eps=eps)
        for eps in plan.sizes
        if (unit := f"curve-{eps:g}") in results
    )


def masking_evidence(results: Results, plan: Plan, y: IntArray) -> Evidence | None:
    """What the checks for masked gradients look at; None without a curve of two sizes."""
    clean, white_box = right_rows(results["clean"]), plan.few is not None

    def left(unit: str) -> Bools | None:
        return clean & right_rows(results[unit]) if unit in results else None

    curve = [
        (size, right_rows(results[unit]))
        for size in plan.sizes
        if (unit := f"curve-{size:g}") in results
    ]
    if len(curve) < 2:
        return None
    cascade, attack = results.get("cascade"), left("alone-pgd")
    return Evidence(
        curve=curve,
        chance=float(np.bincount(y).max()) / len(y),
        hopeless=plan.hopeless is not None and curve[-1][0] == plan.sizes[-1],
        attack=attack if white_box else left("cascade"),
        noise=left(f"noise-{plan.threat.eps:g}"),
        single=left("alone-fgsm"),
        iterated=attack,
        fewer=left("few-pgd"),
        more=attack,
        white=np.asarray(cascade["after-apgd-t"], bool) if white_box and cascade else None,
        black=left("alone-square") if white_box else None,
        names=_attack_names(plan, white_box=white_box),
    )


def _attack_names(plan: Plan, *, white_box: bool) -> tuple[tuple[str, str], ...]:
    """What the fields of the evidence were, for its sentences."""
    strongest = str(plan.alone_by("pgd") if white_box else plan.cascade[0])
    return (
        ("attack", strongest),
        ("noise", "noise of the same size"),
        ("single", "fgsm"),
        ("iterated", strongest),
        ("fewer", str(plan.few)),
        ("more", strongest),
        ("white", "apgd-ce + apgd-t"),
        ("black", str(plan.alone_by("square"))),
    )


def _after_each(cascade: Arrays, names: Sequence[str]) -> list[tuple[str, Bools]]:
    """What is left after the first attack, the first two, and so on."""
    left = []
    for count, attack in enumerate(names, start=1):
        last = count == len(names)
        flags = np.asarray(cascade["right" if last else f"after-{attack}"], dtype=bool)
        left.append((" + ".join(names[:count]), flags))
    return left
