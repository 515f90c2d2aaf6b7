"""The part on attacks: curves, the attacks one by one, masking checks, certificates."""

from collections.abc import Iterable
from dataclasses import replace

from markupsafe import Markup

from models.reporting import summary
from models.reporting.drawing import charts, grids
from models.reporting.drawing.charts import Axis, Mark, Series
from models.reporting.numbers import DASH, Share, interval, known, number, of_100, percent
from models.reporting.numbers import size as sized
from models.reporting.parts import Plate, Section, View, WordTable
from models.reporting.shortfalls import findings
from models.reporting.summary import attacker, norm_of
from models.versions.figures import AttackFigure, NoiseFigure
from models.versions.promises import ProvenPoint

MOST_SERIES, MOST_EARLIER = 5, 2
FAR = 4.0  # times the size before it: such an end would squeeze the rest into a corner
WIDE = 760.0
SETS = ("prediction sets", "promised", "hold the true class", "classes", "of one class")


def robustness(view: View) -> Section:
    """Accuracy against the size and the kind of attack."""
    plates = [_curves(view), _attacks(view), _draw_certificates(view)]
    return Section(
        "robustness",
        "Under attack",
        words=_words(view),
        plates=[plate for plate in plates if plate is not None],
        tables=[*_tables_of_promises(view), *_bounds(view)],
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


def by_attack(points: Iterable[AttackFigure]) -> dict[str, list[AttackFigure]]:
    """Points of a curve by attack, in order of size; those without a value are left out."""
    curves: dict[str, list[AttackFigure]] = {}
    for point in sorted(filter(known, points), key=lambda p: p.eps):
        curves.setdefault(point.attack, []).append(point)
    return curves


def far_end(points: Iterable[AttackFigure]) -> AttackFigure | None:
    """The strongest attack of the largest size, where that is `FAR` beyond the size before it."""
    measured = list(filter(known, points))
    sizes = sorted({p.eps for p in measured})
    if len(sizes) < 3 or sizes[-1] <= FAR * sizes[-2]:
        return None
    return min((p for p in measured if p.eps == sizes[-1]), key=lambda p: p.value)


def _words(view: View) -> list[str]:
    robust, clean = view.figures.robust, view.figures.clean
    if not known(robust):
        return ["This version was not attacked."]
    who = attacker(view.figures, view.kind, view.levels)
    lines = [f"{who} is what “under attack” means on this page."]
    if known(clean) and clean.value > 0:
        lost = max(0.0, clean.value - robust.value)
        lines.append(
            f"Of 100 rows {of_100(lost) if lost else '0'} are right when left alone and fall to the"
            " worst of the attacks."
        )
    lines += summary.promises(view.figures)
    if view.figures.black_box:
        lines.append("Only the answers were at hand (black box): the attack had no gradients.")
    return lines


def _axis_label(view: View) -> str:
    return {
        "l2": "eps: length of the change (a value's range is 1)",
        "columns": "eps: share of each column's range",
    }.get(norm_of(view.figures, view.kind), "eps: share of a value's range")


def _curves(view: View) -> Plate | None:
    series = _series(view)
    if not series:
        return None
    figures = view.figures
    far = far_end(figures.robust_curve)
    if far is not None:
        series = [replace(s, points=tuple(p for p in s.points if p[0] < far.eps)) for s in series]
    slim, wide = (
        _draw_curves(view, series, css, width, height)
        for css, width, height in (("slim", 360.0, 250.0), ("wide", WIDE, 330.0))
    )
    caption = (
        "Bands are 95% intervals. A robust model falls slowly; noise of the same size must always"
        " do less harm than an attack."
    )
    if far is not None:
        caption += (
            f" Not drawn: at eps {number(far.eps)}, meant to break any model,"
            f" {percent(far.value)} stay right."
        )
    earlier = _earlier(view)
    if earlier and not earlier.keys() & by_attack(figures.robust_curve).keys():
        caption += " The previous champion met other attacks: compare the lines with care."
    title = "How accuracy falls as the attack grows"
    return Plate(title, slim, caption, _curve_table(view), wide=wide)


def _draw_curves(view: View, series: list[Series], css: str, width: float, height: float) -> Markup:
    eps = view.figures.eps
    return charts.lines(
        f"curve-{css}",
        "Accuracy against the size of the attack",
        _about(series),
        series,
        Axis(0, max([p[0] for s in series for p in s.points] + [eps]) or 1.0, _axis_label(view)),
        y_label="answered rightly",
        mark=Mark(eps, f"judged at {sized(eps, view.levels)}"),
        width=width,
        height=height,
    )


def _earlier(view: View) -> dict[str, list[AttackFigure]]:
    """The curves of the previous champion."""
    return {} if view.previous is None else by_attack(view.previous.robust_curve)


def _series(view: View) -> list[Series]:
    """The own curves, those of the previous champion, and noise."""
    own, earlier = by_attack(view.figures.robust_curve), _earlier(view)
    noise = sorted(filter(known, view.figures.noise_curve), key=lambda p: p.eps)
    if not own and not noise:
        return []
    clean = view.figures.clean
    before = None if view.previous is None else view.previous.clean
    series = [
        Series(name, _points(points, clean), f"k{k}", k)
        for k, (name, points) in enumerate(list(own.items())[:MOST_SERIES])
    ]
    series += [
        Series(f"{view.before}, {name}", _points(points, before), "before", k)
        for k, (name, points) in enumerate(list(earlier.items())[:MOST_EARLIER])
    ]
    if (proven := view.figures.proven) is not None:
        series.append(Series("proven by bounds", _points(proven.points, clean), "k4", 2))
    if noise:
        series.append(Series("random noise of the same size", _points(noise, clean), "noise", 3))
    return series


def _points(
    curve: Iterable[AttackFigure | NoiseFigure | ProvenPoint], clean: Share | None
) -> tuple[tuple[float, float, float | None, float | None], ...]:
    points: list[tuple[float, float, float | None, float | None]] = [
        (p.eps, p.value, p.low, p.high) for p in curve if known(p)
    ]
    if known(clean) and (not points or points[0][0] > 0):
        points.insert(0, (0.0, clean.value, clean.low, clean.high))
    return tuple(points)


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
    curve, noises = view.figures.robust_curve, view.figures.noise_curve
    previous = () if view.previous is None else view.previous.robust_curve
    earlier = {(p.attack, p.eps): p for p in previous}
    noise = {p.eps: p for p in noises}
    rows = [
        (
            p.attack,
            sized(p.eps, view.levels),
            interval(p),
            interval(earlier.get((p.attack, p.eps))),
            interval(noise.get(p.eps)),
        )
        for p in curve
    ] or [(DASH, sized(p.eps, view.levels), DASH, DASH, interval(p)) for p in noises]
    head = ("attack", "eps", "right (95% interval)", view.before, "random noise")
    keep = [k for k in range(5) if k < 3 or any(row[k] != DASH for row in rows)]
    return WordTable(tuple(head[k] for k in keep), [tuple(row[k] for k in keep) for row in rows])


def _attacks(view: View) -> Plate | None:
    attacks, worst = view.figures.attacks, view.figures.robust
    tried = list(filter(known, attacks))
    if not tried:
        return None
    several = len({a.eps for a in tried}) > 1
    rows = [
        grids.Row(f"{a.attack}, {sized(a.eps, view.levels)}" if several else a.attack, a)
        for a in tried
    ]
    table = [(a.attack, sized(a.eps, view.levels), interval(a)) for a in attacks]
    if known(worst):
        rows.append(grids.Row("worst of them", worst))
        table.append(("worst of them", sized(worst.eps, view.levels), interval(worst)))
    drawing = grids.forest(
        "attacks",
        "Accuracy under each attack",
        "; ".join(f"{row.label}: {percent(row.share.value)}" for row in rows) + ".",
        rows,
        names=("answered rightly", None),
    )
    return Plate(
        "What each attack leaves",
        drawing,
        "A row counts as robust only if no attack changes its answer.",
        WordTable(("attack", "eps", "right (95% interval)"), table),
    )


def _draw_certificates(view: View) -> Plate | None:
    facts = view.figures.certified
    curve = sorted(filter(known, () if facts is None else facts.points), key=lambda p: p.radius)
    if facts is None or not curve:
        return None
    points = tuple((p.radius, p.value, p.low, p.high) for p in curve)
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
        f"Randomised smoothing with noise {number(facts.sigma)},"
        f" {number(facts.samples, 6)} samples per row, error at most"
        f" {number(facts.alpha)}, on {number(facts.n, 6)} rows."
        " It holds for the smoothed classifier and for changes in L2.",
        WordTable(
            ("radius", "certainly right (95% interval)"),
            [(number(p.radius), interval(p)) for p in curve],
        ),
    )


