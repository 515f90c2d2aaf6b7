"""The dashboard: what is committed is what the code says, and Grafana can lay it out."""

import itertools
import re
from typing import Any

import msgspec
import pytest
import yaml

from monitoring.grafana import dashboard, panels, rows
from tests.monitoring.test_prometheus_rules import ALERTS, documented_metrics, unknown_metrics
from tests.ops import ROOT

PANELS: list[dict[str, Any]] = msgspec.to_builtins(dashboard.dashboard())["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
GRAFANA = ROOT / "monitoring" / "grafana"
# Ids of @grafana/data 11.6 getValueFormats().
DATASOURCE = msgspec.to_builtins(panels.DATASOURCE)
UNITS = {"dateTimeFromNow", "none", "percentunit", "reqps", "s", "short"}


def test_the_committed_json_is_what_the_code_renders() -> None:
    assert dashboard.PATH.read_text(encoding="utf-8") == dashboard.render(), (
        "run `python -m monitoring.grafana.dashboard`"
    )


def test_panel_ids_and_titles_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_panels_stay_in_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        box = panel["gridPos"]
        columns, lines = range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"])
        cells = set(itertools.product(columns, lines))
        assert columns.stop <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rows_are_filled_to_the_right_edge() -> None:
    widths: dict[int, int] = {}
    for panel in PANELS:
        y = panel["gridPos"]["y"]
        widths[y] = widths.get(y, 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {24}


@pytest.mark.parametrize("panel", CHARTS, ids=lambda panel: str(panel["title"]))
def test_every_panel_asks_one_question_and_explains_itself(panel: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z][^?.]*\?", panel["title"])
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert references == sorted(set(references))
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == DATASOURCE
        assert target["legendFormat"]


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
        ("HoldfastErrorRatio", f"> {rows.ERROR_RATIO_BOUND}"),
        ("HoldfastChannelShift", f"> {rows.PSI_BOUND}"),
        ("HoldfastPerturbationRate", f"> {rows.ATTACK_EVIDENCE_BOUND}"),
        ("HoldfastWatcherStale", f"> {rows.STALE_SECONDS}"),
    ],
)
def test_bounds_drawn_are_those_of_the_alerts(alert: str, condition: str) -> None:
    assert re.search(rf"{condition}(?!\S)", ALERTS[alert]["expr"])


def test_alerts_named_in_descriptions_exist() -> None:
    named = set(re.findall(r"Holdfast[A-Z]\w+", dashboard.render()))
    assert named <= ALERTS.keys()
    assert named == ALERTS.keys() - {"HoldfastServiceDown"}


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
