"""The queries that docs/deployment.md gives to Argo Rollouts and Flagger parse and are true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.test_prometheus_rules import documented_metrics, run, unknown_metrics
from tests.ops import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
QUERIES = {
    comment: " ".join(query.split())
    for block in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    for comment, query in re.findall(r"# (.*)\n((?:[^#].*\n)+)", block)
}
ACCURACY, FAILED, TIME, ROWS, SHARE = QUERIES.values()
LABELS = 'holdfast_feedback_total{{model="digits",version="{}",correct="{}"}}'
RUNS = 'holdfast_stage_duration_seconds_count{model="digits",version="2",stage="run"}'
FAILURES = 'holdfast_inference_failure_duration_seconds_count{model="digits",version="2"}'
RIGHT = {  # champion .9 and challenger .8 right, of 100 labels a minute each
    LABELS.format(1, "true"): 90, LABELS.format(1, "false"): 10,
    LABELS.format(2, "true"): 80, LABELS.format(2, "false"): 20,
}  # fmt: skip


def write(path: Path, document: Any) -> str:
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def test_every_query_parses_and_asks_for_series_that_exist(tmp_path: Path) -> None:
    rules = [{"record": f"q:{k}", "expr": query} for k, query in enumerate(QUERIES.values())]
    groups = {"groups": [{"name": "canary", "rules": rules}]}
    run("promtool", "check", "rules", write(tmp_path / "rules.yml", groups))
    assert unknown_metrics(QUERIES.values(), documented_metrics()) == set()


@pytest.mark.parametrize(
    ("query", "series", "expected"),
    [
        (ACCURACY, RIGHT, -0.1),
        (ACCURACY, {}, None),
        (FAILED, {RUNS: 99, FAILURES: 1}, 0.01),
        (FAILED, {RUNS: 99}, 0.0),
        (FAILED, {}, None),
        (TIME, {}, None),
    ],
)
def test_a_query_gives_the_figure_that_its_comment_names_and_nothing_without_data(
    query: str, series: dict[str, int], expected: float | None, tmp_path: Path
) -> None:
    samples = [] if expected is None else [{"labels": "{}", "value": 1}]
    question = {
        "expr": query if expected is None else f"abs({query} - ({expected})) < bool 1e-9",
        "eval_time": "15m",
        "exp_samples": samples,
    }
    values = [{"series": name, "values": f"0+{each}x20"} for name, each in series.items()]
    test = {"interval": "1m", "input_series": values, "promql_expr_test": [question]}
    document = {"rule_files": [], "tests": [test]}
    run("promtool", "test", "rules", write(tmp_path / "test.yml", document))
