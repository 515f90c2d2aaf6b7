"""From what the units found, row by row, to the figures of a report: plain data."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from models.corruptions import IMAGENET_C
from models.evaluation.adaptive import adaptive_figures, obstacle
from models.evaluation.certify import largest_radius
from models.evaluation.gallery import gallery
from models.evaluation.inputs import edge_cases
from models.evaluation.masking import Evidence, masking
from models.evaluation.plan import Plan
from models.evaluation.scores import scores
from models.evaluation.subject import Arrays, Subject
from models.evaluation.tasks import SAMPLES, SIGMA, Tasks
from models.statistics.calibration import reliability
from models.statistics.intervals import Bools, mean_corruption_error, proportion

ALPHA = 0.001
CONFUSIONS = 10
Figures = dict[str, Any]
Changed = Mapping[tuple[str, str, int], Arrays]  # by group, name, severity


def figures_of(
    tasks: Tasks, *, seed: int, previous: Figures | None, previous_version: int | None
) -> Figures:
    """All figures of an evaluation whose units have run."""
    subject, rows, plan, results = tasks.subject, tasks.rows, tasks.plan, tasks.results
    clean = _flags(results["clean"])
    kinds, stressed = _collect_answers(results, "corruption"), _collect_answers(results, "stress")
    wrong = {key: ~_flags(told) for key, told in kinds.items()}
    return {
        "suite": plan.suite,
        "n": len(rows),
        "seed": seed,
        "threat": msgspec.to_builtins(plan.threat),
        "eps": plan.threat.eps,
        "black_box": subject.black_box,
        "clean": _plain(clean),
        "window": _plain(_flags(results["window"])) if "window" in results else None,
        "classes": _by_class(subject, rows.y, clean),
        "confusions": _confusions(subject, rows.y, results["clean"]),
        **_under_attack(tasks),
        "corruptions": _corruptions(kinds),
        "mce": relative_error(wrong, previous, previous_version),
        "stress": _stress(stressed, subject.runner.manifest.calibration.alpha),
        "edge_cases": edge_cases(subject.runner, seed=seed, examples=rows.x),
        "calibration": reliability(np.asarray(results["clean"]["confidence"]), clean),
        "scores": scores(
            subject.runner,
            results,
            plan,
            _middle(kinds | stressed),
            black_box=subject.black_box,
            seed=seed,
        )
        | {"adaptive": adaptive_figures(results, plan, obstacle(subject))},
        "certified": _compute_certified_accuracy(results),
        "gallery": _gallery(tasks),
        "previous": None if previous is None else _of_previous(previous, previous_version),
    }


def _under_attack(tasks: Tasks) -> Figures:
    """Attacks, the worst of them, the curves and the checks of masking."""
    subject, y, plan, results = tasks.subject, tasks.rows.y, tasks.plan, tasks.results
    worst = _worst(results, plan)
    noise = [(eps, _flags(results[f"noise-{eps:g}"])) for eps in plan.sizes]
    return {
        "classes_robust": _by_class(subject, y, worst),
        "robust": _plain(worst) | {"attack": " + ".join(_names(plan))},
        "attacks": _attacks(results, plan),
        "robust_curve": _curve(results, plan),
        "noise_curve": [{"eps": eps, **_plain(flags)} for eps, flags in noise],
        "masking": masking(_evidence(results, plan, y)),
    }


def _corruptions(kinds: Changed) -> list[Figures]:
    return [
        {"name": name, "group": group, "severity": severity, **_plain(_flags(told))}
        for (group, name, severity), told in kinds.items()
    ]


def _stress(kinds: Changed, alpha: float) -> list[Figures]:
    return [
        {
            "name": name,
            "severity": severity,
            **_plain(_flags(told)),
            "drift_flagged": _share(np.asarray(told["drift"], float) <= alpha),
        }
        for (_, name, severity), told in kinds.items()
    ]


def summary(figures: Figures) -> Figures:
    """The figures that the manifest holds: all but the pictures and the points of ROC curves."""
    roc = [{k: v for k, v in r.items() if k != "points"} for r in figures["scores"]["roc"]]
    kept = {k: v for k, v in figures.items() if k != "gallery"}
    return kept | {"scores": figures["scores"] | {"roc": roc}}


def relative_error(
    wrong: Mapping[tuple[str, str, int], Bools],
    previous: Figures | None,
    version: int | None,
) -> Figures | None:
    """Mean corruption error relative to the previous champion, over the kinds that both have.

    Over ImageNet-C's fifteen where both have them all, as is usual, else over all in common.

    Args:
        wrong: which answers `(n,)` were wrong, by (group, name, severity).
        previous: its figures; nothing comes of None or of other kinds.
        version: its number.
    """
    theirs = {
        (p.get("group", "holdfast"), p["name"], p["severity"]): p
        for p in (previous or {}).get("corruptions", [])
        if p["value"] is not None
    }
    kinds = sorted({key[:2] for key in wrong if key in theirs})
    usual = [kind for kind in kinds if kind[0] == "imagenet-c"]
    if len(usual) == len(IMAGENET_C):
        kinds = usual
    if not kinds:
        return None
    own, reference, counts = [], [], []
    for kind in kinds:
        keys = [key for key in wrong if key[:2] == kind and key in theirs]
        own.append(np.stack([wrong[key] for key in keys]))
        reference.append(np.array([1 - theirs[key]["value"] for key in keys]))
        counts += [theirs[key]["n"] for key in keys]
    value, low, high = mean_corruption_error(own, reference, min(counts))
    told = {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
    return told | {"n": own[0].shape[1], "kinds": len(kinds), "relative_to": version}


def _flags(told: Arrays) -> Bools:
    return np.asarray(told["right"], dtype=bool)


def _plain(flags: Bools) -> Figures:
    return proportion(flags).plain()


def _share(flags: Bools) -> float:
    return round(float(flags.mean()), 4)


def _by_class(subject: Subject, y: Any, flags: Bools) -> Figures:
    return {name: _plain(flags[y == k]) for k, name in enumerate(subject.classes)}


def _names(plan: Plan) -> list[str]:
    """What the worst case is the worst of."""
    names = [*(by.attack for by in plan.cascade), *map(str, plan.alone)]
    return [*names, *["autoattack (reference)"] * plan.autoattack]


def _worst(results: Mapping[str, Arrays], plan: Plan) -> Bools:
    """Rows right without an attack and under every attack that was run at the threat's size."""
    eps = f"{plan.threat.eps:g}"
    names = ["cascade", *(f"alone-{by.attack}" for by in plan.alone)]
    names += [f"curve-{eps}", "autoattack"]
    worst = _flags(results["clean"]).copy()
    for name in names:
        if name in results:
            worst &= _flags(results[name])
    return worst


