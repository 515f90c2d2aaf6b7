"""What falls short, and whether the figures may be believed: set by constants, not by taste."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.reporting.numbers import (
    LONGEST,
    bounds,
    clip,
    known,
    list_words,
    percent,
    sentence,
    space_digits,
)
from models.reporting.summary import (
    Figures,
    adaptive_of,
    champion,
    compare_shares,
    corruption_error,
    difference,
    robust_compared,
)
from models.versions.schema import Calibration

HALF = 0.5  # robust accuracy below: wrong more often than right
KEPT = 0.8  # share of clean accuracy that a corruption of the middle severity may leave
MIDDLE = 3
ECE_LIMIT = 0.05
AUROC_LIMIT = 0.8
BLIND = 0.05  # share of rows without a gradient, above which the adaptive figure flatters
SURE = 0.9  # confidence on something that is no instance of any class


@dataclass(frozen=True)
class Finding:
    """A check and how it went; None where it was not run."""

    name: str
    passed: bool | None
    detail: str


def shortfalls(figures: Figures, held: Calibration | None = None) -> list[str]:
    """What falls short, by the constants of this module, in sentences; empty where nothing does."""
    found = [
        *([] if held is None else too_few_to_flag(held)),
        *_trivial(figures),
        *_accuracy_short(figures),
        *_corruption_short(figures),
        *_stress_short(figures),
        *_score_short(figures),
        *_edge_short(figures),
        *_list_failed_checks(figures),
    ]
    return [line for line in found if line]


def too_few_to_flag(held: Calibration) -> list[str]:
    """That no row can be flagged: of n calibration rows the rarest is 1 in n + 1 (conformal)."""
    needed = math.ceil(1 / held.alpha - 1e-9) - 1
    if held.n >= needed:
        return []
    return [
        f"Nothing is ever flagged: the scores are calibrated on {held.n} rows, and to flag"
        f" {held.alpha:.0%} of clean rows takes at least {needed}. Give more rows."
    ]


def findings(figures: Figures) -> list[Finding]:
    """The sanity checks: those of the evaluation, and those that the figures allow."""
    checks = [
        Finding(space_digits(c.get("name", "check")), c.get("passed"), sentence(c.get("detail")))
        for c in figures.get("masking") or []
    ]
    if not checks:
        checks = [Finding("gradient masking", None, "Not checked in this evaluation.")]
    return [*checks, *_own_checks(figures)]


def _list_failed_checks(figures: Figures) -> list[str]:
    names = [finding.name for finding in findings(figures) if finding.passed is False]
    return [f"Not every sanity check passed: {'; '.join(names)}."] if names else []


def _trivial(figures: Figures) -> list[str]:
    """That naming the most frequent class without looking would do as well."""
    clean = figures.get("clean")
    counts = [p.get("n") or 0 for p in (figures.get("classes") or {}).values() if p]
    if clean is None or not known(clean) or not sum(counts):
        return []
    most = max(counts) / sum(counts)
    if clean["low"] > most:
        return []
    return [
        f"It is no better than always naming the most frequent class ({percent(most)} of the rows):"
        f" {bounds(clean)} right. Its robustness means nothing."
    ]


def _accuracy_short(figures: Figures) -> list[str]:
    clean, robust = figures.get("clean"), figures.get("robust")
    previous, said = figures.get("previous") or {}, []
    lines = (
        (clean, compare_shares("Clean accuracy", clean, previous.get("clean"), champion(previous))),
        (robust, robust_compared(figures)),
    )
    for key, (now, line) in zip(("clean", "robust"), lines, strict=True):
        before = previous.get(key)
        gap = difference(now, before) if now and before else None
        if line is not None and gap is not None and gap.verdict == "worse":
            said.append(line)
    if robust is not None and known(robust) and robust["high"] < HALF:
        said.append(f"Under attack it is wrong more often than right ({bounds(robust)} right).")
    if clean is not None and known(clean):
        classes = [(str(k), p) for k, p in (figures.get("classes") or {}).items() if known(p)]
        classes.sort(key=lambda item: item[1]["value"])
        weak = [
            f"{clip(name, LONGEST)} ({percent(p['value'])})"
            for name, p in classes
            if p["high"] < clean["low"]
        ]
        if weak:
            said.append(f"Even without an attack it is weaker on some classes: {list_words(weak)}.")
    return said


def _corruption_short(figures: Figures) -> list[str]:
    clean, said, mce = figures.get("clean"), [], figures.get("mce")
    if mce is not None and known(mce) and (mce.get("low") or 0) > 1:
        said.append(corruption_error(mce, champion(figures.get("previous"))) or "")
    if clean is None or not known(clean):
        return said
    weak = [
        f"{space_digits(c['name'])} ({percent(c['value'])})"
        for c in sorted(figures.get("corruptions") or [], key=lambda c: c.get("value") or 0.0)
        if c.get("severity") == MIDDLE and known(c) and c["high"] < KEPT * clean["value"]
    ]
    if weak:
        said.append(
            f"At severity {MIDDLE} of 5 some corruptions leave less than {KEPT:.0%} of the clean"
            f" accuracy: {list_words(weak)}."
        )
    return said


def _stress_short(figures: Figures) -> list[str]:
    """Stress that costs much and goes unnoticed: neither right nor flagged."""
    clean = figures.get("clean")
    if clean is None or not known(clean):
        return []
    silent: dict[str, str] = {}  # by kind, its worst severity
    for s in sorted(figures.get("stress") or [], key=lambda s: s.get("value") or 0.0):
        if known(s) and s["high"] < KEPT * clean["value"] and _unflagged(s):
            flagged = f"{percent(s['value'])} right, {percent(s['drift_flagged'])} flagged"
            silent.setdefault(str(s["name"]), f"{space_digits(s['name'])} ({flagged})")
    if not silent:
        return []
    kinds = list_words(list(silent.values()))
    return [f"Errors in the input that cost much and are mostly not flagged: {kinds}."]


def _unflagged(case: Mapping[str, Any]) -> bool:
    return case.get("drift_flagged") is not None and case["drift_flagged"] < HALF


def _score_short(figures: Figures) -> list[str]:
    said = []
    ece = (figures.get("calibration") or {}).get("ece")
    if ece is not None and known(ece) and (ece.get("low") or 0) > ECE_LIMIT:
        said.append(
            f"Stated probabilities are off by {percent(ece['value'])} on average"
            f" ({bounds(ece)}); more than {ECE_LIMIT:.0%}."
        )
    scores = figures.get("scores") or {}
    likely = (scores.get("likelihood") or {}).get("ece")
    if known(likely) and (likely.get("low") or 0) > ECE_LIMIT:
        said.append(
            f"The perturbation likelihood is off by {percent(likely['value'])} on average"
            f" ({bounds(likely)}); more than {ECE_LIMIT:.0%}."
        )
    if (reason := adaptive_of(figures).get("reason")) is not None:
        said.append(
            "What an attacker achieves who knows the perturbation score was not measured:"
            f" {reason}."
        )
    for curve in scores.get("roc") or []:
        known_to_be = curve.get("high", curve.get("auroc"))
        if not curve.get("trained_on") and known_to_be is not None and known_to_be < AUROC_LIMIT:
            said.append(
                f"The perturbation score hardly knows {curve['attack']}, an attack it was not"
                f" trained on (AUROC {curve['auroc']:.2f})."
            )
    return said


def _edge_short(figures: Figures) -> list[str]:
    sure = [
        f"{case['name']} (confidence {percent(case['confidence'])}, flagged"
        f" {percent(case['drift_flagged'])})"
        for case in figures.get("edge_cases") or []
        if (case.get("confidence") or 0) > SURE and _unflagged(case)
    ]
    if not sure:
        return []
    return [f"It answers with confidence, mostly without a flag, on {list_words(sure)}."]


def _own_checks(figures: Figures) -> list[Finding]:
    checks, scores = [], figures.get("scores") or {}
    expected = scores.get("false_positives_expected")
    for key, what in (("drift", "drift"), ("perturbation", "perturbed")):
        flagged = scores.get(f"{key}_false_positives")
        if expected and flagged is not None and known(flagged):
            count = round(flagged["value"] * flagged["n"])
            checks.append(
                Finding(
                    f"clean rows flagged as {what}",
                    expected[0] <= count <= expected[1],
                    f"{count} of {flagged['n']}; {expected[0]} to {expected[1]} are usual.",
                )
            )
    cases = [c for c in figures.get("edge_cases") or [] if c.get("finite") is not None]
    if cases:
        broken = [str(c["name"]) for c in cases if not c["finite"]]
        detail = (
            f"Not for {list_words(broken)}." if broken else f"On {len(cases)} kinds of odd input."
        )
        checks.append(Finding("answers are finite numbers", not broken, detail))
    robust = figures.get("robust")
    above = [
        str(a["attack"])
        for a in figures.get("attacks") or []
        if robust is not None and known(robust) and known(a) and a.get("eps") == figures.get("eps")
        if a["value"] < robust["value"] - 1e-9
    ]
    if (flat := adaptive_of(figures).get("flat")) is not None:
        detail = f"Its gradient is zero on {percent(flat)} of the attacked rows."
        checks.append(Finding("the attacker sees the perturbation score", flat <= BLIND, detail))
    if figures.get("attacks"):
        detail = (
            f"Below it: {list_words(above)}." if above else "No attack at this size leaves fewer."
        )
        checks.append(Finding("robust accuracy is the worst case", not above, detail))
    return checks
