"""Grafana's panels as records, and plain functions that make them.

A panel is what Grafana calls one; `arrange` numbers and places all of them, so
that ids are unique and nothing overlaps. Source: Grafana 11, schema version 39.
Queries are given as `{legend: expression}`; a legend may use `{{label}}`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Queries = Mapping[str, str]
Form = Literal["time_series", "heatmap"]
Options = Mapping[str, object]  # of a panel, by its type: constants that nothing here reads

WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8  # grid cells of every panel
GREEN, AMBER, RED, GREY = "green", "orange", "red", "text"


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of a dashboard; an unset field is left out of the JSON."""


class DataSource(Record, frozen=True, kw_only=True):
    """Where a panel's queries go."""

    type: str = "prometheus"
    uid: str = "${datasource}"


DATASOURCE = DataSource()


class Step(Record, frozen=True, kw_only=True):
    """A colour from a value upwards; from None: below all others."""

    color: str
    value: float | None


class Thresholds(Record, frozen=True, kw_only=True):
    """Colours by absolute value."""

    mode: str = "absolute"
    steps: list[Step]


class ValueText(Record, frozen=True, kw_only=True):
    """What is shown for one value."""

    text: str
    color: str
    index: int


class ValueMap(Record, frozen=True, kw_only=True):
    """What is shown for some values."""

    type: str = "value"
    options: dict[str, ValueText]


class Target(Record, frozen=True, kw_only=True):
    """A query of a panel."""

    datasource: DataSource = DATASOURCE
    expr: str
    format: Form
    instant: bool
    legend_format: str
    range: bool
    ref_id: str


class Place(Record, frozen=True, kw_only=True):
    """Where a panel lies in the grid."""

    w: int
    h: int = HEIGHT
    x: int = 0
    y: int = 0


class Defaults(Record, frozen=True, kw_only=True):
    """Grafana's field defaults: unit, colours and axis of all series of a panel."""

    unit: str
    color: Options | UnsetType = UNSET
    custom: Options | UnsetType = UNSET
    mappings: list[ValueMap] | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET
    min: float | UnsetType = UNSET
    max: float | UnsetType = UNSET


class FieldConfig(Record, frozen=True, kw_only=True):
    """The defaults; no series overrides them."""

    defaults: Defaults
    overrides: list[str] = []


class Panel(Record, frozen=True, kw_only=True):
    """A chart; `id` and place are set by `arrange`."""

    id: int = 0
    type: str
    title: str
    description: str
    datasource: DataSource = DATASOURCE
    targets: list[Target]
    field_config: FieldConfig
    options: Options
    grid_pos: Place


class RowHeader(Record, frozen=True, kw_only=True):
    """The title of a row of panels."""

    id: int = 0
    type: str = "row"
    title: str
    collapsed: bool = False
    panels: list[Panel] = []
    grid_pos: Place


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> Thresholds:
    """Return absolute thresholds: colour `base`, then each colour from its value upwards."""
    above = [Step(color=colour, value=value) for value, colour in steps]
    return Thresholds(steps=[Step(color=base, value=None), *above])


def value_map(texts: Mapping[str, tuple[str, str]]) -> ValueMap:
    """Return a mapping of values to (text, colour)."""
    options = {
        value: ValueText(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return ValueMap(options=options)


def targets(queries: Queries, *, instant: bool = False, form: Form = "time_series") -> list[Target]:
    """Return the queries as Grafana's targets, with refIds A, B, C, ...

    `instant` asks for the latest value only; `form` is `time_series`, or `heatmap` for buckets.
    """
    assert len(queries) <= 26
    return [
        Target(
            expr=expr,
            format=form,
            instant=instant,
            legend_format=legend,
            range=not instant,
            ref_id=chr(ord("A") + number),
        )
        for number, (legend, expr) in enumerate(queries.items())
    ]


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: list[Target],
    *,
    width: int,
    defaults: Defaults,
    options: Options,
) -> Panel:
    """Return a panel of the given kind, not placed yet."""
    assert 1 <= width <= WIDTH
    return Panel(
        type=kind,
        title=title,
        description=description,
        targets=queries,
        field_config=FieldConfig(defaults=defaults),
        options=options,
        grid_pos=Place(w=width),
    )


def lines(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str,
    width: int,
    limits: Thresholds | None = None,
    style: str = "line",
    top: float | None = None,
) -> Panel:
    """Return a time series panel; `limits`, where given, are drawn as lines.

    `unit` is a Grafana unit id; `style` is `line`, `stacked`, or `bars` (stacked, for counts per
    interval); `top` fixes the axis at [0, top].
    """
    custom = {
        "drawStyle": "bars" if style == "bars" else "line",
        "fillOpacity": 8 if style == "line" else 60,
        "lineWidth": 1,
        "showPoints": "never",
        "stacking": {"group": "A", "mode": "none" if style == "line" else "normal"},
        "thresholdsStyle": {"mode": "line" if limits else "off"},
    }
    defaults = Defaults(
        unit=unit,
        color={"mode": "palette-classic"},
        custom=custom,
        thresholds=limits or thresholds(),
        min=UNSET if top is None else 0,
        max=UNSET if top is None else top,
    )
    legend = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return _panel(
        "timeseries",
        title,
        description,
        targets(queries),
        width=width,
        defaults=defaults,
        options=options,
    )


def stat(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str,
    width: int,
    limits: Thresholds | None = None,
    mappings: Sequence[ValueMap] = (),
) -> Panel:
    """Return a panel of big numbers, one per series, coloured by `limits` where given."""
    defaults = Defaults(
        unit=unit,
        color={"mode": "thresholds"},
        mappings=list(mappings),
        thresholds=limits or thresholds(base=GREY),
    )
    options = {
        "colorMode": "background" if limits else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "textMode": "value_and_name",
        "wideLayout": True,
    }
    return _panel(
        "stat",
        title,
        description,
        targets(queries, instant=True),
        width=width,
        defaults=defaults,
        options=options,
    )


def heatmap(title: str, description: str, buckets: str, *, width: int) -> Panel:
    """Return a heat map over time of a Prometheus histogram's buckets, counts as colour."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Blues",
            "fill": "blue",
            "steps": 32,
            "reverse": False,
            "exponent": 0.5,
        },
        "exemplars": {"color": "orange"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "le"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": "none"},
    }
    return _panel(
        "heatmap",
        title,
        description,
        targets({"{{le}}": buckets}, form="heatmap"),
        width=width,
        defaults=Defaults(unit="short"),
        options=options,
    )


def arrange(rows: Iterable[tuple[str, Sequence[Panel]]]) -> list[Panel | RowHeader]:
    """Place titled rows below each other, panels left to right, and number everything from 1.

    A panel that does not fit in a line begins the next one.
    """
    placed: list[Panel | RowHeader] = []
    y = 0
    for title, panels in rows:
        placed.append(RowHeader(title=title, grid_pos=Place(w=WIDTH, h=1, y=y)))
        x, y = 0, y + 1
        for each in panels:
            width = each.grid_pos.w
            if x + width > WIDTH:
                x, y = 0, y + HEIGHT
            place = msgspec.structs.replace(each.grid_pos, x=x, y=y)
            placed.append(msgspec.structs.replace(each, grid_pos=place))
            x += width
        y += HEIGHT
    return [msgspec.structs.replace(each, id=number) for number, each in enumerate(placed, start=1)]
