"""The model card: what a version is and how well it does, in Markdown.

Every word and figure that comes from users (class names, reasons) is made plain Markdown text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.reporting import shortfalls, summary
from models.reporting.conditions import GROUPS
from models.reporting.numbers import DASH, clip, interval, known, number, percent
from models.reporting.numbers import size as sized
from models.reporting.origin import plain
from models.reporting.parts import View
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
    """A model card from the manifest's own figures (no figure is typed by hand)."""
    training, figures = manifest.training, manifest.evaluation
    view = View(manifest, figures, figures.get("previous") or {})
    data = training.get("data") or {}
    return CARD.format(
        model=_safe(manifest.model),
        version=manifest.version,
        made=manifest.created_at,
        reason=_safe(manifest.event.get("reason", "unknown")),
        parent=manifest.parent if manifest.parent is not None else "none",
        use=_use(manifest),
        brief=_bullets(_brief(view)),
        n=figures.get("n", DASH),
        figures=_table(("what", "value (95 % interval)"), _figures(view)),
        attacks=_table(("attack", f"eps ({_unit(view)})", "accuracy"), _attacks(view)),
        more="\n\n".join(block for block in (_corruptions(view), _stress(view)) if block),
        recipe=_safe(plain(training.get("recipe"))),
        data=_safe(data.get("name", "unknown")),
        fingerprint=str(data.get("fingerprint", ""))[:16] or DASH,
        rows=training.get("rows", DASH),
        cpu_seconds=number(training.get("cpu_seconds"), 4),
        calibrated=manifest.calibration.n,
        source=_safe(manifest.calibration.source),
        limits=_bullets(summary.limits(figures, view.kind, view.levels)),
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
        *summary.against(view.figures),
        *[f"Falls short: {line}" for line in short],
        *([] if short else ["Nothing falls short by the report's own bounds."]),
    ]


def _figures(view: View) -> list[tuple[str, str]]:
    figures, alpha = view.figures, view.alpha
    scores, robust = figures.get("scores") or {}, figures.get("robust") or {}
    usual = ""
    if expected := scores.get("false_positives_expected"):
        usual = f"; {expected[0]} to {expected[1]} of {figures.get('n', DASH)} rows are usual"
    norm, eps, _ = summary.threat_of(figures, view.kind)
    worst = robust.get("attack") or "the worst of the attacks"
    unseen = summary.fooled_unseen(figures) or (None, None)
    rows: list[tuple[str, Any]] = [
        ("clean accuracy", figures.get("clean")),
        (f"accuracy under {worst}, {norm} {sized(eps, view.levels)}", figures.get("robust")),
        (
            f"clean rows flagged as drift (set to {alpha:.0%}{usual})",
            scores.get("drift_false_positives"),
        ),
        (
            f"clean rows flagged as perturbed (set to {alpha:.0%}{usual})",
            scores.get("perturbation_false_positives"),
        ),
        ("attacked rows flagged as perturbed", scores.get("perturbation_detected")),
        ("attacked rows that fool it unseen", unseen[0]),
        ("attacked rows that fool it unseen, attacker who knows the score", unseen[1]),
        (
            "error of the perturbation likelihood (ECE)",
            (scores.get("likelihood") or {}).get("ece"),
        ),
        ("accuracy on held-out live rows of the window", figures.get("window")),
        ("calibration error (ECE)", (figures.get("calibration") or {}).get("ece")),
    ]
    said = [(what, interval(p)) for what, p in rows if p]
    if (mce := view.share("mce")) is not None:
        ends = f"{number(mce.get('low'))} to {number(mce.get('high'))}, n = {mce.get('n', DASH)}"
        said.append(
            ("mean corruption error, previous champion = 1", f"{number(mce['value'])} ({ends})")
        )
    for f in shortfalls.findings(figures):
        word = {True: "passed", False: "**not passed**", None: "not run"}[f.passed]
        said.append((f"check: {f.name}", f"{word}. {f.detail}"))
    return said


def _attacks(view: View) -> list[tuple[str, str, str]]:
    """Every attack and every point of the curve, as the evaluation names them."""
    certified = (view.figures.get("certified") or {}).get("points") or []
    return [
        *(
            (str(p.get("attack", DASH)), sized(p.get("eps"), view.levels), interval(p))
            for p in (*view.items("attacks"), *view.items("robust_curve"))
        ),
        *(
            ("random noise", sized(p.get("eps"), view.levels), interval(p))
            for p in view.items("noise_curve")
        ),
        *(("certified, L2 radius", number(p.get("radius")), interval(p)) for p in certified),
    ]


def _unit(view: View) -> str:
    norm = summary.threat_of(view.figures, view.kind)[0]
    return {
        "l2": "length, a value's range is 1",
        "columns": "share of a column's range",
    }.get(norm, "of the 0..1 range")


def _corruptions(view: View) -> str:
    """Mean and lowest accuracy of every group."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for item in view.shares("corruptions"):
        groups.setdefault(str(item.get("group") or "holdfast"), []).append(item)
    rows = []
    for name, items in groups.items():
        worst = min(items, key=lambda item: item["value"])
        mean = sum(item["value"] for item in items) / len(items)
        where = f"{worst['name']}, severity {worst.get('severity', DASH)}: {interval(worst)}"
        rows.append((GROUPS.get(name, name), percent(mean), where))
    return _table(("corruptions", "mean accuracy", "lowest"), rows)


def _stress(view: View) -> str:
    rows = [
        (
            str(item["name"]),
            str(item.get("severity", DASH)),
            interval(item),
            percent(item.get("drift_flagged")),
        )
        for item in view.items("stress")
        if known(item)
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
    shown = ", ".join(_safe(clip(str(name), 60)) for name in names[:MOST_CLASSES])
    left = len(names) - MOST_CLASSES
    return shown + (f" and {left} more" if left > 0 else "")


def _safe(words: object) -> str:
    """Text that neither ends a table cell nor becomes HTML or a new line."""
    line = re.sub(r"\s+", " ", str(words))
    return line.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
