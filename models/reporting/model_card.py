"""The model card: what a version is and how well it does, in Markdown.

Every word and figure that comes from users (class names, reasons) is made plain Markdown text.
"""

import re
from collections.abc import Iterable, Sequence

from models.reporting import shortfalls, summary
from models.reporting.conditions import GROUPS
from models.reporting.detectors import words_on_kinds
from models.reporting.numbers import DASH, Share, clip, interval, known, number, percent
from models.reporting.numbers import size as sized
from models.reporting.origin import plain
from models.reporting.parts import View
from models.statistics.shares import Reliability
from models.versions.figures import CorruptionFigure
from models.versions.schema import Manifest

MOST_CLASSES = 40
CARD = """# {model}, version {version}

Made {made} because: {reason}. Parent version: {parent}.

## Use
{use}

Intended for inputs like the data named below. Not for decisions on which a life or a livelihood
hangs without a person who looks, and not for inputs of another kind: those are flagged, not
refused, unless the service is told to.

## In brief
{brief}

## Figures on {n} held-out rows
{figures}

{attacks}

{more}

## Training
{recipe}.
Data {data} (`{fingerprint}`), {rows} rows, {cpu_seconds} CPU-seconds.
Scores calibrated on {calibrated} rows: {source}.

## Limits
{limits}
"""


def card(manifest: Manifest) -> str:
    """A model card from the manifest's own figures (no figure is typed by hand).

    Raises:
        ValueError: the version was not evaluated: there is nothing to say of it.
    """
    training, figures, event = manifest.training, manifest.evaluation, manifest.event
    if figures is None:
        raise ValueError(f"{manifest.model}/{manifest.version} was not evaluated")
    view = View(manifest, figures)
    data = None if training is None else training.data
    return CARD.format(
        model=_safe(manifest.model),
        version=manifest.version,
        made=manifest.created_at,
        reason=_safe("unknown" if event is None else event.reason),
        parent=manifest.parent if manifest.parent is not None else "none",
        use=_use(manifest),
        brief=_bullets(_brief(view)),
        n=figures.n,
        figures=_table(("what", "value (95 % interval)"), _figures(view)),
        attacks=_table(("attack", f"eps ({_unit(view)})", "accuracy"), _attacks(view)),
        more="\n\n".join(
            block
            for block in (_classes(view), _drift_classes(view), _corruptions(view), _stress(view))
            if block
        ),
        recipe=_safe(plain(None if training is None else training.recipe)),
        data=_safe("unknown" if data is None else data.name),
        fingerprint=DASH if data is None else data.fingerprint[:16],
        rows=DASH if training is None else training.rows,
        cpu_seconds=number(None if training is None else training.cpu_seconds, 4),
        calibrated=manifest.calibration.n,
        source=_safe(manifest.calibration.source),
        limits=_bullets([*summary.limits(figures, view.kind, view.levels), *words_on_kinds(view)]),
    )


def _use(manifest: Manifest) -> str:
    schema, names = manifest.input, list(manifest.classes)
    values = (
        f"{len(schema.columns)} columns: {_list_names([c.name for c in schema.columns])}"
        if schema.columns
        else f"values {schema.low:g} to {schema.high:g}"
    )
    return (
        f"Classifies `{schema.name}` ({schema.kind}, {schema.dtype}, shape {list(schema.shape)},"
        f" {values})\ninto {len(names)} classes: {_list_names(names)}."
    )


def _brief(view: View) -> list[str]:
    short = shortfalls.shortfalls(view.figures, view.manifest.calibration)
    return [
        *summary.lead(view.figures, view.kind, view.levels),
        *summary.promises(view.figures),
        *summary.against(view.figures),
        *[f"Falls short: {line}" for line in short],
        *([] if short else ["Nothing falls short by the report's own bounds."]),
    ]


def _figures(view: View) -> list[tuple[str, str]]:
    figures, robust = view.figures, view.figures.robust
    norm = summary.norm_of(figures, view.kind)
    worst = "the worst of the attacks" if robust is None else robust.attack
    eps, ece = sized(figures.eps, view.levels), _error_of(figures.calibration)
    shares: list[tuple[str, Share | None]] = [
        ("clean accuracy", figures.clean),
        ("clean accuracy on rows whose content is not in the training part", figures.clean_unseen),
        ("balanced accuracy (mean over the classes)", figures.balanced_accuracy),
        (f"accuracy under {worst}, {norm} {eps}", robust),
        *_score_figures(view),
        ("accuracy on held-out live rows of the window", figures.window),
        ("calibration error (ECE)", ece),
    ]
    rows = [(what, interval(share)) for what, share in shares if share is not None]
    if known(figures.auroc):
        rows.append(("AUC (ROC, one class against the rest)", summary.area(figures.auroc)))
    if (mce := figures.mce) is not None:
        ends = f"{number(mce.low)} to {number(mce.high)}, n = {mce.n}"
        rows.append(
            ("mean corruption error, previous champion = 1", f"{number(mce.value)} ({ends})")
        )
    for f in shortfalls.findings(figures):
        word = {True: "passed", False: "**not passed**", None: "not run"}[f.passed]
        rows.append((f"check: {f.name}", f"{word}. {f.detail}"))
    return rows + [(gap.name, f"not measured: {gap.reason}") for gap in figures.not_measured]


