"""The dashboards as code.

`python -m monitoring.grafana.dashboard` rewrites `dashboards/*.json`, which a test compares byte
for byte. Panels stand in `boards`, their building blocks in `panels`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from monitoring.grafana.boards import drift, lifecycle, overview, perturbation, quality, service
from monitoring.grafana.panels import DATASOURCE, DataSource, Panel, Record, arrange

FOLDER = Path(__file__).parent / "dashboards"


class Board(NamedTuple):
    """A dashboard: its uid is `holdfast-NAME`."""

    name: str
    question: str
    panels: Callable[[], list[Panel]]

    @property
    def uid(self) -> str:
        """Grafana's name for it, and that of its file."""
        return f"holdfast-{self.name}"


BOARDS = (
    Board("overview", "Who has to act, and on what?", overview.panels),
    Board("drift", "Did a client break something, or did the world change?", drift.panels),
    Board("perturbation", "Block, reject, or recalibrate?", perturbation.panels),
    Board("quality", "Can the figures be believed, and is a rollback due?", quality.panels),
    Board("lifecycle", "Approve, wait, or repair?", lifecycle.panels),
    Board("service", "Scale, roll back, or restart?", service.panels),
)


class LabelQuery(Record, frozen=True, kw_only=True):
    """The values of a label."""

    query: str
    ref_id: str


class Choice(Record, frozen=True, kw_only=True):
    """What is chosen of a variable at first."""

    selected: bool = True
    text: list[str] | str
    value: list[str] | str


ALL = Choice(text=["All"], value=["$__all"])


class Variable(Record, frozen=True, kw_only=True):
    """Something that a person chooses at the head of the dashboard."""

    name: str
    label: str
    type: str
    datasource: DataSource | UnsetType = UNSET
    query: str | LabelQuery
    refresh: int | UnsetType = UNSET
    sort: int | UnsetType = UNSET
    multi: bool | UnsetType = UNSET
    include_all: bool | UnsetType = UNSET
    all_value: str | UnsetType = UNSET
    current: Choice | UnsetType = UNSET


class Variables(Record, frozen=True, kw_only=True):
    """The variables, as Grafana wraps them."""

    variables: list[Variable] = msgspec.field(name="list")


class Annotation(Record, frozen=True, kw_only=True):
    """Events that are drawn into every chart."""

    name: str
    datasource: DataSource = DATASOURCE
    enable: bool = True
    expr: str
    icon_color: str
    title_format: str
    step: str = "10s"


class Annotations(Record, frozen=True, kw_only=True):
    """The annotations, as Grafana wraps them."""

    annotations: tuple[Annotation, ...] = msgspec.field(name="list")


class DashboardLink(Record, frozen=True, kw_only=True):
    """A link at the head: to all dashboards of a tag, or to an address."""

    title: str
    type: str
    tags: tuple[str, ...] = ()
    url: str = ""
    as_dropdown: bool = False
    include_vars: bool = False
    keep_time: bool = False
    target_blank: bool = False
    icon: str = "external link"
    tooltip: str = ""


class Span(Record, frozen=True, kw_only=True):
    """The time that is shown at first."""

    start: str = msgspec.field(default="now-1h", name="from")
    end: str = msgspec.field(default="now", name="to")


class Dashboard(Record, frozen=True, kw_only=True):
    """Grafana's JSON model of a dashboard."""

    uid: str
    title: str
    description: str
    tags: tuple[str, ...] = ("holdfast",)
    schema_version: int = 39
    version: int = 1
    editable: bool = False
    graph_tooltip: int = 1
    refresh: str = "10s"
    time: Span = Span()
    timezone: str = "browser"
    templating: Variables
    annotations: Annotations
    links: tuple[DashboardLink, ...]
    panels: tuple[Panel, ...]


ANNOTATIONS = Annotations(
    annotations=(
        Annotation(
            name="Promotions",
            expr='changes(holdfast_champion_version{model=~"$model"}[2m]) > 0',
            icon_color="blue",
            title_format="{{model}}: another champion",
        ),
        Annotation(
            name="Alerts",
            expr='ALERTS{alertname=~"Holdfast.+", alertstate="firing"}',
            icon_color="red",
            title_format="{{alertname}} {{model}}",
        ),
    )
)
LINKS = (
    DashboardLink(
        title="Holdfast", type="dashboards", tags=("holdfast",), include_vars=True, keep_time=True
    ),
    DashboardLink(title="Console", type="link", url="${console}", target_blank=True),
    DashboardLink(title="Runbooks", type="link", url="${console}/runbooks/", target_blank=True),
)


def variables() -> Variables:
    """Return the variables: data source, models, instances, channel, and where the console is."""
    source = Variable(
        name="datasource", label="Data source", type="datasource", query="prometheus", refresh=1
    )
    console = Variable(
        name="console",
        label="Console",
        type="textbox",
        query="http://127.0.0.1:8080",
        current=Choice(text="http://127.0.0.1:8080", value="http://127.0.0.1:8080"),
    )
    return Variables(
        variables=[
            source,
            _label("model", "Model", "holdfast_predictions_total", "model"),
            _label("instance", "Instance", "holdfast_threads", "instance"),
            _label("channel", "Channel", "holdfast_drift_evidence_log10", "channel"),
            console,
        ]
    )


def _label(name: str, label: str, metric: str, key: str) -> Variable:
    """A variable over the values of a label, all of them at first."""
    return Variable(
        name=name,
        label=label,
        type="query",
        datasource=DATASOURCE,
        query=LabelQuery(query=f"label_values({metric}, {key})", ref_id=name),
        refresh=2,
        sort=1,
        multi=True,
        include_all=True,
        all_value=".*",
        current=ALL,
    )


def dashboard(board: Board) -> Dashboard:
    """Return a dashboard in Grafana's JSON model."""
    return Dashboard(
        uid=board.uid,
        title=f"Holdfast: {board.name}",
        description=board.question,
        templating=variables(),
        annotations=ANNOTATIONS,
        links=LINKS,
        panels=tuple(arrange(board.panels())),
    )


def expressions(
    model: str = ".*", rate_interval: str = "1m", board: Board | None = None
) -> list[str]:
    """Return the PromQL of a dashboard, or of all, its variables replaced by these values.

    On a healthy system under traffic (200 requests within 5 minutes, the rules loaded) none of
    them has an empty answer.
    """
    values = {"$model": model, "$__rate_interval": rate_interval, "$instance": ".*",
              "$channel": ".*"}  # fmt: skip
    found = []
    for each in BOARDS if board is None else (board,):
        for panel in each.panels():
            for target in panel.targets:
                expr = target.expr
                for name, value in values.items():
                    expr = expr.replace(name, value)
                found.append(expr)
    return found


def render(board: Board) -> str:
    """Return the text of a dashboard's JSON file."""
    return json.dumps(msgspec.to_builtins(dashboard(board)), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for each in BOARDS:
        (FOLDER / f"{each.uid}.json").write_text(render(each), encoding="utf-8")
