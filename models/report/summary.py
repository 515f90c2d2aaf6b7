"""What the figures say, in plain sentences: pure functions, so that the sentences have laws.

Words follow intervals: "worse" and "better" are said only where the 95 % interval of a difference
leaves out zero; what "falls short" is set by the constants below, not by taste.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.report.numbers import Share, bounds, known, listed, number, of_100, percent, points
from models.report.numbers import size as sized

Figures = Mapping[str, Any]

HALF = 0.5  # robust accuracy below: wrong more often than right
KEPT = 0.8  # share of clean accuracy that a corruption of the middle severity may leave
MIDDLE = 3
ECE_LIMIT = 0.05
AUROC_LIMIT = 0.8
SURE = 0.9  # confidence on something that is no instance of any class
FEW_ROWS = 200


@dataclass(frozen=True)
class Difference:
    """A difference of two shares with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "same"]:
        """`same` where the interval holds zero: the rows cannot tell them apart."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "same"


@dataclass(frozen=True)
class Finding:
    """A check and how it went; None where it was not run."""

    name: str
    passed: bool | None
    detail: str


def difference(now: Share, before: Share) -> Difference | None:
    """`now - before` with the interval from the two Wilson intervals; None where one is missing.

    d - sqrt((p - l)^2 + (u' - p')^2) to d + sqrt((u - p)^2 + (p' - l')^2) with [l, u] of `now`
    and [l', u'] of `before` (Newcombe 1998, method 10). On the same rows it is wider than need be:
    the gates judge row by row.
    """
    ends = [p.get(key) for p in (now, before) for key in ("value", "low", "high")]
    if any(end is None for end in ends):
        return None
    p, low, high, q, low_q, high_q = (float(end) for end in ends if end is not None)
    value = p - q
    return Difference(
        value,
        value - math.hypot(p - low, high_q - q),
        value + math.hypot(high - p, q - low_q),
    )


def compared(what: str, now: Share | None, before: Share | None, name: str) -> str | None:
    """How a figure stands against the one of `name`; None where one of them is missing."""
    if now is None or before is None or (gap := difference(now, before)) is None:
        return None
    ends = f"95% interval {points(gap.low)} to {points(gap.high)}"
    if gap.verdict == "same":
        return f"{what} cannot be told apart from {name}: {points(gap.value)} points, {ends}."
    return f"{what} is {gap.verdict} than {name} by {points(abs(gap.value))[1:]} points, {ends}."


def champion(previous: Figures | None) -> str:
    """How the previous champion is called in a sentence."""
    version = (previous or {}).get("version")
    return "the previous champion" + (f" (version {version})" if version is not None else "")


def threat_of(figures: Figures, kind: str) -> tuple[str, float | None, Mapping[str, Any]]:
    """Norm (`linf`, `l2` or `columns`), eps and columns; old figures mean L-inf of their eps."""
    threat = figures.get("threat") or {}
    norm = "columns" if kind == "tabular" else str(threat.get("norm") or "linf")
    return norm, threat.get("eps", figures.get("eps")), threat.get("columns") or {}


def attacker(figures: Figures, kind: str = "image", levels: int | None = None) -> str:
    """What the attacker may do, as the subject of a sentence."""
    norm, eps, columns = threat_of(figures, kind)
    if norm == "l2":
        return f"An attacker whose whole change may have length {sized(eps, levels)}"
    if norm == "linf":
        return f"An attacker who may change every value by {sized(eps, levels)} of its range"
    phrase = f"An attacker who may change every number by {sized(eps)} of its column's range"
    if columns:
        phrase += f" (with bounds of their own for {listed([str(c) for c in columns])})"
    return phrase


def title(figures: Figures) -> str:
    """The page in one line."""
    clean, robust = figures.get("clean"), figures.get("robust")
    if not known(clean):
        return "Not evaluated yet"
    assert clean is not None
    line = f"Right on {of_100(clean['value'])} of 100 clean rows"
    if not known(robust):
        return f"{line}; not attacked"
    assert robust is not None
    return f"{line}, and on {of_100(robust['value'])} of 100 under attack"


def lead(figures: Figures, kind: str = "image", levels: int | None = None) -> list[str]:
    """The first paragraph: clean, attacked, against the previous champion."""
    clean, robust = figures.get("clean"), figures.get("robust")
    said: list[str] = []
    if clean is not None and known(clean):
        n = f"n = {clean['n']}"
        said.append(
            f"Of 100 clean rows {of_100(clean['value'])} are answered rightly"
            f" (95% interval {bounds(clean)}, {n})."
        )
    if robust is not None and known(robust):
        who = attacker(figures, kind, levels)
        said.append(
            f"{who} leaves {of_100(robust['value'])} of 100"
            f" ({bounds(robust)}, n = {robust['n']})"
            f"{_by_attack(robust)}."
        )
        if figures.get("black_box"):
            said.append("The attack saw only answers, no gradients: a stronger one may leave fewer.")
    if (window := figures.get("window")) and known(window):
        said.append(
            f"On {window['n']} held-out rows of the live traffic that raised the alarm"
            f" {percent(window['value'])} are right ({bounds(window)})."
        )
    return said + against(figures)


def against(figures: Figures) -> list[str]:
    """How clean, robust and corrupted accuracy stand against the previous champion."""
    previous = figures.get("previous")
    if not previous:
        return []
    name = champion(previous)
    lines = [
        compared("Clean accuracy", figures.get("clean"), previous.get("clean"), name),
        compared("Accuracy under attack", figures.get("robust"), previous.get("robust"), name),
        corruption_error(figures.get("mce"), name),
    ]
    return [line for line in lines if line]


def corruption_error(mce: Share | None, name: str) -> str | None:
    """The mean corruption error in a sentence; "fewer" and "more" only if the interval says so."""
    if mce is None or not known(mce):
        return None
    ends, value = (mce.get("low"), mce.get("high")), float(mce["value"])
    share = f"{number(value)} times as many errors as {name}"
    if ends[0] is None or ends[1] is None:
        return f"Under corruption it makes {share}."
    wide = f"95% interval {number(ends[0])} to {number(ends[1])}"
    if ends[0] <= 1 <= ends[1]:
        return (
            f"Under corruption it cannot be told apart from {name}: {number(value)} times"
            f" as many errors, {wide}."
        )
    word = "fewer" if value < 1 else "more"
    return f"Under corruption it makes {word} errors than {name}: {number(value)} times, {wide}."


def shortfalls(figures: Figures) -> list[str]:
    """What falls short, by the constants of this module; empty where nothing does."""
    found = [
        *_accuracy_short(figures),
        *_corruption_short(figures),
        *_stress_short(figures),
        *_score_short(figures),
        *_edge_short(figures),
        *(f"Check not passed: {f.name}. {f.detail}" for f in findings(figures) if not passed(f)),
    ]
    return [line for line in found if line]


def passed(finding: Finding) -> bool:
    """Whether a check is no reproach: passed, or not run."""
    return finding.passed is not False


def findings(figures: Figures) -> list[Finding]:
    """The sanity checks: those of the evaluation, and those that the figures allow by themselves."""
    checks = [
        Finding(str(c.get("name", "check")), c.get("passed"), str(c.get("detail") or ""))
        for c in figures.get("masking") or []
    ]
    if not checks:
        checks = [Finding("gradient masking", None, "Not checked in this evaluation.")]
    return [*checks, *_own_checks(figures)]


def limits(figures: Figures, kind: str = "image", levels: int | None = None) -> list[str]:
    """What the figures do not say."""
    _, eps, _ = threat_of(figures, kind)
    n, said = figures.get("n"), []
    if known(figures.get("robust")):
        said.append(
            f"The figures hold for the attacks named, at the sizes named (up to"
            f" {sized(_largest(figures, eps), levels)}), and for rows like the held-out ones. A new"
            " attack can only lower them; only a certificate cannot be broken."
        )
    else:
        said.append("The version was not attacked: nothing is known of its robustness.")
    if figures.get("black_box"):
        said.append("Gradients were not at hand, so robust accuracy is an upper bound at best.")
    if figures.get("suite") == "quick":
        said.append("This is the quick suite; the full one tries more attacks and corruptions.")
    if isinstance(n, int) and 0 < n < FEW_ROWS:
        said.append(f"{n} rows are few: intervals are wide, and single classes say little.")
    if kind == "tabular":
        said.append("Columns are moved one by one: an attacker bound by laws between columns is not tried.")
    said.append(
        "The scores are a tripwire, the training is the defence: an attacker who knows the"
        " perturbation head can evade it in part."
    )
    return said


def _by_attack(robust: Share) -> str:
    return f" under the worst of {robust['attack']}" if robust.get("attack") else ""


def _largest(figures: Figures, eps: float | None) -> float | None:
    sizes = [p["eps"] for p in figures.get("robust_curve") or [] if p.get("eps") is not None]
    return max([*sizes, *([eps] if eps is not None else [])], default=None)


def _accuracy_short(figures: Figures) -> list[str]:
    clean, robust = figures.get("clean"), figures.get("robust")
    previous, said = figures.get("previous") or {}, []
    for what, now, before in (
        ("Clean accuracy", clean, previous.get("clean")),
        ("Accuracy under attack", robust, previous.get("robust")),
    ):
        gap = difference(now, before) if now and before else None
        if gap is not None and gap.verdict == "worse":
            said.append(compared(what, now, before, champion(previous)) or "")
    if robust is not None and known(robust) and robust["high"] < HALF:
        said.append(f"Under attack it is wrong more often than right ({bounds(robust)} right).")
    if clean is not None and known(clean):
        weak = [
            f"{name} ({percent(p['value'])})"
            for name, p in sorted(
                (figures.get("classes") or {}).items(), key=lambda item: item[1]["value"] or 0.0
            )
            if known(p) and p["high"] < clean["low"]
        ]
        if weak:
            said.append(f"Even without an attack it is weaker on some classes: {listed(weak)}.")
    return said


def _corruption_short(figures: Figures) -> list[str]:
    clean, said, mce = figures.get("clean"), [], figures.get("mce")
    if mce is not None and known(mce) and (mce.get("low") or 0) > 1:
        said.append(corruption_error(mce, champion(figures.get("previous"))) or "")
    if clean is None or not known(clean):
        return said
    weak = [
        f"{c['name']} ({percent(c['value'])})"
        for c in sorted(figures.get("corruptions") or [], key=lambda c: c.get("value") or 0.0)
        if c.get("severity") == MIDDLE and known(c) and c["high"] < KEPT * clean["value"]
    ]
    if weak:
        said.append(
            f"At severity {MIDDLE} of 5 some corruptions leave less than {KEPT:.0%} of the clean"
            f" accuracy: {listed(weak)}."
        )
    return said


def _stress_short(figures: Figures) -> list[str]:
    """Stress that costs much and goes unnoticed: neither right nor flagged."""
    clean = figures.get("clean")
    if clean is None or not known(clean):
        return []
    silent = {
        f"{s['name']} ({percent(s['value'])} right, {percent(s['drift_flagged'])} flagged)": s
        for s in figures.get("stress") or []
        if known(s)
        and s["high"] < KEPT * clean["value"]
        and s.get("drift_flagged") is not None
        and s["drift_flagged"] < HALF
    }
    if not silent:
        return []
    return [f"Errors in the input that cost much and are mostly not flagged: {listed(list(silent))}."]


def _score_short(figures: Figures) -> list[str]:
    said = []
    ece = (figures.get("calibration") or {}).get("ece")
    if ece is not None and known(ece) and (ece.get("low") or 0) > ECE_LIMIT:
        said.append(
            f"Stated probabilities are off by {percent(ece['value'])} on average"
            f" ({bounds(ece)}); more than {ECE_LIMIT:.0%}."
        )
    for curve in (figures.get("scores") or {}).get("roc") or []:
        if not curve.get("trained_on") and (curve.get("auroc") or 1.0) < AUROC_LIMIT:
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
        if (case.get("confidence") or 0) > SURE and (case.get("drift_flagged") or 0) < HALF
    ]
    if not sure:
        return []
    return [f"It answers with confidence, mostly without a flag, on {listed(sure)}."]


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
        detail = f"Not for {listed(broken)}." if broken else f"On {len(cases)} kinds of odd input."
        checks.append(Finding("answers are finite numbers", not broken, detail))
    robust = figures.get("robust")
    above = [
        str(a["attack"])
        for a in figures.get("attacks") or []
        if robust is not None and known(robust) and known(a) and a.get("eps") == figures.get("eps")
        if a["value"] < robust["value"] - 1e-9
    ]
    if figures.get("attacks"):
        detail = f"Below it: {listed(above)}." if above else "No attack at this size leaves fewer."
        checks.append(Finding("robust accuracy is the worst case", not above, detail))
    return checks