def _score_figures(view: View) -> list[tuple[str, Share | None]]:
    scores, alpha = view.figures.scores, view.alpha
    if scores is None:
        return []
    drift, perturbed = (
        f"; {usual[0]} to {usual[1]} of {view.figures.n} rows are usual" if usual else ""
        for usual in (scores.drift_usual, scores.false_positives_expected)
    )
    static, adaptive = summary.fooled_unseen(view.figures) or (None, None)
    return [
        (f"clean rows flagged as drift (set to {alpha:.0%}{drift})", scores.drift_false_positives),
        (
            f"clean rows flagged as perturbed (set to {alpha:.0%}{perturbed})",
            scores.perturbation_false_positives,
        ),
        ("attacked rows flagged as perturbed", scores.perturbation_detected),
        (
            f"clean rows that are suspicious (set to {alpha:.0%}{perturbed})",
            scores.suspicious_false_positives,
        ),
        ("attacked rows that are suspicious", scores.suspicious_detected),
        ("attacked rows that fool it unseen", static),
        ("attacked rows that fool it unseen, attacker who knows the score", adaptive),
        (
            "error of the perturbation likelihood (ECE)",
            _error_of(scores.likelihood),
        ),
    ]


def _error_of(facts: Reliability | None) -> Share | None:
    return None if facts is None else facts.ece


def _attacks(view: View) -> list[tuple[str, str, str]]:
    """Every attack and every point of the curve, as the evaluation names them."""
    figures, levels = view.figures, view.levels
    certified = () if figures.certified is None else figures.certified.points
    return [
        *(
            (p.attack, sized(p.eps, levels), interval(p))
            for p in (*figures.attacks, *figures.robust_curve)
        ),
        *(("random noise", sized(p.eps, levels), interval(p)) for p in figures.noise_curve),
        *(
            ("proven by interval bounds", sized(p.eps, levels), interval(p))
            for p in (() if figures.proven is None else figures.proven.points)
        ),
        *(("certified, L2 radius", number(p.radius), interval(p)) for p in certified),
    ]


def _unit(view: View) -> str:
    return {
        "l2": "length, a value's range is 1",
        "columns": "share of a column's range",
    }.get(summary.norm_of(view.figures, view.kind), "of the 0..1 range")


def _classes(view: View) -> str:
    """Recall and precision of every class, the worst first."""
    figures = view.figures
    ranked = sorted(figures.classes, key=lambda name: figures.classes[name].share or 0.0)
    rows = [
        (clip(name, 60), interval(figures.classes[name]), interval(figures.precision.get(name)))
        for name in ranked[:MOST_CLASSES]
    ]
    return _table(("class", "recall", "precision"), rows)


def _drift_classes(view: View) -> str:
    """How many clean rows of every predicted class are strange, the most first."""
    scores = view.figures.scores
    rates = {} if scores is None else scores.drift_by_class
    ranked = sorted(rates, key=lambda name: rates[name].tenth.share or 0.0, reverse=True)
    rows = [
        (clip(name, 60), interval(rates[name].flagged), interval(rates[name].tenth))
        for name in ranked[:MOST_CLASSES]
    ]
    head = ("clean rows predicted as", f"flagged as drift ({view.alpha:.0%})", "drift p <= .1")
    return _table(head, rows)


def _corruptions(view: View) -> str:
    """Mean and lowest accuracy of every group."""
    groups: dict[str, list[CorruptionFigure]] = {}
    for item in filter(known, view.figures.corruptions):
        groups.setdefault(item.group, []).append(item)
    rows = []
    for name, items in groups.items():
        worst = min(items, key=lambda item: item.value)
        mean = sum(item.value for item in items) / len(items)
        where = f"{worst.name}, severity {worst.severity}: {interval(worst)}"
        rows.append((GROUPS.get(name, name), percent(mean), where))
    return _table(("corruptions", "mean accuracy", "lowest"), rows)


def _stress(view: View) -> str:
    rows = [
        (item.name, str(item.severity), interval(item), percent(item.drift_flagged))
        for item in filter(known, view.figures.stress)
    ]
    return _table(("error in the input", "severity", "accuracy", "flagged as drift"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; nothing where there are no rows."""
    lines = [f"| {' | '.join(_safe(cell) for cell in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_safe(line)}" for line in lines)


def _list_names(names: Sequence[str]) -> str:
    first = ", ".join(_safe(clip(str(name), 60)) for name in names[:MOST_CLASSES])
    left = len(names) - MOST_CLASSES
    return first + (f" and {left} more" if left > 0 else "")


def _safe(words: object) -> str:
    """Text that neither ends a table cell nor becomes HTML or a new line."""
    line = re.sub(r"\s+", " ", str(words))
    return line.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
