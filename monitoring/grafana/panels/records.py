"""Grafana's panels as records. Source: Grafana 11, schema version 39.

An unset field is left out of the JSON.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Queries = Mapping[str, str]
Form = Literal["time_series", "heatmap", "table"]
Options = Mapping[str, object]  # of a panel, by its type: constants that nothing here reads

WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8  # grid cells of every panel
LAST: Options = {"calcs": ["lastNotNull"], "fields": "", "values": False}
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


class Link(Record, frozen=True, kw_only=True):
    """Where a panel or dashboard leads."""

    title: str
    url: str
    target_blank: bool = True


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
    links: tuple[Link, ...] = ()
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

    `instant` asks for the latest value only; `form` is `time_series`, `table`, or `heatmap` for
    buckets.
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


def make_panel(
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
