"""Panels of how it is now: numbers, bars, dials and tables. Queries are `{legend: expression}`."""

from collections.abc import Sequence

from msgspec import UNSET

from monitoring.grafana.panels.records import (
    GREY,
    LAST,
    Defaults,
    Panel,
    Queries,
    Thresholds,
    ValueMap,
    make_panel,
    targets,
    thresholds,
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
        "reduceOptions": LAST,
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "textMode": "value_and_name",
        "wideLayout": True,
    }
    return make_panel(
        "stat",
        title,
        description,
        targets(queries, instant=True),
        width=width,
        defaults=defaults,
        options=options,
    )


def bars(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str,
    width: int,
    limits: Thresholds | None = None,
    top: float | None = None,
) -> Panel:
    """Return a panel of horizontal bars, one per series, from 0 to `top` where that is given."""
    defaults = Defaults(
        unit=unit,
        color={"mode": "thresholds"},
        thresholds=limits or thresholds(base=GREY),
        min=0,
        max=UNSET if top is None else top,
    )
    options = {
        "displayMode": "basic",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": LAST,
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    return make_panel(
        "bargauge",
        title,
        description,
        targets(queries, instant=True),
        width=width,
        defaults=defaults,
        options=options,
    )


def gauge(
    title: str, description: str, queries: Queries, *, unit: str, width: int, limits: Thresholds
) -> Panel:
    """Return a dial from 0 to 1, coloured by `limits`."""
    options = {
        "minVizHeight": 75,
        "minVizWidth": 75,
        "orientation": "auto",
        "reduceOptions": LAST,
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    }
    return make_panel(
        "gauge",
        title,
        description,
        targets(queries, instant=True),
        width=width,
        defaults=Defaults(unit=unit, color={"mode": "thresholds"}, thresholds=limits, min=0, max=1),
        options=options,
    )


def table(
    title: str,
    description: str,
    query: str,
    *,
    unit: str,
    width: int,
    limits: Thresholds | None = None,
) -> Panel:
    """Return a table of the series as they are now: a row each, a column per label."""
    defaults = Defaults(
        unit=unit,
        color={"mode": "thresholds"},
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        thresholds=limits or thresholds(base=GREY),
    )
    options = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "fields": [], "reducer": ["sum"], "show": False},
        "showHeader": True,
    }
    return make_panel(
        "table",
        title,
        description,
        targets({"{{model}}": query}, instant=True, form="table"),
        width=width,
        defaults=defaults,
        options=options,
    )
