"""The part on the two scores: false alarms, what they catch, and an attacker who knows them."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.reporting.drawing import charts, grids
from models.reporting.drawing.charts import Axis, Mark, Series
from models.reporting.numbers import (
    DASH,
    Share,
    bounds,
    interval,
    known,
    number,
    of_100,
    percent,
    space_digits,
)
from models.reporting.parts import Plate, Section, Tile, View, WordTable
from models.reporting.reliability import reliability_plate
from models.reporting.summary import fooled_unseen
from models.versions.figures import Adaptive, BenignFigure, Fooled, RocCurve, Scores

MOST_CURVES = 5
LOWEST = 1e-3  # false-positive rate at which the ROC begins
_RATES = [LOWEST * 10 ** (k / 20) for k in range(61)]


def scores(view: View) -> Section:
    """How the two scores of every answer do: false alarms, what is caught, ROC."""
    facts, words = view.figures.scores, _words_on_attackers(view)
    if facts is None:
        return Section("scores", "The scores", words=words)
    tables = [_aurocs(facts.roc)] if facts.roc else []
    tables.append(_flags(view, facts))
    tables += [_benign(facts.severity_3)] if facts.severity_3 else []
    words = [
        "Every answer carries two scores: how far the input lies from what the model knows"
        " (drift), and how likely it was tampered with (perturbation). Thresholds are set so"
        f" that {percent(view.alpha)} of clean rows are flagged.",
        *_words_on_caught(view, facts),
        *words,
    ]
    plates = [_roc(view, facts.roc), _attackers(facts.adaptive), _reliability(facts)]
    drawn = [plate for plate in plates if plate is not None]
    return Section("scores", "The scores", words=words, plates=drawn, tables=tables)


def tile(view: View) -> Tile | None:
    """The headline: fooled unseen by an attacker who knows the scores."""
    pair = fooled_unseen(view.figures)
    if pair is None:
        return None
    static, adaptive = pair
    note = (
        f"knowing the scores ({bounds(adaptive)}, n = {adaptive.n});"
        f" {percent(static.value)} not knowing them"
    )
    drawing = grids.strip("tile-adaptive", "Fooled unseen", adaptive)
    return Tile("Fooled unseen", percent(adaptive.value), note, drawing)


def at_rate(points: Sequence[Sequence[float]], rate: float) -> float:
    """The share caught at a false-positive rate, on the straight line between two points.

    >>> at_rate([[0.0, 0.25], [0.02, 0.75], [1.0, 1.0]], 0.01)
    0.5
    """
    ordered = sorted((float(fpr), float(tpr)) for fpr, tpr in points)
    return float(np.interp(rate, [fpr for fpr, _ in ordered], [tpr for _, tpr in ordered]))


def _words_on_attackers(view: View) -> list[str]:
    """Static and adaptive side by side, in natural frequencies; or why there is nothing to say."""
    unknown = "What an attacker achieves who knows the scores was not measured"
    if reason := view.figures.reason_against("adaptive attack"):
        return [f"{unknown}: {reason}."]
    facts = None if view.figures.scores is None else view.figures.scores.adaptive
    if facts is None:
        return []
    pair = fooled_unseen(view.figures)
    if pair is None:
        return [f"{unknown}: no row was right without an attack."]
    static, adaptive = pair
    lines = [
        f"Of 100 attacked rows an attack that does not know the scores fools the model unseen in"
        f" {of_100(static.value)} ({bounds(static)}); an attacker who knows them, in"
        f" {of_100(adaptive.value)} ({bounds(adaptive)}; n = {adaptive.n})."
    ]
    fooled = facts.adaptive.fooled
    if known(fooled) and fooled.value > 0:
        caught = max(0.0, 1 - adaptive.value / fooled.value)
        lines.append(
            f"Against the latter the perturbation score still catches {of_100(caught)} of 100 wrong"
            " answers. It is a tripwire; what keeps answers right is the training."
        )
    return lines


def _words_on_caught(view: View, facts: Scores) -> list[str]:
    lines = []
    if known(facts.perturbation_detected):
        caught = interval(facts.perturbation_detected)
        lines.append(f"Of the attacked rows {caught} are flagged as perturbed.")
    fresh = [c for c in facts.roc if not c.trained_on and c.points]
    if fresh:
        worst = min(fresh, key=lambda c: at_rate(c.points, view.alpha))
        lines.append(
            f"Of the attacks it was not trained on, {worst.attack} is caught least:"
            f" {percent(at_rate(worst.points, view.alpha))} at the threshold."
        )
    if known(facts.suspicious_detected):
        seen = interval(facts.suspicious_detected)
        lines.append(f"Of the attacked rows {seen} are suspicious: not clean, whatever they are.")
    return [*lines, *words_on_kinds(view)]


def words_on_kinds(view: View) -> list[str]:
    """Benign kinds that are flagged more often than they should, and what stays open."""
    lines, above = [], view.manifest.calibration.kinds_above
    if above:
        kinds = ", ".join(f"{space_digits(kind.name)} ({percent(kind.share)})" for kind in above)
        lines.append(f"Benign, and flagged as perturbed more often than 5%: {kinds}.")
    if view.kind == "image":
        lines.append(
            "Small turns and shifts are not taken for attacks, and an attacker who knows the scores"
            " sets a patch or a few pixels past them."
        )
    return lines


def _roc(view: View, curves: Sequence[RocCurve]) -> Plate | None:
    drawable = [c for c in curves if len(c.points) > 1]
    drawable.sort(key=lambda c: c.trained_on)  # the honest test first
    if not drawable:
        return None
    series, left = [], [c.attack for c in drawable[MOST_CURVES:]]
    for k, c in enumerate(drawable[:MOST_CURVES]):
        rates = sorted({*_RATES, *(p[0] for p in c.points if p[0] > LOWEST)})
        points = tuple((rate, at_rate(c.points, rate), None, None) for rate in rates)
        spot = ((view.alpha, at_rate(c.points, view.alpha)),)
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


def _roc_name(curve: RocCurve) -> str:
    known_to = "trained on" if curve.trained_on else "not trained on"
    area = DASH if curve.auroc is None else f"{curve.auroc:.3f}"
    return f"{curve.attack} ({known_to}), AUROC {area}"


def _attackers(facts: Adaptive | None) -> Plate | None:
    if facts is None or not known(facts.static.fooled) or not known(facts.adaptive.fooled):
        return None
    static, adaptive = facts.static, facts.adaptive
    rows: list[tuple[str, Share, Share]] = [
        ("knows the net", static.fooled, static.undetected),
        ("and the score", adaptive.fooled, adaptive.undetected),
        ("and both scores", adaptive.fooled, adaptive.undetected_by_both),
    ]
    drawing = grids.forest(
        "attackers",
        "Attackers who know more",
        "; ".join(f"{n}: fooled {percent(a.value)}, unseen {percent(b.value)}" for n, a, b in rows)
        + ".",
        [grids.Row(*row) for row in rows],
        names=("wrong answers", "wrong and not flagged"),
    )
    caption = (
        f"Of rows that are right when left alone, n = {facts.n}. The first attacker"
        f" is {static.attack}; the others climb the served graph with"
        f" its scores, {facts.steps} steps for each of the weights below, and the"
        " best per row counts. The last must pass the drift score as well."
    )
    return Plate("What an attacker gains who knows the scores", drawing, caption, _weights(facts))


def _weights(facts: Adaptive) -> WordTable:
    rows = [("none: static", *_three(facts.static))]
    for w in facts.weights:
        name = w.weight if isinstance(w.weight, str) else number(w.weight)
        rows.append((f"{name} (best)" if w.weight == facts.best else name, *_three(w)))
    rows.append(("best per row", *_three(facts.adaptive)))
    return WordTable(("weight of the scores", "wrong", "and not flagged", "nor as drift"), rows)


def _three(facts: Fooled) -> tuple[str, str, str]:
    return interval(facts.fooled), interval(facts.undetected), interval(facts.undetected_by_both)


def _reliability(facts: Scores) -> Plate | None:
    bins = [] if facts.likelihood is None else [b for b in facts.likelihood.bins if b.n]
    if facts.likelihood is None or not bins:
        return None
    ece = facts.likelihood.ece
    off = f" Off by {interval(ece)} on average." if known(ece) else ""
    return reliability_plate(
        "likelihood",
        "Reliability of the perturbation likelihood",
        "What the likelihood says, and how often it was so",
        bins,
        "Half attacked rows, a quarter clean, a quarter benignly changed: the odds that the"
        f" likelihood is stated for.{off} Where attacks are rarer, it is too high.",
        words_per_bin="likelihood {stated}: {was}",
        header=("likelihood from", "to", "rows", "mean likelihood", "attacked"),
        names=("likelihood", "attacked"),
        axes=("stated likelihood", "was attacked"),
    )


def _flags(view: View, facts: Scores) -> WordTable:
    drift, perturbed = (
        DASH if usual is None else f"{usual[0]} to {usual[1]} of {view.figures.n} rows"
        for usual in (facts.drift_usual, facts.false_positives_expected)
    )
    shares = (
        ("clean rows flagged as drift", facts.drift_false_positives, drift),
        ("clean rows flagged as perturbed", facts.perturbation_false_positives, perturbed),
        ("attacked rows flagged as perturbed", facts.perturbation_detected, DASH),
        ("clean rows that are suspicious", facts.suspicious_false_positives, perturbed),
        ("attacked rows that are suspicious", facts.suspicious_detected, DASH),
    )
    rows = [(what, interval(share), usually) for what, share, usually in shares if share]
    if facts.perturbation_auroc is not None:
        rows.append(("AUROC, attacked against clean", f"{facts.perturbation_auroc:.3f}", DASH))
    return WordTable(("what", "share (95% interval)", "usual"), rows, "Flags")


def _aurocs(curves: Sequence[RocCurve]) -> WordTable:
    rates = sorted({rate for c in curves for rate in c.caught}, key=float)
    head = ("attack", "trained on", "AUROC (95% interval)", "rows")
    return WordTable(
        (*head, *(f"caught at {float(rate):.0%}" for rate in rates)),
        [
            (
                c.attack,
                "yes" if c.trained_on else "no",
                _area(c),
                str(c.n),
                *(_share_at(c, rate) for rate in rates),
            )
            for c in curves
        ],
        "Attack by attack" + ", and the share caught where 1 or 5% of clean rows are" * bool(rates),
        half=not rates,
    )


def _share_at(curve: RocCurve, rate: str) -> str:
    share = curve.caught.get(rate)
    return percent(share.value) if known(share) else DASH


def _area(curve: RocCurve) -> str:
    if curve.auroc is None:
        return DASH
    return f"{curve.auroc:.3f} ({curve.low:.3f} to {curve.high:.3f})"


def _benign(benign: Mapping[str, BenignFigure]) -> WordTable:
    return WordTable(
        ("corruption", "AUROC of the drift score", "flagged as perturbed"),
        [
            (space_digits(name), f"{facts.drift_auroc:.3f}", percent(facts.perturbation_flagged))
            for name, facts in benign.items()
        ],
        "Benign changes at severity 3: drift should see them",
    )
