"""Figures of rows and cells: a hundred rows, forests of intervals, heat maps, pairs of bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from models.reporting.drawing import svg
from models.reporting.drawing.svg import tag, text
from models.reporting.numbers import Share, bounds, known, percent

ROW = 22.0
LABEL, WIDEST = 128.0, 160.0  # room for names
HUNDRED = 244.0  # width of ten marks


@dataclass(frozen=True)
class Row:
    """A row of a forest: one share, and another to compare it with."""

    label: str
    share: Share
    other: Share | None = None


@dataclass(frozen=True)
class Stratum:
    """A class among a hundred rows: how many, right under attack, right only unattacked."""

    label: str
    n: int
    kept: int
    lost: int


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map: a share (or None) per column, and a word at the end."""

    label: str
    shares: tuple[float | None, ...]
    end: str = ""


def hundred(ident: str, title: str, about: str, kept: int, lost: int) -> Markup:
    """A hundred rows as marks: right under attack, right only unattacked, wrong anyway.

    Args:
        ident, title, about: as in `svg.figure`.
        kept: right under attack, of 100.
        lost: right, but not under attack, of 100.
    """
    body: list[str] = []
    for index in range(100):
        body += _mark(14 + 24 * (index % 10), 14 + 24 * (index // 10), index, kept, lost)
    return svg.figure(ident, title, about, HUNDRED, *body, width=HUNDRED)


def hundred_by_class(ident: str, title: str, about: str, strata: Sequence[Stratum]) -> Markup:
    """A hundred rows as marks, class by class, each under its name.

    Args:
        ident, title, about: as in `svg.figure`.
        strata: the classes; their rows add up to a hundred.
    """
    body: list[str] = []
    top = 0.0
    for stratum in strata:
        name = svg.fit(stratum.label, HUNDRED - 8)
        body.append(text(4, top + 13, name, "key", full=stratum.label))
        top += 18
        for index in range(stratum.n):
            x, y = 14 + 24 * (index % 10), top + 12 + 24 * (index // 10)
            body += _mark(x, y, index, stratum.kept, stratum.lost)
        top += 24 * -(-stratum.n // 10) + 6
    return svg.figure(ident, title, about, top, *body, width=HUNDRED)


def _mark(x: float, y: float, index: int, kept: int, lost: int) -> list[str]:
    """Right under attack, right only unattacked, or wrong anyway."""
    if index < kept:
        return [tag("circle", cx=x, cy=y, r=8, css="kept")]
    if index < kept + lost:
        core = tag("circle", cx=x, cy=y, r=2, css="lost-core")
        return [tag("circle", cx=x, cy=y, r=7, css="lost"), core]
    cross = [((x - 5, y - 5), (x + 5, y + 5)), ((x - 5, y + 5), (x + 5, y - 5))]
    return [svg.line(*a, *b, "wrong") for a, b in cross]


def strip(ident: str, title: str, share: Share, before: Share | None = None) -> Markup:
    """One share on a line from 0 to 100 %, its interval, and where the previous one stood."""
    x = svg.linear((0, 1), (6, 154))
    body: list[str] = [svg.line(6, 12, 154, 12, "grid"), svg.line(6, 9, 6, 15, "axis")]
    body.append(svg.line(154, 9, 154, 15, "axis"))
    about = f"{percent(share.value)}, 95% interval {bounds(share)}"
    if known(before):
        body.append(svg.marker(1, x(before.value), 12, "dot before"))
        about += f"; previous champion {percent(before.value)}"
    body.append(svg.line(x(share.low), 12, x(share.high), 12, "whisker k0 thick"))
    body.append(svg.marker(0, x(share.value), 12, "dot k0"))
    return svg.figure(ident, title, about, 24, *body, width=160)


def forest(
    ident: str, title: str, about: str, rows: Sequence[Row], *, names: tuple[str, str | None]
) -> Markup:
    """Shares with their intervals, one per row, on one axis from 0 to 100 %."""
    top = 30.0 if names[1] else 14.0
    label = min(WIDEST, max(60.0, 8 + max(svg.width_of(row.label, 11.5) for row in rows)))
    x = svg.linear((0, 1), (label + 6, svg.WIDTH - 46))
    bottom = top + ROW * len(rows)
    body: list[str] = _forest_legend(names) if names[1] else []
    for v in (0, 0.5, 1):
        body.append(svg.line(x(v), top - 4, x(v), bottom, "grid"))
        body.append(text(x(v), bottom + 14, f"{100 * v:.0f}%", "tick", "middle"))
    for index, row in enumerate(rows):
        y = top + ROW * index + ROW / 2
        words = svg.fit(row.label, label - 4)
        body.append(text(label - 4, y + 4, words, "key", "end", row.label))
        pairs = [(row.share, "k0", 0, 0.0)]
        if known(row.other):
            pairs = [(row.share, "k0", 0, -4.0), (row.other, "k1", 1, 4.0)]
        for share, css, shape, shift in pairs:
            body += _whisker(share, svg.linear((0, 1), (x(0), x(1))), y + shift, css, shape)
        last = row.other if known(row.other) else row.share
        value = percent(last.value) if known(last) else "no rows"
        body.append(text(svg.WIDTH - 2, y + 4, value, "value", "end"))
    return svg.figure(ident, title, about, bottom + 20, *body)


def heat(
    ident: str,
    title: str,
    about: str,
    rows: Sequence[HeatRow],
    *,
    columns: Sequence[str],
    over: str,
    end: str = "",
) -> Markup:
    """Shares of right answers as cells: the more is lost, the stronger the colour."""
    ends = 52.0 if end else 0.0
    left = LABEL - 4
    wide = (svg.WIDTH - left - ends) / max(1, len(columns))
    body: list[str] = [text(left + wide * len(columns) / 2, 11, over, "label", "middle")]
    body += [text(left + wide * (k + 0.5), 26, c, "tick", "middle") for k, c in enumerate(columns)]
    if end:
        body.append(text(svg.WIDTH - 1, 26, end, "tick", "end"))
    for index, row in enumerate(rows):
        y = 32 + ROW * index
        body.append(text(left - 6, y + 15, svg.fit(row.label, left - 8), "key", "end", row.label))
        for k, share in enumerate(row.shares):
            body += _cell(share, left + wide * k, y, wide, f"{row.label}, {columns[k]}")
        if row.end:
            body.append(text(svg.WIDTH - 1, y + 15, row.end, "value", "end"))
    return svg.figure(ident, title, about, 36 + ROW * len(rows), *body)


def pairs(
    ident: str,
    title: str,
    about: str,
    rows: Sequence[tuple[str, float | None, float | None]],
    *,
    names: tuple[str, str],
) -> Markup:
    """Two bars per row: what is good if short above, what is good if long below."""
    x = svg.linear((0, 1), (LABEL + 4, svg.WIDTH - 44))
    tall = 32.0
    body: list[str] = []
    for index, (name, css) in enumerate(zip(names, ("bar k1", "bar k0"), strict=True)):
        at = 2 + index * svg.WIDTH / 2
        body.append(tag("rect", x=at, y=4, width=18, height=9 if index else 5, css=css))
        body.append(text(at + 24, 13, svg.fit(name, svg.WIDTH / 2 - 28), "key"))
    for index, (label, first, second) in enumerate(rows):
        y = 26 + tall * index
        body.append(text(LABEL - 4, y + 17, svg.fit(label, LABEL - 6), "key", "end", label))
        for value, css, shift, height in (
            (first, "bar k1", 4.0, 5.0),
            (second, "bar k0", 13.0, 9.0),
        ):
            body.append(
                tag("rect", x=x(0), y=y + shift, width=x(1) - x(0), height=height, css="trough")
            )
            if value is not None:
                long = max(0.8, x(min(1.0, value)) - x(0))
                body.append(tag("rect", x=x(0), y=y + shift, width=long, height=height, css=css))
            number = percent(value)
            body.append(
                text(svg.WIDTH - 2, y + shift + 6 + (height - 5) / 2, number, "tiny", "end")
            )
    return svg.figure(ident, title, about, 30 + tall * len(rows), *body)


def _forest_legend(names: tuple[str, str | None]) -> list[str]:
    drawn: list[str] = []
    for index, name in enumerate(names):
        at = 2 + index * svg.WIDTH / 2
        drawn.append(svg.line(at, 10, at + 22, 10, f"whisker k{index}"))
        drawn.append(svg.marker(index, at + 11, 10, f"dot k{index}"))
        drawn.append(text(at + 28, 14, svg.fit(str(name), svg.WIDTH / 2 - 32), "key"))
    return drawn


def _whisker(share: Share, x: svg.Scale, y: float, css: str, shape: int) -> list[str]:
    if not known(share):
        return []
    drawn = svg.line(x(share.low), y, x(share.high), y, f"whisker {css}")
    title = tag("title", f"{percent(share.value)}, 95% interval {bounds(share)}")
    return [drawn, tag("g", title, svg.marker(shape, x(share.value), y, f"dot {css}"))]


def _cell(share: float | None, x: float, y: float, wide: float, name: str) -> list[str]:
    if share is None:
        return [text(x + wide / 2, y + 15, "–", "cell quiet", "middle")]
    box = tag(
        "rect",
        tag("title", f"{name}: {percent(share)}"),
        x=x + 0.75,
        y=y + 0.75,
        width=wide - 1.5,
        height=ROW - 1.5,
        rx=2,
        css="heat",
        fill_opacity=0.03 + 0.97 * min(1.0, max(0.0, 1 - share)) ** 0.8,
    )
    return [box, text(x + wide / 2, y + 15, f"{100 * share:.0f}", "cell", "middle")]
