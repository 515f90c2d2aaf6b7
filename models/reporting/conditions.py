"""The part on bad conditions: corruptions, errors in tables, inputs of no class at all."""

from collections.abc import Mapping, Sequence

from models.corruptions import GROUPS as corruption_groups
from models.reporting.drawing import grids
from models.reporting.numbers import DASH, interval, known, percent, points, space_digits
from models.reporting.parts import Plate, Section, View, WordTable
from models.reporting.summary import champion, corruption_error
from models.versions.figures import CorruptionFigure, StressFigure

GROUPS = {group.name: group.title for group in corruption_groups.values()}
Cell = tuple[str, int]  # kind, as words, and severity
Figures = Sequence[CorruptionFigure] | Sequence[StressFigure]


def corruptions(view: View) -> Section:
    """Accuracy by kind and severity of corruption, one heat map per group."""
    by_group: dict[str, list[CorruptionFigure]] = {}
    for item in view.figures.corruptions:
        by_group.setdefault(item.group, []).append(item)
    plates = [_heat_map(view, k, group, items) for k, (group, items) in enumerate(by_group.items())]
    words = []
    if plates:
        words.append(
            "Noise, blur, weather and bad light are no attacks, but they happen. Figures are the"
            " per cent answered rightly; the stronger the colour, the more is lost."
        )
    if error := corruption_error(view.figures.mce, champion(view.previous)):
        words.append(error)
    return Section("corruptions", "Corruptions", words=words, plates=plates, flow=True)


def stress(view: View) -> Section:
    """What errors in tables do: accuracy, and how often they are flagged as drift."""
    items = view.figures.stress
    if not items:
        return Section("stress", "Errors in the input")
    rows, columns = _cells(items)
    flagged = {space_digits(i.name): i.drift_flagged for i in items}
    ended = [grids.HeatRow(row.label, row.shares, _whole(flagged.get(row.label))) for row in rows]
    table = WordTable(
        ("error", "severity", "right (95% interval)", "flagged as drift"),
        [
            (
                space_digits(i.name),
                str(i.severity),
                interval(i),
                percent(i.drift_flagged),
            )
            for i in items
        ],
    )
    drawing = grids.heat(
        "stress",
        "Accuracy by kind and severity of error",
        _about(items),
        ended,
        columns=columns,
        over="severity",
        end="flagged",
    )
    return Section(
        "stress",
        "Errors in the input",
        words=[
            "Missing values, changed units, swapped columns: what goes wrong upstream of a model."
            " An error should cost little, or be flagged as drift. “Flagged” is the share flagged"
            " at the highest severity."
        ],
        plates=[Plate("Right, by kind and severity", drawing, "In per cent.", table)],
    )


def edge_cases(view: View) -> Section:
    """Inputs that are no instance of any class: confidence should be low or the flag up."""
    cases = view.figures.edge_cases
    if not cases:
        return Section("edges", "Unexpected inputs")
    rows = [(c.name, c.confidence, c.drift_flagged) for c in cases]
    drawing = grids.pairs(
        "edges",
        "Confidence and flags on inputs that are no instance of any class",
        "; ".join(f"{n}: confidence {percent(a)}, flagged {percent(b)}" for n, a, b in rows) + ".",
        rows,
        names=("confidence of the answer", "flagged as drift"),
    )
    table = WordTable(
        ("input", "rows", "finite answers", "confidence", "flagged as drift"),
        [
            (
                c.name,
                str(c.n),
                "yes" if c.finite else "no",
                percent(c.confidence),
                percent(c.drift_flagged),
            )
            for c in cases
        ],
    )
    return Section(
        "edges",
        "Unexpected inputs",
        words=[
            "None of these is an instance of any class. A model has to answer something: the flag"
            " should be up, the more so where the confidence is high."
        ],
        plates=[Plate("What it says, and whether it is flagged", drawing, "", table)],
    )


def _heat_map(view: View, index: int, group: str, items: Sequence[CorruptionFigure]) -> Plate:
    previous = view.previous
    before = {
        (space_digits(p.name), p.severity): p
        for p in (() if previous is None else previous.corruptions)
        if p.group == group and known(p)
    }
    rows, columns = _cells(items)
    version = None if previous is None else previous.version
    end = "mean" if not before else "change" if version is None else f"vs v{version}"
    ended = [grids.HeatRow(row.label, row.shares, _end(row, columns, before)) for row in rows]
    drawing = grids.heat(
        f"heat-{index}",
        f"Accuracy under corruption: {GROUPS.get(group, group)}",
        _about(items),
        ended,
        columns=columns,
        over="severity",
        end=end,
    )
    head = ("corruption", "severity", "right (95% interval)", view.before)
    table = [
        (
            space_digits(i.name),
            str(i.severity),
            interval(i),
            interval(before.get((space_digits(i.name), i.severity))),
        )
        for i in items
    ]
    keep = 4 if before else 3
    caption = "Worst first. The last column is the mean over severities."
    if before:
        caption = "Worst first. The last column is the change of the mean, in points."
    behind = WordTable(head[:keep], [row[:keep] for row in table])
    return Plate(GROUPS.get(group, group), drawing, caption, behind)


def _cells(items: Figures) -> tuple[list[grids.HeatRow], list[str]]:
    """Rows by kind, worst mean first, and the severities that occur."""
    severities = sorted({i.severity for i in items})
    kinds: dict[str, dict[int, float | None]] = {}
    for item in items:
        value = item.value if known(item) else None
        kinds.setdefault(space_digits(item.name), {})[item.severity] = value
    rows = [
        grids.HeatRow(name, tuple(values.get(s) for s in severities))
        for name, values in kinds.items()
    ]
    rows.sort(key=lambda row: 2.0 if (mean := _mean(row.shares)) is None else mean)
    return rows, [str(s) for s in severities]


def _mean(shares: Sequence[float | None]) -> float | None:
    measured = [s for s in shares if s is not None]
    return sum(measured) / len(measured) if measured else None


def _end(
    row: grids.HeatRow, columns: Sequence[str], before: Mapping[Cell, CorruptionFigure]
) -> str:
    if not before:
        return _whole(_mean(row.shares))
    both = [
        share - before[row.label, int(c)].value
        for share, c in zip(row.shares, columns, strict=True)
        if share is not None and (row.label, int(c)) in before
    ]
    return points(sum(both) / len(both)) if both else DASH


def _whole(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f}%"


def _about(items: Figures) -> str:
    ranked = sorted((i for i in items if known(i)), key=lambda i: i.value)
    if not ranked:
        return "No figures."
    return " ".join(
        f"{word}: {space_digits(i.name)} at severity {i.severity}, {percent(i.value)}."
        for word, i in (("Lowest", ranked[0]), ("Highest", ranked[-1]))
    )
