"""SVG by a few functions: elements, text that fits, scales, ticks. All text is escaped by `tag`.

Colours are classes (`page.html.j2` gives them, for light, dark and print), never literal here.
Units are CSS pixels at a width of `WIDTH`, about what a phone shows.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

WIDTH = 360
Scale = Callable[[float], float]


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; `css` is its class, `_` in names becomes `-`, None leaves an attribute out.

    >>> print(tag("text", "a < b", x=1.25, css="quiet", text_anchor=None))
    <text x="1.25" class="quiet">a &lt; b</text>
    """
    parts = [
        Markup(' {}="{}"').format(
            "class" if key == "css" else key.replace("_", "-"),
            _plain(value) if isinstance(value, float) else value,
        )
        for key, value in attributes.items()
        if value is not None
    ]
    opening = Markup("<") + Markup(name) + Markup("").join(parts)
    if not children:
        return opening + Markup("/>")
    body = Markup("").join(escape(child) for child in children)
    return opening + Markup(">") + body + Markup("</") + Markup(name) + Markup(">")


def figure(
    ident: str, title: str, about: str, height: float, *body: str, width: float = WIDTH
) -> Markup:
    """A whole figure: named and described for those who do not see it.

    Args:
        ident: unique on the page; the names hang on it.
        title: what it is; about: what it shows, in a sentence.
        height, width: of the drawing, in CSS pixels at its natural size.
        body: elements made by `tag`.
    """
    return tag(
        "svg",
        tag("title", title, id=f"{ident}-title"),
        tag("desc", about, id=f"{ident}-about"),
        *body,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-about",
        css="figure",
    )


def text(
    x: float, y: float, content: str, css: str = "", anchor: str = "start", full: str | None = None
) -> Markup:
    """A line of text; `full` is what a pointer shows where `content` was cut."""
    inner = [tag("title", full)] if full is not None and full != content else []
    return tag(
        "text",
        content,
        *inner,
        x=x,
        y=y,
        css=css or None,
        text_anchor=None if anchor == "start" else anchor,
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, css=css)


def path(points: Sequence[tuple[float, float]], css: str, *, close: bool = False) -> Markup:
    """A line through points."""
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if close else ''}", css=css)


def marker(kind: int, x: float, y: float, css: str, size: float = 3.6) -> Markup:
    """One of five shapes, so that series are told apart without colour."""
    if kind % 5 == 0:
        return tag("circle", cx=x, cy=y, r=size, css=css)
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)],
        2: [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        3: [(0, -1.3), (1.2, 0.95), (-1.2, 0.95)],
        4: [(0, 1.3), (1.2, -0.95), (-1.2, -0.95)],
    }
    return path([(x + size * a, y + size * b) for a, b in shapes[kind % 5]], css, close=True)


def linear(domain: tuple[float, float], reach: tuple[float, float]) -> Scale:
    """A linear scale; a domain of no width maps to the middle."""
    (a, b), (c, d) = domain, reach
    return lambda v: c + (d - c) * ((v - a) / (b - a) if b != a else 0.5)


def logarithmic(domain: tuple[float, float], reach: tuple[float, float]) -> Scale:
    """A scale of the logarithm; what lies below the domain is put at its edge."""
    a, b = (math.log10(v) for v in domain)
    inner = linear((a, b), reach)
    return lambda v: inner(math.log10(max(v, domain[0])))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in [low, high], at most `most`.

    >>> ticks(0, 0.5, 6), ticks(0, 1, 3)
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [0.0, 0.5, 1.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * k, 10) for k in range(first, last + 1)]


def width_of(content: str, size: float = 11) -> float:
    """About how wide a text is in a sans serif of `size` pixels (wide scripts count double)."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in content)
    return 0.54 * size * (len(content) + wide)


def fit(content: str, width: float, size: float = 11) -> str:
    """The text, cut with an ellipsis to about `width` pixels.

    >>> fit("Cardigan Welsh corgi", 80)
    'Cardigan Wel…'
    """
    if width_of(content, size) <= width:
        return content
    cut = content
    while cut and width_of(cut + "…", size) > width:
        cut = cut[:-1]
    return cut.rstrip() + "…"


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
