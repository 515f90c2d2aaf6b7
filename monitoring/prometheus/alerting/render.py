"""Rules of Prometheus as text, with the links that each alert carries."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from monitoring.prometheus.alerting.alert import Alert
from monitoring.prometheus.alerting.catalogue import GROUPS, OBJECTIVES
from monitoring.prometheus.alerting.objectives import recorded_rules

MADE = "# Made by `python -m monitoring.prometheus` from {source}: change that, not this.\n"
WIDTH = 110


class Links(NamedTuple):
    """Where alerts point to; the addresses begin all links of their kind."""

    runbooks: str = "https://github.com/holdfast/holdfast/blob/main/docs/runbooks"
    grafana: str = "http://127.0.0.1:3000"
    console: str = "http://127.0.0.1:8080"

    def of(self, alert: Alert) -> dict[str, str]:
        """The annotations of an alert that lead further; the model is that of the alert."""
        model = "{{ with $labels.model }}%smodel={{ . }}{{ end }}"
        return {
            "runbook_url": f"{self.runbooks.rstrip('/')}/{alert.name}.md",
            "dashboard_url": f"{self.grafana.rstrip('/')}/d/{alert.dashboard}" + model % "?var-",
            "console_url": f"{self.console.rstrip('/')}/#{alert.view}" + model % "?",
        }


class _Text(str):
    """A string that is written as a block, lines kept."""


class _Folded(str):
    """A string that is written as a block, lines folded."""


class _Dumper(yaml.SafeDumper):
    """Writes expressions and sentences as people would."""


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)
_Dumper.add_representer(
    _Folded, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">")
)


DEFAULT_LINKS = Links()


def render_rules(links: Links = DEFAULT_LINKS) -> dict[str, str]:
    """The text of each file of rules, by name."""
    alerts = [
        {"name": group, "rules": [_rule(alert, links) for alert in of_group]}
        for group, of_group in GROUPS.items()
    ]
    objectives = [
        {"name": f"holdfast_{objective.name}_budget", "rules": _recorded(recorded_rules(objective))}
        for objective in OBJECTIVES
    ]
    return {
        "alert_rules.yml": MADE.format(source="monitoring/prometheus/alerting/") + _dump(alerts),
        "slo_rules.yml": MADE.format(source="slo.yaml") + _dump(objectives),
    }


def _rule(alert: Alert, links: Links) -> dict[str, Any]:
    labels = {"severity": alert.severity} | ({"action": alert.action} if alert.action else {})
    rule: dict[str, Any] = {"alert": alert.name, "expr": _Text(alert.expr)}
    if alert.after:
        rule["for"] = alert.after
    if alert.keep:
        rule["keep_firing_for"] = alert.keep
    texts = {"summary": alert.summary, "description": _Folded(alert.description)}
    return rule | {"labels": labels, "annotations": texts | links.of(alert)}


def _recorded(rules: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    return [{"record": rule["record"], "expr": _Text(rule["expr"])} for rule in rules]


def _dump(groups: list[dict[str, Any]]) -> str:
    return yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=WIDTH)
