"""Grafana panels as plain functions on plain dictionaries.

A panel is what Grafana's dashboard model calls a panel, less `id`: `arrange` numbers and places all
of them, so that ids are unique and nothing overlaps. Source: Grafana 11, schema version 39.
Queries are given as `{legend: expression}`; a legend may use `{{label}}`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Panel = dict[str, Any]
Queries = Mapping[str, str]

WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8  # grid cells of every panel
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, AMBER, RED, GREY = "green", "orange", "red", "text"


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> dict[str, Any]:
    """Return absolute thresholds: colour `base`, then each colour from its value upwards."""
    first: dict[str, Any] = {"color": base, "value": None}
    above = [{"color": colour, "value": value} for value, colour in steps]
    return {"mode": "absolute", "steps": [first, *above]}


def value_map(texts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return a mapping of values to (text, colour)."""
    options = {
        value: {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return {"type": "value", "options": options}


def targets(queries: Queries, *, instant: bool = False, form: str = "time_series") -> list[Any]:
    """Return the queries as Grafana's targets, with refIds A, B, C, ...

    `instant` asks for the latest value only; `form` is `time_series`, or `heatmap` for buckets.
    """
    assert len(queries) <= 26
    return [
        {
            "datasource": DATASOURCE,
            "expr": expr,
            "format": form,
            "instant": instant,
            "legendFormat": legend,
            "range": not instant,
            "refId": chr(ord("A") + number),
        }
        for number, (legend, expr) in enumerate(queries.items())
    ]


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Any],
    *,
    width: int,
    defaults: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Panel:
    """Return a panel of the given kind; `defaults` are Grafana's field defaults."""
    assert 1 <= width <= WIDTH
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": list(queries),
        "fieldConfig": {"defaults": dict(defaults), "overrides": []},
        "options": dict(options),
        "gridPos": {"w": width, "h": HEIGHT, "x": 0, "y": 0},
    }


def lines(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str,
    width: int,
    limits: dict[str, Any] | None = None,
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
    defaults: dict[str, Any] = {
        "unit": unit,
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": limits or thresholds(),
    }
    if top is not None:
        defaults |= {"min": 0, "max": top}
    legend = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    asked = targets(queries)
    return _panel(
        "timeseries", title, description, asked, width=width, defaults=defaults, options=options
    )


def stat(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str,
    width: int,
    limits: dict[str, Any] | None = None,
    mappings: Sequence[dict[str, Any]] = (),
) -> Panel:
    """Return a panel of big numbers, one per series, coloured by `limits` where given."""
    defaults = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "mappings": list(mappings),
        "thresholds": limits or thresholds(base=GREY),
    }
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
    asked = targets(queries, instant=True)
    return _panel(
        "stat", title, description, asked, width=width, defaults=defaults, options=options
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
    asked = targets({"{{le}}": buckets}, form="heatmap")
    defaults = {"unit": "short"}
    return _panel(
        "heatmap", title, description, asked, width=width, defaults=defaults, options=options
    )


def arrange(rows: Iterable[tuple[str, Sequence[Panel]]]) -> list[Panel]:
    """Place titled rows below each other, panels left to right, and number everything from 1.

    A panel that does not fit in a line begins the next one.
    """
    placed: list[Panel] = []
    y = 0
    for title, panels in rows:
        header = {"type": "row", "title": title, "collapsed": False, "panels": []}
        placed.append({**header, "gridPos": {"w": WIDTH, "h": 1, "x": 0, "y": y}})
        x, y = 0, y + 1
        for each in panels:
            width = each["gridPos"]["w"]
            if x + width > WIDTH:
                x, y = 0, y + HEIGHT
            placed.append({**each, "gridPos": {**each["gridPos"], "x": x, "y": y}})
            x += width
        y += HEIGHT
    return [{"id": number, **each} for number, each in enumerate(placed, start=1)]
