"""The part on single answers: calibration, classes, the scores, the smallest changes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.reporting import charts, detectors, grids
from models.reporting.charts import Axis, Mark, Series
from models.reporting.numbers import (
    DASH,
    LONGEST,
    Share,
    clip,
    interval,
    known,
    list_words,
    number,
    percent,
    space_digits,
)
from models.reporting.numbers import size as sized
from models.reporting.parts import Picture, Plate, Section, View, WordTable
from models.reporting.reliability import reliability_plate

WORST = 8
MOST_PICTURES = 24
MOST_CURVES = 5
LOWEST = 1e-3  # false-positive rate at which the ROC begins
_RATES = [LOWEST * 10 ** (k / 20) for k in range(61)]
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def calibration(view: View) -> Section:
    """Whether stated confidence means what it says."""
    facts = view.figures.get("calibration") or {}
    ece, bins = facts.get("ece"), [b for b in facts.get("bins") or [] if b.get("n")]
    words = []
    if ece is not None and known(ece):
        words.append(
            f"Stated confidence and the share of right answers differ by {percent(ece['value'])} on"
            f" average (expected calibration error, 95% interval {percent(ece.get('low'))} to"
            f" {percent(ece.get('high'))}, n = {ece.get('n', DASH)})."
        )
        before = (view.previous.get("calibration") or {}).get("ece")
        if before is not None and known(before):
            words.append(f"Of the {view.before} it is {interval(before)}.")
    if bins and ece is not None and (ece.get("low") or 0) > 0:
        words.append(f"On the whole it is {lean(bins)} than it should be.")
    if not bins:
        return Section("calibration", "Calibration", words=words)
    return Section("calibration", "Calibration", words=words, plates=[_reliability(bins)])


def lean(bins: Sequence[Mapping[str, Any]]) -> str:
    """Which way confidence errs, over all rows.

    >>> lean([{"n": 9, "confidence": 0.9, "accuracy": 0.7}])
    'surer'
    """
    gap = sum(b["n"] * (b["confidence"] - b["accuracy"]) for b in bins)
    return "surer" if gap > 0 else "less sure"


def classes(view: View) -> Section:
    """The worst classes, clean and attacked, and what is taken for what."""
    clean = {str(k): p for k, p in (view.figures.get("classes") or {}).items()}
    robust = {str(k): p for k, p in (view.figures.get("classes_robust") or {}).items()}
    ranked = sorted(
        (name for name in clean if known(clean[name])),
        key=lambda name: _hardest(clean[name], robust.get(name))["value"],
    )
    plates = [_forest(clean, robust, ranked)] if ranked else []
    tables = [_confusions(view)] if view.items("confusions") else []
    words = []
    if len(ranked) > 1:
        by = "under attack" if robust else "without an attack"
        weakest = list_words([clip(name, LONGEST) for name in ranked[:3]])
        words.append(f"Of {len(clean)} classes the weakest {by}: {weakest}.")
    worst = view.items("confusions")[0] if tables else {}
    if (worst.get("count") or 0) > 1:
        words.append(
            f"Most often {clip(str(worst.get('true')), LONGEST)} is taken for"
            f" {clip(str(worst.get('predicted')), LONGEST)}: {worst.get('count', DASH)} of"
            f" {worst.get('n', DASH)} rows."
        )
    return Section("classes", "Classes", words=words, plates=plates, tables=tables)


def scores(view: View) -> Section:
    """How the two scores of every answer do: false alarms, what is caught, ROC."""
    facts = view.figures.get("scores") or {}
    plate = _roc(view, facts.get("roc") or [])
    curves, benign = facts.get("roc"), facts.get("severity_3") or {}
    benign = {name: row for name, row in benign.items() if row}
    tables = [_aurocs(curves)] if curves else []
    tables += [_flags(view, facts)] if facts else []
    tables += [_benign(benign)] if benign else []
    words = []
    if facts:
        words.append(
            "Every answer carries two scores: how far the input lies from what the model knows"
            " (drift), and how likely it was tampered with (perturbation). Thresholds are set so"
            f" that {percent(view.alpha)} of clean rows are flagged."
        )
    words += [*_caught(view), *detectors.words(view)]
    plates = [*([plate] if plate else []), *detectors.plates(view)]
    return Section("scores", "The scores", words=words, plates=plates, tables=tables)


def gallery(view: View) -> Section:
    """The smallest changes that were found to alter an answer."""
    chosen = [
        item
        for item in view.items("gallery")
        if all(PICTURE.fullmatch(str(item.get(k))) for k in ("original", "changed", "difference"))
    ]
    chosen.sort(key=lambda item: item.get("eps") or 0.0)
    pictures = [
        Picture(
            f"{item.get('true', DASH)} → {item.get('predicted', DASH)}, eps"
            f" {sized(item.get('eps'), view.levels)}",
            *(str(item[k]) for k in ("original", "changed", "difference")),
        )
        for item in chosen[:MOST_PICTURES]
    ]
    words = [
        "Rows that need the least change to be answered wrongly: as they are, changed, and the"
        " change itself, magnified (grey: none)."
    ]
    small = max(view.manifest.input.shape[-2:], default=0) <= 96
    return Section(
        "gallery",
        "Smallest changes",
        words=words if pictures else [],
        pictures=pictures,
        pixelated=small,
    )


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Plate:
    return reliability_plate(
        "reliability",
        "Reliability diagram",
        "Stated confidence, and how often it was right",
        bins,
        "On the diagonal, confidence is what it says; below it the model is surer than it should"
        " be. Horizontal: the range of the bin; vertical: 95% interval of the share.",
        told="confidence {stated}: right {was}",
        header=("confidence from", "to", "rows", "mean confidence", "right"),
    )


def _hardest(clean: Share, robust: Share | None) -> Share:
    return robust if known(robust) else clean


def _forest(
    clean: Mapping[str, Share], robust: Mapping[str, Share], ranked: Sequence[str]
) -> Plate:
    rows = [grids.Row(name, clean[name], robust.get(name)) for name in ranked[:WORST]]
    drawing = grids.forest(
        "classes",
        "The weakest classes",
        "; ".join(f"{r.label}: {percent(r.share['value'])}" for r in rows) + ".",
        rows,
        names=("without an attack", "under attack" if robust else None),
    )
    keep = 3 if robust else 2
    head = ("class", "right (95% interval)", "under attack (95% interval)")
    table = [(name, interval(clean[name]), interval(robust.get(name))) for name in clean]
    behind = WordTable(head[:keep], [row[:keep] for row in table], "All classes")
    caption = "Lines are 95% intervals" + (
        "; the figure is the one under attack." * bool(robust) or "."
    )
    title = f"The {len(rows)} weakest of {len(clean)} classes" if len(clean) > WORST else "By class"
    return Plate(title, drawing, caption, behind)


def _confusions(view: View) -> WordTable:
    return WordTable(
        ("is", "taken for", "rows", "of"),
        [
            (
                str(c.get("true", DASH)),
                str(c.get("predicted", DASH)),
                str(c.get("count", DASH)),
                str(c.get("n", DASH)),
            )
            for c in view.items("confusions")
        ],
        "What is taken for what, without an attack",
        half=True,
    )


def _roc(view: View, curves: Sequence[Mapping[str, Any]]) -> Plate | None:
    drawable = [c for c in curves if len(c.get("points") or []) > 1]
    drawable.sort(key=lambda c: bool(c.get("trained_on")))  # the honest test first
    if not drawable:
        return None
    series, left = [], [str(c.get("attack")) for c in drawable[MOST_CURVES:]]
    for k, c in enumerate(drawable[:MOST_CURVES]):
        rates = sorted({*_RATES, *(float(p[0]) for p in c["points"] if p[0] > LOWEST)})
        points = tuple((rate, at_rate(c["points"], rate), None, None) for rate in rates)
        spot = ((view.alpha, at_rate(c["points"], view.alpha)),)
        series.append(Series(_roc_name(c), points, f"k{k}", k, spot))
    chance = tuple((rate, rate, None, None) for rate in _RATES)
    series.append(Series("guessing", chance, "chance", None))
    drawing = charts.lines(
        "roc",
        "ROC of the perturbation score",
        "; ".join(s.name for s in series[:-1]) + ".",
        series,
        Axis(LOWEST, 1, "clean rows flagged", log=True),
        y_label="attacked rows flagged",
        mark=Mark(view.alpha, f"threshold, {percent(view.alpha)}"),
        height=250,
    )
    return Plate(
        "What the perturbation score catches",
        drawing,
        "Each line is an attack, strong and weak thresholds along it; marked where the threshold"
        " stands. The horizontal axis is logarithmic. Attacks not trained on are the honest test."
        + (f" Not drawn: {', '.join(left)}." if left else ""),
    )


def at_rate(points: Sequence[Sequence[float]], rate: float) -> float:
    """The share caught at a false-positive rate, on the straight line between two points.

    >>> at_rate([[0.0, 0.25], [0.02, 0.75], [1.0, 1.0]], 0.01)
    0.5
    """
    held = sorted((float(fpr), float(tpr)) for fpr, tpr in points)
    return float(np.interp(rate, [fpr for fpr, _ in held], [tpr for _, tpr in held]))


def _roc_name(curve: Mapping[str, Any]) -> str:
    known_to = "trained on" if curve.get("trained_on") else "not trained on"
    area = DASH if curve.get("auroc") is None else f"{curve['auroc']:.3f}"
    return f"{curve.get('attack', 'attack')} ({known_to}), AUROC {area}"


def _caught(view: View) -> list[str]:
    facts = view.figures.get("scores") or {}
    said = []
    if known(caught := facts.get("perturbation_detected")):
        said.append(f"Of the attacked rows {interval(caught)} are flagged as perturbed.")
    fresh = [c for c in facts.get("roc") or [] if not c.get("trained_on") and c.get("points")]
    if fresh:
        worst = min(fresh, key=lambda c: at_rate(c["points"], view.alpha))
        said.append(
            f"Of the attacks it was not trained on, {worst['attack']} is caught least:"
            f" {percent(at_rate(worst['points'], view.alpha))} at the threshold."
        )
    return said


def _flags(view: View, facts: Mapping[str, Any]) -> WordTable:
    expected, n = facts.get("false_positives_expected"), view.figures.get("n", DASH)
    usual = f"{expected[0]} to {expected[1]} of {n} rows" if expected else DASH
    rows = [
        (what, interval(facts.get(key)), usual if usual_here else DASH)
        for what, key, usual_here in (
            ("clean rows flagged as drift", "drift_false_positives", True),
            ("clean rows flagged as perturbed", "perturbation_false_positives", True),
            ("attacked rows flagged as perturbed", "perturbation_detected", False),
        )
        if facts.get(key)
    ]
    if facts.get("perturbation_auroc") is not None:
        rows.append(("AUROC, attacked against clean", f"{facts['perturbation_auroc']:.3f}", DASH))
    return WordTable(("what", "share (95% interval)", "usual"), rows, "Flags")


def _aurocs(curves: Sequence[Mapping[str, Any]]) -> WordTable:
    rates = sorted({rate for c in curves for rate in c.get("caught") or {}}, key=float)
    head = ("attack", "trained on", "AUROC (95% interval)", "rows")
    return WordTable(
        (*head, *(f"caught at {float(rate):.0%}" for rate in rates)),
        [
            (
                str(c.get("attack", DASH)),
                "yes" if c.get("trained_on") else "no",
                _area(c),
                number(c.get("n"), 9),
                *(_share_at(c, rate) for rate in rates),
            )
            for c in curves
        ],
        "Attack by attack" + ", and the share caught where 1 or 5% of clean rows are" * bool(rates),
        half=not rates,
    )


def _share_at(curve: Mapping[str, Any], rate: str) -> str:
    share = (curve.get("caught") or {}).get(rate)
    return percent(share["value"]) if known(share) else DASH


def _area(curve: Mapping[str, Any]) -> str:
    if curve.get("auroc") is None:
        return DASH
    ends = [curve.get("low"), curve.get("high")]
    told = "" if None in ends else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return f"{curve['auroc']:.3f}{told}"


def _benign(benign: Mapping[str, Mapping[str, Any]]) -> WordTable:
    return WordTable(
        ("corruption", "AUROC of the drift score", "flagged as perturbed"),
        [
            (
                space_digits(name),
                DASH if facts.get("drift_auroc") is None else f"{facts['drift_auroc']:.3f}",
                percent(facts.get("perturbation_flagged")),
            )
            for name, facts in benign.items()
        ],
        "Benign changes at severity 3: drift should see them",
    )