def _attacks(results: Mapping[str, Arrays], plan: Plan) -> list[Figures]:
    """Accuracy under each attack; a name with `+` is what is left after all of those."""
    clean, eps = _flags(results["clean"]), plan.threat.eps
    told = [(str(by), clean & _flags(results[f"alone-{by.attack}"])) for by in plan.alone]
    cascade = [by.attack for by in plan.cascade]
    for count, attack in enumerate(cascade, start=1):
        last = count == len(cascade)
        flags = results["cascade"]["right" if last else f"after-{attack}"].astype(bool)
        told.append((" + ".join(cascade[:count]), flags))
    if plan.autoattack:
        told.append(("autoattack (reference)", _flags(results["autoattack"])))
    return [{"attack": name, "eps": eps, **_plain(flags)} for name, flags in told]


def _curve(results: Mapping[str, Arrays], plan: Plan) -> list[Figures]:
    name = " + ".join(map(str, plan.curve))
    return [
        {"attack": name, "eps": eps, **_plain(_flags(results[f"curve-{eps:g}"]))}
        for eps in plan.sizes
    ]


def _evidence(results: Mapping[str, Arrays], plan: Plan, y: Any) -> Evidence:
    """What the checks for masked gradients look at."""
    eps, clean = f"{plan.threat.eps:g}", _flags(results["clean"])
    white = "alone-pgd" in results
    alone = {by.attack: clean & _flags(results[f"alone-{by.attack}"]) for by in plan.alone}
    strongest = str(plan.alone_by("pgd") if white else plan.cascade[0])
    chance = float(np.bincount(y).max()) / len(y)
    return Evidence(
        curve=[(size, _flags(results[f"curve-{size:g}"])) for size in plan.sizes],
        chance=chance,
        hopeless=plan.hopeless is not None,
        attack=alone["pgd"] if white else _flags(results["cascade"]),
        noise=clean & _flags(results[f"noise-{eps}"]),
        single=alone.get("fgsm"),
        iterated=alone.get("pgd"),
        fewer=clean & _flags(results["few-pgd"]) if white else None,
        more=alone.get("pgd"),
        white=results["cascade"]["after-apgd-t"].astype(bool) if white else None,
        black=alone["square"] if white else None,
        names=(
            ("attack", strongest),
            ("noise", "noise of the same size"),
            ("single", "fgsm"),
            ("iterated", strongest),
            ("fewer", str(plan.few)),
            ("more", strongest),
            ("white", "apgd-ce + apgd-t"),
            ("black", str(plan.alone_by("square"))),
        ),
    )