def _tables_of_promises(view: View) -> list[WordTable]:
    """Certified accuracy by size, and the prediction sets."""
    tables, figures = [], view.figures
    if figures.proven is not None:
        rows = [(sized(p.eps, view.levels), interval(p)) for p in figures.proven.points]
        head = ("eps", "proven right (95% interval)")
        tables.append(WordTable(head, rows, "What bounds prove of the rows", half=True))
    if figures.sets:
        sets = [
            (s.name, percent(s.promised), interval(s), number(s.mean_size), percent(s.single))
            for s in figures.sets
        ]
        tables.append(WordTable(SETS, sets, "Prediction sets"))
    return tables


def _bounds(view: View) -> list[WordTable]:
    """What the attacker may change in a table, column by column."""
    if view.kind != "tabular":
        return []
    eps, reach = view.figures.eps, view.figures.threat.columns
    rows = []
    for column in view.manifest.input.columns:
        free = 0.0 if column.kind == "categorical" else 1.0
        bound = reach.get(column.name, free)
        down, up = bound if isinstance(bound, tuple) else (bound, bound)
        rows.append((column.name, column.kind, _move(down, eps), _move(up, eps)))
    head = ("column", "kind", "may fall by", "may rise by")
    return [WordTable(head, rows, "What the attacker may change, by column")] if rows else []


def _move(share: float, eps: float) -> str:
    return f"{number(share * eps)} of its range" if share else "nothing"
