"""The Holdfast dashboard as code.

`python -m monitoring.grafana.dashboard` rewrites `dashboards/holdfast.json`, which a test compares
byte for byte. Panels stand in `rows`, their building blocks in `panels`.
"""

import json
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from monitoring.grafana.loop_rows import loop_row
from monitoring.grafana.panels import DATASOURCE, DataSource, Panel, Record, RowHeader, arrange
from monitoring.grafana.rows import accuracy_row, drift_row, serving_row, tampering_row
from monitoring.grafana.unlabelled import unlabelled_row

PATH = Path(__file__).parent / "dashboards" / "holdfast.json"


class LabelQuery(Record, frozen=True, kw_only=True):
    """The values of a label."""

    query: str
    ref_id: str


class Choice(Record, frozen=True, kw_only=True):
    """What is chosen of a variable at first."""

    selected: bool = True
    text: list[str]
    value: list[str]


class Variable(Record, frozen=True, kw_only=True):
    """Something that a person chooses at the head of the dashboard."""

    name: str
    label: str
    type: str
    datasource: DataSource | UnsetType = UNSET
    query: str | LabelQuery
    refresh: int
    sort: int | UnsetType = UNSET
    multi: bool | UnsetType = UNSET
    include_all: bool | UnsetType = UNSET
    all_value: str | UnsetType = UNSET
    current: Choice | UnsetType = UNSET


class Variables(Record, frozen=True, kw_only=True):
    """The variables, as Grafana wraps them."""

    variables: list[Variable] = msgspec.field(name="list")


class Span(Record, frozen=True, kw_only=True):
    """The time that is shown at first."""

    start: str = msgspec.field(default="now-1h", name="from")
    end: str = msgspec.field(default="now", name="to")


class Dashboard(Record, frozen=True, kw_only=True):
    """Grafana's JSON model of a dashboard."""

    uid: str
    title: str
    description: str
    tags: tuple[str, ...]
    schema_version: int = 39
    version: int = 1
    editable: bool = False
    graph_tooltip: int = 1
    refresh: str = "10s"
    time: Span = Span()
    timezone: str = "browser"
    templating: Variables
    panels: tuple[Panel | RowHeader, ...]


def variables() -> Variables:
    """Return the dashboard's variables: the data source and the models shown."""
    source = Variable(
        name="datasource", label="Data source", type="datasource", query="prometheus", refresh=1
    )
    models = "label_values(holdfast_predictions_total, model)"
    model = Variable(
        name="model",
        label="Model",
        type="query",
        datasource=DATASOURCE,
        query=LabelQuery(query=models, ref_id="models"),
        refresh=2,
        sort=1,
        multi=True,
        include_all=True,
        all_value=".*",
        current=Choice(text=["All"], value=["$__all"]),
    )
    return Variables(variables=[source, model])


def dashboard() -> Dashboard:
    """Return the dashboard in Grafana's JSON model."""
    rows = [
        ("Is it serving?", serving_row()),
        ("Has the world moved?", drift_row()),
        ("Is someone tampering?", tampering_row()),
        ("Is it right?", accuracy_row()),
        ("Is it right where nobody says so?", unlabelled_row()),
        ("What did the loop do?", loop_row()),
    ]
    return Dashboard(
        uid="holdfast",
        title="Holdfast",
        description="Serving, drift, tampering, accuracy and lifecycle of the served models.",
        tags=("holdfast",),
        templating=variables(),
        panels=tuple(arrange(rows)),
    )


def expressions(model: str = ".*", rate_interval: str = "1m") -> list[str]:
    """Return every PromQL expression of the dashboard, its variables replaced by these values.

    On a healthy system under traffic (200 requests within 5 minutes, the rules loaded) none of
    them has an empty answer.
    """
    charts = [panel for panel in dashboard().panels if isinstance(panel, Panel)]
    return [
        target.expr.replace("$model", model).replace("$__rate_interval", rate_interval)
        for chart in charts
        for target in chart.targets
    ]


def render() -> str:
    """Return the text of the dashboard's JSON file."""
    return json.dumps(msgspec.to_builtins(dashboard()), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