def _collect_answers(
    results: Mapping[str, Arrays], kind: str
) -> dict[tuple[str, str, int], Arrays]:
    """Answers to corrupted or stressed rows by (group, name, severity)."""
    found = {}
    for unit, told in results.items():
        if unit.startswith(f"{kind}-"):
            middle, _, severity = unit.removeprefix(f"{kind}-").rpartition("-")
            group, _, name = middle.rpartition("-")
            found[group, name, int(severity)] = told
    return found


def _middle(changed: Changed) -> dict[str, Arrays]:
    """Those of severity 3, named as people would."""
    return {
        name if group in ("holdfast", "") else f"{group}: {name}": told
        for (group, name, severity), told in changed.items()
        if severity == 3
    }


def _confusions(subject: Subject, y: Any, told: Arrays) -> list[Figures]:
    predicted, count = told["predicted"].astype(int), len(subject.classes)
    pairs = np.bincount(y * count + predicted, minlength=count * count).reshape(count, count)
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:CONFUSIONS]
    names = subject.classes
    return [
        {
            "true": names[true],
            "predicted": names[other],
            "count": int(pairs[true, other]),
            "n": int((y == true).sum()),
        }
        for true, other in (divmod(int(place), count) for place in order)
        if pairs[true, other]
    ]


def _compute_certified_accuracy(results: Mapping[str, Arrays]) -> Figures | None:
    """Certified accuracy up to the largest radius that the samples can give."""
    if "certificates" not in results:
        return None
    radius = results["certificates"]["radius"].astype(float)
    end = largest_radius(SIGMA, SAMPLES, ALPHA)
    points = [
        {"radius": round(r, 4), **_plain(radius >= r)} for r in np.linspace(0, end, 9).tolist()
    ]
    told = {"sigma": SIGMA, "samples": SAMPLES, "alpha": ALPHA, "n": len(radius)}
    return told | {"points": points}


def _gallery(tasks: Tasks) -> list[Figures]:
    found, subject = tasks.results.get("smallest"), tasks.subject
    if found is None:
        return []
    norm = tasks.plan.threat.norm
    return gallery(subject.schema, subject.classes, tasks.rows, found, norm)


def _of_previous(previous: Figures, version: int | None) -> Figures:
    """What the report shows of it beside one's own; versions of old have less."""
    return {
        "version": version,
        "clean": previous.get("clean"),
        "robust": previous.get("robust"),
        "robust_curve": previous.get("robust_curve", []),
        "corruptions": previous.get("corruptions", []),
        "calibration": previous.get("calibration"),
    }
