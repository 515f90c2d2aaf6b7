"""The part on attacks: curves, the attacks one by one, masking checks, certificates."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from models.reporting import charts, grids
from models.reporting.charts import Axis, Mark, Series
from models.reporting.numbers import DASH, Share, interval, known, number, of_100, percent
from models.reporting.numbers import size as sized
from models.reporting.parts import Plate, Section, View, WordTable
from models.reporting.shortfalls import findings
from models.reporting.summary import attacker, threat_of

MOST_SERIES, MOST_EARLIER = 5, 2
FAR = 4.0  # times the size before it: such an end would squeeze the rest into a corner
WIDE = 760.0


def robustness(view: View) -> Section:
    """Accuracy against the size and the kind of attack."""
    plates = [_curves(view), _attacks(view), _draw_certificates(view)]
    return Section(
        "robustness",
        "Under attack",
        words=_words(view),
        plates=[plate for plate in plates if plate is not None],
        tables=_bounds(view),
    )


def checks(view: View) -> Section:
    """The sanity checks: may the figures be believed?"""
    return Section(
        "checks",
        "Sanity checks",
        words=[
            "A defence can look strong because it hides its gradients from the attack (gradient"
            " masking). These checks would show it; do not trust a figure whose check failed."
        ],
        checks=findings(view.figures),
    )


def by_attack(points: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Points of a curve by attack, in order of size; those without a value are left out."""
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for point in sorted((p for p in points if known(p)), key=lambda p: p.get("eps") or 0.0):
        curves.setdefault(str(point.get("attack", "attack")), []).append(point)
    return curves


