"""Line charts: accuracy against size of attack, ROC, certificates, and the reliability diagram."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from models.reporting.drawing import svg
from models.reporting.drawing.svg import Scale, tag, text
from models.reporting.numbers import number, percent
from models.statistics.shares import Bin

LEFT, RIGHT, TOP, BOTTOM = 38.0, 12.0, 8.0, 36.0


@dataclass(frozen=True)
class Series:
    """One line of a chart: points (x, value, low, high); no band where low or high is None."""

    name: str
    points: tuple[tuple[float, float, float | None, float | None], ...]
    css: str  # k0 .. k4, before, noise, chance
    shape: int | None = 0  # of the markers; None: no markers
    spots: tuple[tuple[float, float], ...] | None = None  # where markers are; None: at every point


@dataclass(frozen=True)
class Axis:
    """The horizontal axis."""

    low: float
    high: float
    label: str
    log: bool = False  # in per cent
    share: bool = False  # in per cent

    def scale(self, reach: tuple[float, float]) -> Scale:
        """To drawing units."""
        kind = svg.logarithmic if self.log else svg.linear
        return kind((self.low, self.high), reach)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Where the axis is labelled and how."""
        if self.log:
            return [
                (v, f"{100 * v:g}%")
                for v in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
                if self.low <= v <= self.high
            ]
        if self.share:
            return [(v, f"{100 * v:g}%") for v in svg.ticks(self.low, self.high, most)]
        return [(v, number(v)) for v in svg.ticks(self.low, self.high, most)]


@dataclass(frozen=True)
class Mark:
    """A vertical line: a threshold, the size that is judged."""

    x: float
    label: str


def lines(
    ident: str,
    title: str,
    about: str,
    series: Sequence[Series],
    axis: Axis,
    *,
    y_label: str,
    mark: Mark | None = None,
    width: float = svg.WIDTH,
    height: float = 230,
) -> Markup:
    """A chart of shares (0 to 1) with a legend above, bands for intervals, markers and dashes."""
    legend, rows = _legend(series, width)
    top = TOP + 16 * rows + 20
    x = axis.scale((LEFT, width - RIGHT))
    y = svg.linear((0, 1), (top + height - BOTTOM - 20, top))
    body: list[str] = [legend, *_frame(x, y, axis, y_label, width)]
    if mark is not None and axis.low <= mark.x <= axis.high:
        body += _mark(mark, x(mark.x), y, width)
    body += [_band(s, x, y) for s in series]
    body += [drawn for s in series for drawn in _line(s, x, y)]
    return svg.figure(ident, title, about, top + height - 20, *body, width=width)


def reliability(
    ident: str,
    title: str,
    about: str,
    bins: Sequence[Bin],
    intervals: Sequence[tuple[float, float]],
    *,
    names: tuple[str, str] = ("confidence", "right"),
    axes: tuple[str, str] = ("stated confidence", "answered rightly"),
) -> Markup:
    """Stated confidence against how often it was right; a cross per bin, and the gap it leaves.

    Args:
        ident, title, about: as in `svg.figure`.
        bins: with `n` > 0.
        intervals: of each bin's accuracy.
        names, axes: of both in the words of a bin and of the axes, for other probabilities.
    """
    side, top = svg.WIDTH - LEFT - RIGHT, TOP + 16
    x = svg.linear((0, 1), (LEFT, svg.WIDTH - RIGHT))
    y = svg.linear((0, 1), (top + 0.8 * side, top))
    axis = Axis(0, 1, axes[0], share=True)
    body: list[str] = [*_frame(x, y, axis, axes[1], svg.WIDTH)]
    body.append(svg.path([(x(0), y(0)), (x(1), y(1))], "chance"))
    for b, (low, high) in zip(bins, intervals, strict=True):
        at, right = x(b.confidence), y(b.accuracy)
        stated, was = percent(b.confidence), percent(b.accuracy)
        words = f"{names[0]} {stated}, {names[1]} {was}, n = {b.n}"
        body.append(svg.line(at, right, at, y(b.confidence), "gap"))
        body.append(svg.line(at, y(low), at, y(high), "whisker k0"))
        body.append(svg.line(x(b.low), right, x(b.high), right, "whisker k0"))
        body.append(tag("g", tag("title", words), svg.marker(0, at, right, "dot k0")))
    return svg.figure(ident, title, about, y(0) + BOTTOM, *body)


def _frame(x: Scale, y: Scale, axis: Axis, y_label: str, width: float) -> list[str]:
    drawn = [text(2, y(1) - 12, y_label, "label")]
    for v in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(svg.line(LEFT, y(v), width - RIGHT, y(v), "axis" if v == 0 else "grid"))
        drawn.append(text(LEFT - 6, y(v) + 4, f"{100 * v:.0f}%", "tick", "end"))
    for v, label in axis.ticks(int((width - LEFT - RIGHT) // 44)):
        drawn.append(svg.line(x(v), y(0), x(v), y(0) + 4, "axis"))
        drawn.append(text(x(v), y(0) + 16, label, "tick", "middle"))
    middle = (LEFT + width - RIGHT) / 2
    return [*drawn, text(middle, y(0) + 32, svg.fit(axis.label, width - LEFT), "label", "middle")]


def _mark(mark: Mark, at: float, y: Scale, width: float) -> list[str]:
    left = at > width / 2
    return [
        svg.line(at, y(0), at, y(1), "mark"),
        text(
            at + (-5 if left else 5),
            y(1) + 10,
            mark.label,
            "mark-label",
            "end" if left else "start",
        ),
    ]


def _legend(series: Sequence[Series], width: float) -> tuple[Markup, int]:
    """The legend in as many rows as it needs."""
    at, row, drawn = 2.0, 0, []
    for s in series:
        label = svg.fit(s.name, width - 40)
        wide = 30 + svg.width_of(label) + 14
        if at > 2 and at + wide > width:
            at, row = 2.0, row + 1
        y = TOP + 16 * row + 2
        drawn.append(svg.line(at, y, at + 22, y, f"line {s.css}"))
        if s.shape is not None:
            drawn.append(svg.marker(s.shape, at + 11, y, f"dot {s.css}"))
        drawn.append(text(at + 28, y + 4, label, "key", full=s.name))
        at += wide
    return tag("g", *drawn), row + 1


def _band(series: Series, x: Scale, y: Scale) -> Markup:
    ends = [
        (at, low, high)
        for at, _, low, high in series.points
        if low is not None and high is not None
    ]
    if len(ends) < 2:
        return Markup("")
    upper = [(x(at), y(high)) for at, _, high in ends]
    lower = [(x(at), y(low)) for at, low, _ in reversed(ends)]
    return svg.path([*upper, *lower], f"band {series.css}", close=True)


def _line(series: Series, x: Scale, y: Scale) -> list[str]:
    drawn: list[str] = []
    if len(series.points) > 1:
        drawn.append(svg.path([(x(p[0]), y(p[1])) for p in series.points], f"line {series.css}"))
    if series.shape is None:
        return drawn
    spots = [p[:2] for p in series.points] if series.spots is None else series.spots
    for at, value in spots:
        title = tag("title", f"{series.name}, {number(at)}: {percent(value)}")
        drawn.append(
            tag("g", title, svg.marker(series.shape, x(at), y(value), f"dot {series.css}"))
        )
    return drawn
