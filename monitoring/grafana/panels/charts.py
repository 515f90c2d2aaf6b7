"""Panels over time: lines, heat maps, and bands of states. Queries are `{legend: expression}`."""

from collections.abc import Sequence

from msgspec import UNSET

from monitoring.grafana.panels.records import (
    GREY,
    Defaults,
    Panel,
    Queries,
    Thresholds,
    ValueMap,
    make_panel,
    targets,
    thresholds,
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
    return make_panel(
        "timeseries",
        title,
        description,
        targets(queries),
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
    return make_panel(
        "heatmap",
        title,
        description,
        targets({"{{le}}": buckets}, form="heatmap"),
        width=width,
        defaults=Defaults(unit="short"),
        options=options,
    )


def timeline(
    title: str,
    description: str,
    queries: Queries,
    *,
    width: int,
    limits: Thresholds | None = None,
    mappings: Sequence[ValueMap] = (),
) -> Panel:
    """Return bands over time, one per series, whose colour is the value."""
    defaults = Defaults(
        unit="none",
        color={"mode": "thresholds"},
        custom={"fillOpacity": 70, "lineWidth": 0},
        mappings=list(mappings),
        thresholds=limits or thresholds(base=GREY),
    )
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "perPage": 20,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return make_panel(
        "state-timeline",
        title,
        description,
        targets(queries),
        width=width,
        defaults=defaults,
        options=options,
    )
