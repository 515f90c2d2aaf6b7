"""Error budgets: recorded shares of bad requests, and alerts on how fast a budget burns.

    share(w) = bad requests over w / all requests over w
    alert:     share(w) > threshold · budget  and  share(w / 12) > threshold · budget

The long window makes it significant, the short one lets it end soon after its cause. Both windows
need requests: below `LEAST_REQUESTS` in the long one (of days: in the short one) nothing fires.
Windows of days are sums of the rates of five minutes, which cost little at each evaluation.

Source: The Site Reliability Workbook, chapter 5 (multiwindow, multi-burn-rate alerts); OpenSLO v1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from monitoring.prometheus.alerting.alert import MOST_FAILED, Alert, Severity

PATH = Path(__file__).parents[1] / "slo.yaml"
LEAST_REQUESTS = 100
SHORT = {"1h": "5m", "6h": "30m", "3d": "6h"}  # a twelfth of each
SUMMED = ("3d", "30d")  # windows that are made of recorded rates
SUMMARIES = {
    "HoldfastErrorBudgetFast": "Server errors use up the month's error budget within days.",
    "HoldfastErrorBudgetSlow": "Server errors use up the error budget before the month is over.",
    "HoldfastLatencyBurn": "Many more requests than promised are slow.",
}


class Condition(NamedTuple):
    """A burn rate that is too high."""

    severity: Severity
    threshold: float
    window: str
    after: str


class Objective(NamedTuple):
    """A share of requests that may be bad, and the alerts on it."""

    name: str  # of the recorded shares: `holdfast:NAME_ratio:WINDOW`
    bad: str  # PromQL of bad requests per second, `{window}` to be filled in
    total: str
    budget: float
    days: str
    policies: dict[str, tuple[Condition, ...]]


def read_objectives(path: Path = PATH) -> tuple[Objective, ...]:
    """Read the objectives of an OpenSLO file.

    Raises:
        KeyError: a reference names nothing.
        ValueError: a window has no short one, or a metric is neither good nor bad.
    """
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    conditions = {d["metadata"]["name"]: d["spec"] for d in _of_kind(documents, "AlertCondition")}
    policies = {d["metadata"]["name"]: d["spec"] for d in _of_kind(documents, "AlertPolicy")}
    objectives = []
    for document in _of_kind(documents, "SLO"):
        spec = document["spec"]
        metric = spec["indicator"]["spec"]["ratioMetric"]
        total = _rate(metric["total"])
        if "bad" in metric:
            bad = f"({_rate(metric['bad'])} or vector(0))"
        elif "good" in metric:
            bad = f"({total} - {_rate(metric['good'])})"
        else:
            raise ValueError(f"{document['metadata']['name']}: a ratio needs `good` or `bad`")
        (window,), (objective,) = spec["timeWindow"], spec["objectives"]
        names = [each["alertPolicyRef"] for each in spec["alertPolicies"]]
        of_policy = {
            name: tuple(
                _read_condition(conditions[each["conditionRef"]])
                for each in policies[name]["conditions"]
            )
            for name in names
        }
        budget = round(1.0 - float(objective["target"]), 9)
        objectives.append(
            Objective(
                document["metadata"]["name"], bad, total, budget, window["duration"], of_policy
            )
        )
    return tuple(objectives)


def recorded_rules(objective: Objective) -> list[dict[str, str]]:
    """The recording rules of an objective, in an order in which each may use those above."""
    name, total, bad = objective.name, objective.total, objective.bad
    rules = [
        {"record": f"holdfast:{name}_rate:5m", "expr": bad.format(window="5m")},
        {"record": f"holdfast:{name}_total_rate:5m", "expr": total.format(window="5m")},
    ]
    windows = dict.fromkeys(w for c in _conditions(objective) for w in (SHORT[c.window], c.window))
    for window in (*windows, objective.days):
        if window in SUMMED:
            ratio = (
                f"sum_over_time(holdfast:{name}_rate:5m[{window}])"
                f" / sum_over_time(holdfast:{name}_total_rate:5m[{window}])"
            )
        else:
            ratio = f"{bad.format(window=window)} / {total.format(window=window)}"
        rules.append({"record": f"holdfast:{name}_ratio:{window}", "expr": ratio})
    return rules


def budget_alerts(objectives: tuple[Objective, ...]) -> list[Alert]:
    """An alert for each policy."""
    return [
        _make_alert(objective, name, conditions)
        for objective in objectives
        for name, conditions in objective.policies.items()
    ]


def _make_alert(objective: Objective, name: str, conditions: tuple[Condition, ...]) -> Alert:
    parts = [_burns(objective, condition) for condition in conditions]
    (severity,), (after,) = ({c.severity for c in conditions}, {c.after for c in conditions})
    return Alert(
        name=name,
        expr="\nor ".join(parts),
        after="" if after == "0m" else after,
        keep="5m",
        severity=severity,
        summary=SUMMARIES[name],
        description=(
            "{{ $value | humanizePercentage }} of the requests are bad, over "
            f"{' or '.join(c.window for c in conditions)}; the promise of"
            f" {objective.days} allows {objective.budget * 100:g}%."
            f"{MOST_FAILED if objective.name == 'error' else ''}"
        ),
        dashboard="holdfast-service",
        view="now",
    )


def _burns(objective: Objective, condition: Condition) -> str:
    bound = f"{condition.threshold:g} * {objective.budget:g}"
    long, short = condition.window, SHORT[condition.window]
    counted = short if long in SUMMED else long
    ratio = f"holdfast:{objective.name}_ratio"
    return (
        f"(\n  {ratio}:{long} > {bound}\n  and {ratio}:{short} > {bound}\n"
        f"  and {objective.total.format(window=counted)} * {_seconds(counted)} >="
        f" {LEAST_REQUESTS}\n)"
    )


def _conditions(objective: Objective) -> Iterator[Condition]:
    for conditions in objective.policies.values():
        yield from conditions


def _read_condition(spec: dict[str, Any]) -> Condition:
    condition = spec["condition"]
    if condition["lookbackWindow"] not in SHORT:
        raise ValueError(f"lookbackWindow: one of {', '.join(SHORT)} is known")
    return Condition(
        spec["severity"],
        float(condition["threshold"]),
        condition["lookbackWindow"],
        condition["alertAfter"],
    )


def _rate(metric: dict[str, Any]) -> str:
    query = metric["metricSource"]["spec"]["query"].replace("{", "{{").replace("}", "}}")
    return f"sum(rate({query}[{{window}}]))"


def _of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def _seconds(window: str) -> int:
    units = {"m": 60, "h": 3600, "d": 86_400}
    return int(window[:-1]) * units[window[-1]]
