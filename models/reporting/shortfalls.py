"""What falls short, and whether the figures may be believed: set by constants, not by taste."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.base.words import list_words
from models.evaluation.worth import beats_commonest, commonest_share
from models.reporting.numbers import (
    LONGEST,
    Share,
    bounds,
    clip,
    interval,
    known,
    percent,
    sentence,
    space_digits,
)
from models.reporting.summary import (
    champion,
    compare_shares,
    corruption_error,
    difference,
    robust_compared,
)
from models.versions.figures import AttackFigure, EdgeCase, Evaluation, Scores, StressFigure
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


def shortfalls(figures: Evaluation, calibration: Calibration | None = None) -> list[str]:
    """What falls short, by the constants of this module, in sentences; empty where nothing does."""
    return [
        *([] if calibration is None else too_few_to_flag(calibration)),
        *_trivial(figures),
        *_accuracy_short(figures),
        *_corruption_short(figures),
        *_stress_short(figures),
        *_score_short(figures),
        *_edge_short(figures),
        *_list_failed_checks(figures),
        *not_measured(figures),
    ]


def too_few_to_flag(calibration: Calibration) -> list[str]:
    """That no row can be flagged: of n calibration rows the rarest is 1 in n + 1 (conformal)."""
    needed = math.ceil(1 / calibration.alpha - 1e-9) - 1
    if calibration.n >= needed:
        return []
    what = "Nothing" if calibration.drift_n < needed else "Nothing but drift"
    return [
        f"{what} is ever flagged: the scores are calibrated on {calibration.n} rows, and to flag"
        f" {calibration.alpha:.0%} of clean rows takes at least {needed}. Give more rows."
    ]


def not_measured(figures: Evaluation) -> list[str]:
    """What could not be measured, by name, with its reason; one line for each reason."""
    names: dict[str, list[str]] = {}
    for gap in figures.not_measured:
        names.setdefault(gap.reason, []).append(gap.name)
    return [
        sentence(f"{list_words(gaps)}: not measured: {reason}") for reason, gaps in names.items()
    ]


def findings(figures: Evaluation) -> list[Finding]:
    """The sanity checks: those of the evaluation, and those that the figures allow."""
    checks = [Finding(space_digits(c.name), c.passed, sentence(c.detail)) for c in figures.masking]
    if not checks:
        checks = [Finding("gradient masking", None, "Not checked in this evaluation.")]
    own = [_flag_checks(figures.scores), _finite_check(figures), _sight_check(figures.scores)]
    return [*checks, *(check for group in own for check in group), *_worst_check(figures)]


def _list_failed_checks(figures: Evaluation) -> list[str]:
    names = [finding.name for finding in findings(figures) if finding.passed is False]
    return [f"Not every sanity check passed: {'; '.join(names)}."] if names else []


def _trivial(figures: Evaluation) -> list[str]:
    """That naming the most frequent class without looking would do as well."""
    clean, most = figures.clean, commonest_share(figures)
    if not known(clean) or most is None or beats_commonest(figures):
        return []
    line = (
        f"It is no better than always naming the most frequent class ({percent(most)} of the rows):"
        f" {bounds(clean)} right"
    )
    if known(figures.balanced_accuracy):
        line += f", balanced accuracy {interval(figures.balanced_accuracy)}"
    return [f"{line}. Its robustness means nothing."]


def _accuracy_short(figures: Evaluation) -> list[str]:
    clean, robust, previous = figures.clean, figures.robust, figures.previous
    lines = []
    if previous is not None:
        line = compare_shares("Clean accuracy", clean, previous.clean, champion(previous))
        lines += _if_worse(clean, previous.clean, line)
        if robust is not None and previous.robust is not None:
            lines += _if_worse(robust, previous.robust, robust_compared(figures))
    if known(robust) and robust.high < HALF:
        lines.append(f"Under attack it is wrong more often than right ({bounds(robust)} right).")
    if known(clean):
        classes = sorted((p.value, name, p) for name, p in figures.classes.items() if known(p))
        weak = [
            f"{clip(name, LONGEST)} ({percent(value)})"
            for value, name, p in classes
            if p.high < clean.low
        ]
        if weak:
            lines.append(
                f"Even without an attack it is weaker on some classes: {list_words(weak)}."
            )
    return lines


def _if_worse(now: Share, before: Share, line: str | None) -> list[str]:
    gap = difference(now, before)
    return [line] if line and gap is not None and gap.verdict == "worse" else []


def _corruption_short(figures: Evaluation) -> list[str]:
    clean, lines, mce = figures.clean, [], figures.mce
    if mce is not None and mce.low > 1:
        lines.append(corruption_error(mce, champion(figures.previous)) or "")
    if not known(clean):
        return lines
    weak = [
        f"{space_digits(c.name)} ({percent(c.value)})"
        for c in sorted(filter(known, figures.corruptions), key=lambda c: c.value)
        if c.severity == MIDDLE and c.high < KEPT * clean.value
    ]
    if weak:
        lines.append(
            f"At severity {MIDDLE} of 5 some corruptions leave less than {KEPT:.0%} of the clean"
            f" accuracy: {list_words(weak)}."
        )
    return lines


def _stress_short(figures: Evaluation) -> list[str]:
    """Stress that costs much and goes unnoticed: neither right nor flagged."""
    clean = figures.clean
    if not known(clean):
        return []
    silent: dict[str, str] = {}  # by kind, its worst severity
    for s in sorted(filter(known, figures.stress), key=lambda s: s.value):
        if s.high < KEPT * clean.value and _unflagged(s):
            flagged = f"{percent(s.value)} right, {percent(s.drift_flagged)} flagged"
            silent.setdefault(s.name, f"{space_digits(s.name)} ({flagged})")
    if not silent:
        return []
    kinds = list_words(list(silent.values()))
    return [f"Errors in the input that cost much and are mostly not flagged: {kinds}."]


def _unflagged(case: StressFigure | EdgeCase) -> bool:
    return case.drift_flagged < HALF


def _score_short(figures: Evaluation) -> list[str]:
    lines, scores = [], figures.scores
    stated = None if figures.calibration is None else figures.calibration.ece
    if known(stated) and stated.low > ECE_LIMIT:
        lines.append(_off("Stated probabilities are", stated))
    if scores is None:
        return lines
    likely = None if scores.likelihood is None else scores.likelihood.ece
    if known(likely) and likely.low > ECE_LIMIT:
        lines.append(_off("The perturbation likelihood is", likely))
    for curve in scores.roc:
        if not curve.trained_on and curve.auroc is not None and curve.high < AUROC_LIMIT:
            lines.append(
                f"The perturbation score hardly knows {curve.attack}, an attack it was not"
                f" trained on (AUROC {curve.auroc:.2f})."
            )
    return lines


def _off(subject: str, error: Share) -> str:
    return (
        f"{subject} off by {percent(error.value)} on average ({bounds(error)}); more than"
        f" {ECE_LIMIT:.0%}."
    )


def _edge_short(figures: Evaluation) -> list[str]:
    sure = [
        f"{case.name} (confidence {percent(case.confidence)}, flagged"
        f" {percent(case.drift_flagged)})"
        for case in figures.edge_cases
        if case.confidence > SURE and _unflagged(case)
    ]
    if not sure:
        return []
    return [f"It answers with confidence, mostly without a flag, on {list_words(sure)}."]


def _flag_checks(scores: Scores | None) -> list[Finding]:
    """Whether no more clean rows are flagged than the calibration explains."""
    if scores is None or scores.false_positives_expected is None:
        return []
    shares = (
        ("drift", scores.drift_false_positives, scores.drift_usual),
        ("perturbed", scores.perturbation_false_positives, scores.false_positives_expected),
    )
    checks = []
    for what, flagged, usual in shares:
        if known(flagged) and usual is not None:
            low, high = usual
            count = round(flagged.value * flagged.n)
            detail = f"{count} of {flagged.n}; {low} to {high} are usual."
            checks.append(Finding(f"clean rows flagged as {what}", low <= count <= high, detail))
    return checks


def _finite_check(figures: Evaluation) -> list[Finding]:
    cases = figures.edge_cases
    if not cases:
        return []
    broken = [case.name for case in cases if not case.finite]
    detail = f"Not for {list_words(broken)}." if broken else f"On {len(cases)} kinds of odd input."
    return [Finding("answers are finite numbers", not broken, detail)]


def _sight_check(scores: Scores | None) -> list[Finding]:
    adaptive = None if scores is None else scores.adaptive
    if adaptive is None or adaptive.flat is None:
        return []
    detail = f"Its gradient is zero on {percent(adaptive.flat)} of the attacked rows."
    seen = adaptive.flat <= BLIND
    return [Finding("the attacker sees the perturbation score", seen, detail)]


def _worst_check(figures: Evaluation) -> list[Finding]:
    """Whether no attack leaves fewer rows than the worst case of all of them."""
    if not figures.attacks or figures.robust is None:
        return []
    below = _below(figures.attacks, figures.robust.value, figures.eps)
    detail = f"Below it: {list_words(below)}." if below else "No attack at this size leaves fewer."
    return [Finding("robust accuracy is the worst case", not below, detail)]


def _below(attacks: Sequence[AttackFigure], value: float, eps: float) -> list[str]:
    return [a.attack for a in attacks if known(a) and a.eps == eps and a.value < value - 1e-9]
