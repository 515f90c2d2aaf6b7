"""Panels of Grafana as records, and plain functions that make and place them."""

from monitoring.grafana.panels.charts import heatmap, lines, timeline
from monitoring.grafana.panels.figures import bars, gauge, stat, table
from monitoring.grafana.panels.layout import arrange, with_links
from monitoring.grafana.panels.records import (
    AMBER,
    DATASOURCE,
    GREEN,
    GREY,
    RED,
    DataSource,
    Link,
    Panel,
    Record,
    thresholds,
    value_map,
)

__all__ = [
    "AMBER", "DATASOURCE", "GREEN", "GREY", "RED", "DataSource", "Link", "Panel", "Record",
    "arrange", "bars", "gauge", "heatmap", "lines", "stat", "table", "thresholds", "timeline",
    "value_map", "with_links",
]  # fmt: skip