def far_end(points: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The strongest attack of the largest size, where that is `FAR` beyond the size before it."""
    found = [p for p in points if known(p)]
    sizes = sorted({float(p["eps"]) for p in found})
    if len(sizes) < 3 or sizes[-1] <= FAR * sizes[-2]:
        return None
    return min((p for p in found if p["eps"] == sizes[-1]), key=lambda p: float(p["value"]))


def _words(view: View) -> list[str]:
    robust, clean = view.share("robust"), view.share("clean")
    if robust is None:
        return ["This version was not attacked."]
    who = attacker(view.figures, view.kind, view.levels)
    said = [f"{who} is what “under attack” means on this page."]
    if clean is not None and clean["value"] > 0:
        lost = max(0.0, clean["value"] - robust["value"])
        said.append(
            f"Of 100 rows {of_100(lost) if lost else '0'} are right when left alone and fall to the"
            " worst of the attacks."
        )
    if view.figures.get("black_box"):
        said.append("Only the answers were at hand (black box): the attack had no gradients.")
    return said


def _axis_label(view: View) -> str:
    norm = threat_of(view.figures, view.kind)[0]
    return {
        "l2": "eps: length of the change (a value's range is 1)",
        "columns": "eps: share of each column's range",
    }.get(norm, "eps: share of a value's range")


def _curves(view: View) -> Plate | None:
    series = _series(view)
    if not series:
        return None
    _, eps, _ = threat_of(view.figures, view.kind)
    far = far_end(view.items("robust_curve"))
    if far is not None:
        series = [
            replace(s, points=tuple(p for p in s.points if p[0] < far["eps"])) for s in series
        ]
    most = max([p[0] for s in series for p in s.points] + [eps or 0.0]) or 1.0
    drawn = [
        charts.lines(
            f"curve-{css}",
            "Accuracy against the size of the attack",
            _about(series),
            series,
            Axis(0, most, _axis_label(view)),
            y_label="answered rightly",
            mark=None if eps is None else Mark(eps, f"judged at {sized(eps, view.levels)}"),
            width=width,
            height=height,
        )
        for css, width, height in (("slim", 360.0, 250.0), ("wide", WIDE, 330.0))
    ]
    caption = (
        "Bands are 95% intervals. A robust model falls slowly; noise of the same size must always"
        " do less harm than an attack."
    )
    if far is not None:
        caption += (
            f" Not drawn: at eps {number(far['eps'])}, meant to break any model,"
            f" {percent(far['value'])} stay right."
        )
    own, earlier = (by_attack(f.get("robust_curve") or []) for f in (view.figures, view.previous))
    if earlier and not earlier.keys() & own.keys():
        caption += " The previous champion met other attacks: compare the lines with care."
    title = "How accuracy falls as the attack grows"
    return Plate(title, drawn[0], caption, _curve_table(view), wide=drawn[1])


def _series(view: View) -> list[Series]:
    """The own curves, those of the previous champion, and noise."""
    own = by_attack(view.items("robust_curve"))
    earlier = by_attack(view.previous.get("robust_curve") or [])
    noise = sorted(view.shares("noise_curve"), key=lambda p: p.get("eps") or 0.0)
    if not own and not noise:
        return []
    clean, before = view.share("clean"), view.share_before("clean")
    series = [
        Series(name, _points(points, clean), f"k{k}", k)
        for k, (name, points) in enumerate(list(own.items())[:MOST_SERIES])
    ]
    series += [
        Series(f"{view.before}, {name}", _points(points, before), "before", k)
        for k, (name, points) in enumerate(list(earlier.items())[:MOST_EARLIER])
    ]
    if noise:
        series.append(Series("random noise of the same size", _points(noise, clean), "noise", 3))
    return series


def _points(
    points: Iterable[Mapping[str, Any]], clean: Share | None
) -> tuple[tuple[float, float, float | None, float | None], ...]:
    found = [(float(p.get("eps") or 0.0), p["value"], p.get("low"), p.get("high")) for p in points]
    if clean is not None and (not found or found[0][0] > 0):
        found.insert(0, (0.0, clean["value"], clean.get("low"), clean.get("high")))
    return tuple(found)


def _about(series: Iterable[Series]) -> str:
    parts = []
    for s in series:
        if s.points:
            first, last = s.points[0], s.points[-1]
            parts.append(
                f"{s.name}: {percent(first[1])} at {number(first[0])}, {percent(last[1])} at"
                f" {number(last[0])}"
            )
    return "; ".join(parts) + "."


def _curve_table(view: View) -> WordTable:
    earlier = {
        (str(p.get("attack")), p.get("eps")): p for p in view.previous.get("robust_curve") or []
    }
    noise = {p.get("eps"): p for p in view.items("noise_curve")}
    rows = [
        (
            str(p.get("attack", "attack")),
            sized(p.get("eps"), view.levels),
            interval(p),
            interval(earlier.get((str(p.get("attack")), p.get("eps")))),
            interval(noise.get(p.get("eps"))),
        )
        for p in view.items("robust_curve")
    ]
    if not rows:
        rows = [
            (DASH, sized(p.get("eps"), view.levels), DASH, DASH, interval(p))
            for p in view.items("noise_curve")
        ]
    head = ("attack", "eps", "right (95% interval)", view.before, "random noise")
    keep = [k for k in range(5) if k < 3 or any(row[k] != DASH for row in rows)]
    return WordTable(tuple(head[k] for k in keep), [tuple(row[k] for k in keep) for row in rows])


def _attacks(view: View) -> Plate | None:
    tried = view.shares("attacks")
    worst = view.share("robust")
    if not tried:
        return None
    sizes = {a.get("eps") for a in tried}
    rows = [grids.Row(_attack_name(a, view, with_size=len(sizes) > 1), a) for a in tried]
    table = [
        (str(a.get("attack", DASH)), sized(a.get("eps"), view.levels), interval(a))
        for a in view.items("attacks")
    ]
    if worst is not None:
        rows.append(grids.Row("worst of them", worst))
        table.append(
            ("worst of them", sized(view.figures.get("eps"), view.levels), interval(worst))
        )
    drawing = grids.forest(
        "attacks",
        "Accuracy under each attack",
        "; ".join(f"{row.label}: {percent(row.share['value'])}" for row in rows) + ".",
        rows,
        names=("answered rightly", None),
    )
    return Plate(
        "What each attack leaves",
        drawing,
        "A row counts as robust only if no attack changes its answer.",
        WordTable(("attack", "eps", "right (95% interval)"), table),
    )


def _attack_name(attack: Mapping[str, Any], view: View, *, with_size: bool) -> str:
    name = str(attack.get("attack", "attack"))
    return f"{name}, {sized(attack.get('eps'), view.levels)}" if with_size else name


def _draw_certificates(view: View) -> Plate | None:
    facts = view.figures.get("certified") or {}
    held = sorted((p for p in facts.get("points") or [] if known(p)), key=lambda p: p["radius"])
    if not held:
        return None
    points = tuple((float(p["radius"]), p["value"], p.get("low"), p.get("high")) for p in held)
    series = [Series("certified", points, "k0", 0)]
    most = max(p[0] for p in points) or 1.0
    drawing = charts.lines(
        "certified",
        "Certified accuracy against the L2 radius",
        _about(series),
        series,
        Axis(0, most, "L2 radius (a value's range is 1)"),
        y_label="certainly right",
    )
    return Plate(
        "What no attack can break",
        drawing,
        f"Randomised smoothing with noise {number(facts.get('sigma'))},"
        f" {number(facts.get('samples'), 6)} samples per row, error at most"
        f" {number(facts.get('alpha'))}, on {number(facts.get('n'), 6)} rows."
        " It holds for the smoothed classifier and for changes in L2.",
        WordTable(
            ("radius", "certainly right (95% interval)"),
            [(number(p["radius"]), interval(p)) for p in held],
        ),
    )


def _bounds(view: View) -> list[WordTable]:
    """What the attacker may change in a table, column by column."""
    if view.kind != "tabular":
        return []
    _, eps, reach = threat_of(view.figures, view.kind)
    rows = []
    for column in view.manifest.input.columns:
        free = 0.0 if column.kind == "categorical" else 1.0
        given = reach.get(column.name, free)
        down, up = given if isinstance(given, list | tuple) else (given, given)
        rows.append((column.name, column.kind, _move(down, eps), _move(up, eps)))
    head = ("column", "kind", "may fall by", "may rise by")
    return [WordTable(head, rows, "What the attacker may change, by column")] if rows else []


def _move(share: float, eps: float | None) -> str:
    if not share:
        return "nothing"
    return DASH if eps is None else f"{number(share * eps)} of its range"
