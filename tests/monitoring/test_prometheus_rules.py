"""The Prometheus and Alertmanager files: valid, tested, documented, and true to their formula."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from monitoring.prometheus.alerting.alert import FAILED
from monitoring.prometheus.alerting.render import Links, render_rules
from tests.ops import ALERTMANAGER, PROMETHEUS, ROOT, missing_programs

RULE_FILES = ("recording_rules.yml", "slo_rules.yml", "alert_rules.yml")
ALERT_TESTS = ("alert_rules_test.yml", "alert_rules_hours_test.yml")
RUNBOOK = "https://github.com/holdfast/holdfast/blob/main/docs/runbooks/"
CONFIGURATIONS = [
    ALERTMANAGER / "alertmanager.yml",
    *sorted((ALERTMANAGER / "examples").glob("*.yml")),
]
ACTIONS = {"evaluate", "evaluate_robustness"}
SECTIONS = [
    "Meaning", "Impact", "Look", "What happens by itself", "What to do", "When it ends",
    "When to ignore it",
]  # fmt: skip


def load(path: Path) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of all groups of one of the repository's rule files."""
    return [rule for group in load(PROMETHEUS / name)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alert_rules.yml")}


def documented_metrics(path: Path = ROOT / "docs" / "metrics.md") -> dict[str, set[str]]:
    """Return every metric of the tables of docs/metrics.md with its labels (histograms: and le)."""
    known: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not cells[0].startswith("`holdfast"):
            continue
        name = cells[0].strip("`")
        labels = cells[1] if ":" in name else cells[2]
        known[name] = {label.strip() for label in labels.split(",") if label.strip()}
        if cells[1] == "histogram":
            plain = known.pop(name)
            known |= {f"{name}_sum": plain, f"{name}_count": plain}
            known[f"{name}_bucket"] = plain | {"le"}
    return known


def unknown_metrics(expressions: Iterable[str], known: dict[str, set[str]]) -> set[str]:
    """Return the metrics, and the `metric{label}` selections, that `known` does not have."""
    unknown: set[str] = set()
    target_labels = {"job", "instance"}
    for expression in expressions:
        names = set(re.findall(r"\bholdfast[_:][a-z0-9_:]+", expression))
        unknown |= names - known.keys()
        for name, selector in re.findall(r"\b(holdfast[_:][a-z0-9_:]+)\{([^{}]*)\}", expression):
            labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
            allowed = known.get(name, labels) | target_labels
            unknown |= {f"{name}{{{label}}}" for label in labels - allowed}
    return unknown


def run(program: str, *arguments: str) -> str:
    """Run a program in the Prometheus folder; return its output, fail with it, or skip."""
    if missing_programs(program):
        pytest.skip(f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)")
    done = subprocess.run(
        [program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    run("promtool", "check", "config", "prometheus.yml")
    run("promtool", "check", "rules", *RULE_FILES)


@pytest.mark.parametrize("name", sorted(path.name for path in PROMETHEUS.glob("*_test.yml")))
def test_promtool_rule_tests_pass(name: str) -> None:
    run("promtool", "test", "rules", name)


def test_every_file_of_rules_is_loaded_and_has_tests() -> None:
    assert load(PROMETHEUS / "prometheus.yml")["rule_files"] == list(RULE_FILES)
    for name in ("recording_rules.yml", "alert_rules.yml"):
        assert (PROMETHEUS / name.replace(".yml", "_test.yml")).is_file()


def test_the_committed_rules_are_what_the_code_renders() -> None:
    for name, text in render_rules().items():
        assert (PROMETHEUS / name).read_text(encoding="utf-8") == text, (
            "run `python -m monitoring.prometheus`"
        )


def test_descriptions_and_objectives_mean_the_same_server_errors() -> None:
    assert FAILED in (PROMETHEUS / "slo.yaml").read_text(encoding="utf-8")


def test_links_begin_where_the_generator_is_told(tmp_path: Path) -> None:
    links = Links("https://a.example/runbooks/", "https://b.example", "https://c.example")
    rules = yaml.safe_load(render_rules(links)["alert_rules.yml"])["groups"][0]["rules"]
    annotations = rules[0]["annotations"]
    assert annotations["runbook_url"] == "https://a.example/runbooks/HoldfastDrift.md"
    assert annotations["dashboard_url"].startswith("https://b.example/d/holdfast-drift")
    assert annotations["console_url"].startswith("https://c.example/#drift")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested_to_fire_and_not_to_fire(name: str) -> None:
    cases = [
        case
        for file in ALERT_TESTS
        for test in load(PROMETHEUS / file)["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_a_person_needs(name: str) -> None:
    alert = ALERTS[name]
    annotations = alert["annotations"]
    assert re.fullmatch(r"Holdfast([A-Z][a-z]+)+", name)
    assert alert["labels"]["severity"] in {"info", "warning", "critical"}
    assert alert["labels"].get("action", "evaluate") in ACTIONS
    assert not re.search(r"\d|\{\{", annotations["summary"])
    assert "{{" in annotations["description"]
    assert annotations["runbook_url"] == f"{RUNBOOK}{name}.md"


def test_every_alert_has_one_runbook_with_the_same_questions() -> None:
    folder = ROOT / "docs" / "runbooks"
    assert {path.stem for path in folder.glob("Holdfast*.md")} == ALERTS.keys()
    for name in ALERTS:
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        assert re.findall(r"^# (.*)$", text, re.MULTILINE) == [name]
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
        assert not re.search(r"^## .*\n\n(?=##|\Z)", text, re.MULTILINE), f"{name}: nothing said"


def test_rules_use_documented_metrics_only_and_every_recorded_one_is_documented() -> None:
    known = documented_metrics()
    recorded = [*rules("recording_rules.yml"), *rules("slo_rules.yml")]
    expressions = [rule["expr"] for rule in (*recorded, *ALERTS.values())]
    descriptions = [rule["annotations"]["description"] for rule in ALERTS.values()]
    assert unknown_metrics([*expressions, *descriptions], known) == set()
    assert {rule["record"] for rule in recorded} == {name for name in known if ":" in name}


def test_an_undocumented_metric_or_label_is_found() -> None:
    expressions = ['rate(holdfast_a_total{model="m", kind="x"}[5m]) / holdfast_b_seconds']
    assert unknown_metrics(expressions, {"holdfast_a_total": {"model"}}) == {
        "holdfast_b_seconds",
        "holdfast_a_total{kind}",
    }


def psi(observed: np.ndarray, reference: np.ndarray) -> float:
    """Return the corrected population stability index of the recording rules.

    sum((p - q) ln(p / q)) - (K - 1) N / (N + K/2)^2, not below 0, p = (D + K/2 q) / (N + K/2),
    with D `observed` counts (K,), N their sum and q the `reference` shares (K,).
    """
    total, prior = observed.sum(), len(observed) / 2
    share = (observed + prior * reference) / (total + prior)
    index = np.sum((share - reference) * np.log(share / reference))
    chance = (len(observed) - 1) * total / (total + prior) ** 2
    return float(max(index - chance, 0))


@pytest.mark.parametrize(("cells", "rows"), [(72, 400), (300, 60), (300, 59)])
def test_recorded_psi_is_the_formula_where_there_are_as_many_rows_as_cells(
    tmp_path: Path, cells: int, rows: int
) -> None:
    rng = np.random.default_rng(7)
    reference = rng.dirichlet(np.ones(cells))
    per_minute = rng.multinomial(rows, rng.dirichlet(np.ones(cells)))
    labels = [f'model="m",version="1",channel="energy",cell="{cell:02}"' for cell in range(cells)]
    series = [
        {"series": f"holdfast_reference_ratio{{{key}}}", "values": f"{share:.17g}x10"}
        for key, share in zip(labels, reference, strict=True)
    ] + [
        {"series": f"holdfast_cell_observations_total{{{key}}}", "values": f"0+{count}x10"}
        for key, count in zip(labels, per_minute, strict=True)
    ]
    expected = psi(5 * per_minute, reference)
    question = {
        "expr": f"abs(holdfast:channel_psi:5m - {expected:.17g}) < bool 1e-9",
        "eval_time": "10m",
        "exp_samples": [{"labels": '{model="m",version="1",channel="energy"}', "value": 1}],
    }
    if 5 * rows < cells:
        question |= {"expr": "holdfast:channel_psi:5m", "exp_samples": []}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [question]}
    path = tmp_path / "psi_test.yml"
    rule_files = [str(PROMETHEUS / "recording_rules.yml")]
    path.write_text(yaml.safe_dump({"rule_files": rule_files, "tests": [test]}), encoding="utf-8")
    run("promtool", "test", "rules", str(path))


@pytest.mark.parametrize(("requests", "cells"), [(200, 72), (1000, 72), (250, 250), (825, 825)])
def test_psi_of_traffic_that_did_not_move_stays_below_the_alerts_bound(
    requests: int, cells: int
) -> None:
    rng = np.random.default_rng(requests)
    reference_counts = rng.multinomial(5000 - cells, np.full(cells, 1 / cells)) + 1
    reference = reference_counts / reference_counts.sum()
    windows = rng.multinomial(requests, rng.dirichlet(reference_counts), size=2000)
    assert max(psi(window, reference) for window in windows) < 0.25


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_amtool_accepts_the_configuration_and_the_examples(path: Path) -> None:
    run("amtool", "check-config", str(path))


def test_each_example_tells_the_same_people_as_the_configuration() -> None:
    people = {each["name"] for each in load(CONFIGURATIONS[0])["receivers"]} - {"watcher"}
    for path in CONFIGURATIONS[1:]:
        receivers = load(path)["receivers"]
        assert {each["name"] for each in receivers} == people
        for each in receivers:
            told = yaml.safe_dump(each)
            assert all(f"{name}_url" in told for name in ("runbook", "console", "dashboard")), path


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_go_to_the_watcher_by_action_and_to_people_by_severity(name: str) -> None:
    labels = {"alertname": name, **ALERTS[name]["labels"]}
    config = f"--config.file={CONFIGURATIONS[0]}"
    pairs = [f"{key}={value}" for key, value in labels.items()]
    receivers = run("amtool", "config", "routes", "test", config, *pairs).strip().split(",")
    people = {"critical": "page", "warning": "team", "info": "review"}[labels["severity"]]
    assert receivers == (["watcher", people] if "action" in labels else [people])


def test_inhibitions_name_alerts_that_exist_and_none_hides_itself() -> None:
    for rule in load(CONFIGURATIONS[0])["inhibit_rules"]:
        source, target = (
            set(re.findall(r"Holdfast\w+", str(rule[key])))
            for key in ("source_matchers", "target_matchers")
        )
        assert source | target <= ALERTS.keys()
        assert not source & target


def test_the_watchers_webhook_is_authenticated_and_told_of_the_end() -> None:
    (receiver,) = (
        each
        for each in load(ALERTMANAGER / "alertmanager.yml")["receivers"]
        if each["name"] == "watcher"
    )
    (webhook,) = receiver["webhook_configs"]
    assert webhook["url"] == "http://watcher:9108/alerts"
    assert webhook["send_resolved"] is True
    assert 0 < webhook["max_alerts"] <= 500  # 0 means all, which may be more than 1 MiB
    assert webhook["http_config"]["authorization"] == {
        "type": "Bearer",
        "credentials_file": "/etc/alertmanager/secrets/alert_token",
    }
