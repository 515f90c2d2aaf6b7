"""What Prometheus, autoscalers and Argo Rollouts read: rules, metrics and queries that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.prometheus import kubernetes
from tests.kubernetes.resources import build, one, text_of
from tests.monitoring.test_canary_queries import ACCURACY, FAILED, TIME, write
from tests.monitoring.test_prometheus_rules import (
    RULE_FILES,
    documented_metrics,
    load,
    run,
    unknown_metrics,
)
from tests.ops import PROMETHEUS, ROOT

# What the operator adds to every target, apart from `job` and `instance`, which Prometheus has.
OF_THE_OPERATOR = {"namespace", "pod", "service", "endpoint", "container", "node"}
SCALED = "overlays/production"


def test_the_rules_of_the_operator_are_the_files_byte_for_byte() -> None:
    text = text_of("prometheus-operator", "rules.yaml")
    assert text == kubernetes.render_resources(), "run `python -m monitoring.prometheus.kubernetes`"
    parts = text.split("---\n")
    assert len(parts) == len(RULE_FILES)
    for part, name in zip(parts, RULE_FILES, strict=True):
        lines = part.split("spec:\n", 1)[1].splitlines(keepends=True)
        found = "".join(line.removeprefix("  ") for line in lines)
        assert found.encode() == (PROMETHEUS / name).read_bytes()


def test_kustomize_leaves_every_rule_as_it_is() -> None:
    rules = [each["spec"] for each in build("prometheus-operator") if "groups" in each["spec"]]

    def plain(document: Any) -> Any:
        """Without blank lines, which the YAML of some versions of kubectl adds to PromQL."""
        return yaml.safe_load(
            re.sub(r"(\\n)+", r"\\n", yaml.safe_dump(document, default_style='"'))
        )

    shipped = [load(PROMETHEUS / name) for name in RULE_FILES]
    assert sorted(map(str, map(plain, rules))) == sorted(map(str, map(plain, shipped)))


def test_monitors_name_the_jobs_that_the_rules_ask_for() -> None:
    monitors = {r["metadata"]["name"]: r for r in build("prometheus-operator")
                if r["kind"] == "ServiceMonitor"}  # fmt: skip
    jobs = {each["job_name"] for each in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    assert set(monitors) == jobs
    services = [each for each in build(SCALED) if each["kind"] == "Service"]
    for job, monitor in monitors.items():
        (endpoint,) = monitor["spec"]["endpoints"]
        names = [r for r in endpoint["relabelings"] if r.get("targetLabel") == "job"]
        assert [each["replacement"] for each in names] == [job]
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        chosen = [s for s in services if wanted <= s["metadata"]["labels"].items()]
        assert len(chosen) == 1, "each pod is scraped once"
        assert endpoint["port"] in [port["name"] for port in chosen[0]["spec"]["ports"]]


def test_no_label_of_ours_is_taken_by_the_operator() -> None:
    ours = set().union(*documented_metrics().values())
    clashes = ours & OF_THE_OPERATOR
    assert clashes == {"service"}
    for monitor in (r for r in build("prometheus-operator") if r["kind"] == "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        (drop,) = (r["regex"] for r in endpoint["relabelings"] if r["action"] == "labeldrop")
        assert all(re.fullmatch(drop, label) for label in clashes)
        assert not any(re.fullmatch(drop, label) for label in ("namespace", "pod", "job"))


def adapter_rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(text_of("prometheus-adapter", "rules.yaml"))[
        "rules"
    ]["custom"]
    return rules


def queries() -> dict[str, str]:
    """Every query of the manifests, in the form that Prometheus gets."""
    found = {}
    for rule in adapter_rules():
        text = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        found[rule["name"]["as"]] = text.replace("<<.LabelMatchers>>", 'namespace="h",pod=~"a|b"')
        found[f"series of {rule['name']['as']}"] = rule["seriesQuery"]
    for trigger in one("overlays/keda", "ScaledObject", "holdfast")["spec"]["triggers"]:
        found["keda"] = trigger["metadata"]["query"]
    template = one("argo-rollouts", "AnalysisTemplate", "holdfast-challenger")["spec"]
    values = {"model": "digits", "champion": "1", "challenger": "2"}
    for metric in template["metrics"]:
        text = metric["provider"]["prometheus"]["query"]
        for name, value in values.items():
            text = text.replace(f"{{{{args.{name}}}}}", value)
        found[metric["name"]] = text
    return found


def test_every_query_parses_and_asks_for_series_and_labels_that_exist(tmp_path: Path) -> None:
    rules = [{"record": f"q:{k}", "expr": query} for k, query in enumerate(queries().values())]
    groups = {"groups": [{"name": "kubernetes", "rules": rules}]}
    run("promtool", "check", "rules", write(tmp_path / "rules.yml", groups))
    known = {name: labels | OF_THE_OPERATOR for name, labels in documented_metrics().items()}
    assert unknown_metrics(queries().values(), known) == set()


def test_the_autoscaler_asks_for_a_metric_that_the_adapter_makes() -> None:
    metrics = one(SCALED, "HorizontalPodAutoscaler", "holdfast")["spec"]["metrics"]
    named = {each["pods"]["metric"]["name"] for each in metrics}
    assert named == {rule["name"]["as"] for rule in adapter_rules()}


def test_both_autoscalers_scale_the_same_within_the_same_bounds() -> None:
    own = one(SCALED, "HorizontalPodAutoscaler", "holdfast")["spec"]
    keda = one("overlays/keda", "ScaledObject", "holdfast")["spec"]
    assert own["scaleTargetRef"] == keda["scaleTargetRef"]
    one(SCALED, own["scaleTargetRef"]["kind"], own["scaleTargetRef"]["name"])
    assert own["minReplicas"] == keda["minReplicaCount"] == keda["fallback"]["replicas"]
    assert own["maxReplicas"] == keda["maxReplicaCount"]
    (metric,), (trigger,) = own["metrics"], keda["triggers"]
    milli = metric["pods"]["target"]["averageValue"]
    assert float(milli.removesuffix("m")) / 1000 == float(trigger["metadata"]["threshold"])
    assert own["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    # Without requests the answer is 0; without an answer nothing is known, and it is no 0.
    assert trigger["metadata"]["ignoreNullValues"] == "false"


@pytest.mark.parametrize(("replicas", "busy", "expected"), [(1, 4, 0.5), (4, 4, 0.5), (2, 0, 0.0)])
def test_the_load_is_the_share_of_busy_threads_however_many_replicas_there_are(
    replicas: int, busy: int, expected: float, tmp_path: Path
) -> None:
    """Each replica has 8 threads, `busy` of which answer; a probe is no load."""
    series = []
    for pod in range(replicas):
        where = f'namespace="h",pod="{"ab"[pod % 2]}",instance="{pod}"'
        total = "holdfast_http_request_duration_seconds_sum"
        series += [
            {"series": f"holdfast_threads{{{where}}}", "values": "8x20"},
            {"series": f'{total}{{{where},route="/predict"}}', "values": f"0+{60 * busy}x20"},
            {"series": f'{total}{{{where},route="/metrics"}}', "values": "0+600x20"},
        ]
    keda = {"expr": queries()["keda"], "eval_time": "15m",
            "exp_samples": [{"labels": "{}", "value": expected}]}  # fmt: skip
    adapter = {
        "expr": f"abs(sum by (pod) ({queries()['holdfast_busy_ratio']}) - {expected}) > 1e-9",
        "eval_time": "15m", "exp_samples": [],
    }  # fmt: skip
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [keda, adapter]}
    run("promtool", "test", "rules", write(tmp_path / "t.yml", {"rule_files": [], "tests": [test]}))


def test_the_analysis_asks_as_the_documentation_does() -> None:
    asked = {name: " ".join(query.split()) for name, query in queries().items()}
    assert asked["accuracy-by-labels"] == ACCURACY
    assert asked["share-refused-or-failed"] == FAILED
    champion = TIME.replace('version="2"', 'version="1"')
    assert asked["run-time-against-champion"] == f"{TIME} / {champion}"


def test_an_analysis_without_data_is_neither_a_success_nor_a_failure() -> None:
    template = one("argo-rollouts", "AnalysisTemplate", "holdfast-challenger")["spec"]
    names = {each["name"] for each in template["args"]}
    assert names == {"model", "champion", "challenger", "prometheus"}
    for metric in template["metrics"]:
        good, bad = metric["successCondition"], metric["failureCondition"]
        said = [re.fullmatch(r"len\(result\) > 0 && result\[0\] (>=|<=|<|>) (\S+)", text)
                for text in (good, bad)]  # fmt: skip
        assert all(said), metric["name"]
        signs = {each[1] for each in said if each}
        assert signs in ({">=", "<"}, {"<=", ">"})
        assert len({each[2] for each in said if each}) == 1  # NaN fits neither, every number one
        assert metric["inconclusiveLimit"] < metric["count"]


def test_the_pages_name_every_overlay_and_every_extra() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    folders = [
        *(ROOT / "deploy/kubernetes/overlays").iterdir(),
        *(ROOT / "deploy/kubernetes").iterdir(),
    ]
    for folder in (each.name for each in folders if each.is_dir() and each.name != "overlays"):
        assert f"`{folder}`" in page, folder
