"""The dashboard: what is committed is what the code says, and Grafana can lay it out."""

import itertools
import re
from typing import Any

import msgspec
import pytest
import yaml

from monitoring.grafana import dashboard, panels
from monitoring.grafana.boards import service
from monitoring.grafana.dashboard import BOARDS, Board
from monitoring.prometheus.alerting import loop, model, processes, watch
from tests.monitoring.test_prometheus_rules import ALERTS, documented_metrics, unknown_metrics
from tests.ops import ROOT

PANELS: dict[str, list[dict[str, Any]]] = {
    board.name: msgspec.to_builtins(dashboard.dashboard(board))["panels"] for board in BOARDS
}
CHARTS = [(name, panel) for name, charts in PANELS.items() for panel in charts]
GRAFANA = ROOT / "monitoring" / "grafana"
DATASOURCE = msgspec.to_builtins(panels.DATASOURCE)
# Ids of @grafana/data 11.6 getValueFormats(), and of the panels that Grafana has built in.
UNITS = {"bytes", "dateTimeFromNow", "none", "percentunit", "reqps", "s", "short"}
TYPES = {"bargauge", "gauge", "heatmap", "stat", "state-timeline", "table", "timeseries"}
every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.name))


@every_board
def test_the_committed_json_is_what_the_code_renders(board: Board) -> None:
    path = dashboard.FOLDER / f"{board.uid}.json"
    assert path.read_text(encoding="utf-8") == dashboard.render(board), (
        "run `python -m monitoring.grafana.dashboard`"
    )


def test_the_folder_holds_these_dashboards_only() -> None:
    assert {path.stem for path in dashboard.FOLDER.iterdir()} == {board.uid for board in BOARDS}


@every_board
def test_panel_ids_and_titles_are_unique(board: Board) -> None:
    for key in ("id", "title"):
        assert len({panel[key] for panel in PANELS[board.name]}) == len(PANELS[board.name])


@every_board
def test_panels_stay_in_the_grid_and_do_not_overlap(board: Board) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS[board.name]:
        box = panel["gridPos"]
        columns, lines = range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"])
        cells = set(itertools.product(columns, lines))
        assert columns.stop <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@every_board
def test_rows_are_filled_to_the_right_edge(board: Board) -> None:
    widths: dict[int, int] = {}
    for panel in PANELS[board.name]:
        y = panel["gridPos"]["y"]
        widths[y] = widths.get(y, 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {24}


@pytest.mark.parametrize(
    "panel", [chart for _, chart in CHARTS], ids=[f"{name}: {c['title']}" for name, c in CHARTS]
)
def test_every_panel_asks_one_question_and_explains_itself(panel: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z][^?.]*\?", panel["title"])
    assert panel["description"].endswith(".")
    assert panel["type"] in TYPES
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert references == sorted(set(references))
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == DATASOURCE
        assert target["legendFormat"]


def test_links_lead_to_dashboards_views_and_runbooks_that_exist() -> None:
    views = {"now", "tryit", "drift", "loop", "versions", "label"}
    for _, panel in CHARTS:
        for link in panel["links"]:
            url = link["url"]
            if runbook := re.fullmatch(r"\$\{console\}/runbooks/(\w+)", url):
                assert runbook[1] in ALERTS
            elif view := re.fullmatch(r"\$\{console\}/#(\w+)\?model=\$\{model\}", url):
                assert view[1] in views
            else:
                assert url.partition("?")[0].removeprefix("/d/") in {b.uid for b in BOARDS}


def test_expressions_use_documented_metrics_only_and_every_metric_has_a_panel() -> None:
    known = documented_metrics()
    expressions = dashboard.expressions()
    assert unknown_metrics(expressions, known) == set()
    shown = " ".join([*expressions, *(rule["expr"] for rule in _recording_rules())])
    for name in (each for each in known if ":" not in each):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in shown, f"no panel shows {name}"


def test_expressions_have_no_variable_left_and_take_the_given_values() -> None:
    expressions = dashboard.expressions(model="digits", rate_interval="20s")
    assert not any("$" in expression for expression in expressions)
    assert any('model=~"digits"' in expression for expression in expressions)
    assert any("[20s]" in expression for expression in expressions)


@pytest.mark.parametrize(
    ("alert", "condition"),
    [
        ("HoldfastErrorRatio", f"> {processes.ERROR_RATIO_BOUND}"),
        ("HoldfastChannelShift", f"> {model.PSI_BOUND}"),
        ("HoldfastWatcherStale", f"> {watch.STALE_SECONDS}"),
        ("HoldfastApprovalWaiting", f"> {loop.WAITED_SECONDS}"),
        ("HoldfastModelStale", rf"> {loop.STALE_DAYS} \* 86400"),
        ("HoldfastStateDiskLow", "< 1e9"),
        ("HoldfastStateDiskLow", "< 1e10"),
    ],
)
def test_bounds_drawn_are_those_of_the_alerts(alert: str, condition: str) -> None:
    assert re.search(rf"{condition}(?!\S)", ALERTS[alert]["expr"])
    assert (service.FULL_BYTES, service.LOW_BYTES) == (1e9, 1e10)


def test_every_alert_is_named_by_a_panel_and_every_alert_named_exists() -> None:
    named = set(re.findall(r"Holdfast[A-Z]\w+", "".join(map(dashboard.render, BOARDS))))
    assert named == ALERTS.keys()


def test_provisioning_points_at_what_compose_mounts() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/holdfast.yml").read_text())
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    assert provider["providers"][0]["options"]["path"] in mounts
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    prometheus = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    interval = source["datasources"][0]["jsonData"]["timeInterval"]
    assert interval == prometheus["global"]["scrape_interval"]


def _recording_rules() -> list[dict[str, Any]]:
    path = ROOT / "monitoring" / "prometheus" / "recording_rules.yml"
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]
