"""The Holdfast dashboard as code.

`python -m monitoring.grafana.dashboard` rewrites `dashboards/holdfast.json`, which a test compares
byte for byte. Panels stand in `rows`, their building blocks in `panels`.
"""

import json
from pathlib import Path
from typing import Any

from monitoring.grafana.loop_rows import loop_row
from monitoring.grafana.panels import DATASOURCE, arrange
from monitoring.grafana.rows import accuracy_row, drift_row, serving_row, tampering_row
from monitoring.grafana.unlabelled import unlabelled_row

PATH = Path(__file__).parent / "dashboards" / "holdfast.json"


def variables() -> list[dict[str, Any]]:
    """Return the dashboard's variables: the data source and the models shown."""
    models = "label_values(holdfast_predictions_total, model)"
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    model = {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": models, "refId": "models"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
    return [source, model]


def dashboard() -> dict[str, Any]:
    """Return the dashboard in Grafana's JSON model."""
    rows = [
        ("Is it serving?", serving_row()),
        ("Has the world moved?", drift_row()),
        ("Is someone tampering?", tampering_row()),
        ("Is it right?", accuracy_row()),
        ("Is it right where nobody says so?", unlabelled_row()),
        ("What did the loop do?", loop_row()),
    ]
    return {
        "uid": "holdfast",
        "title": "Holdfast",
        "description": "Serving, drift, tampering, accuracy and lifecycle of the served models.",
        "tags": ["holdfast"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "panels": arrange(rows),
    }


def expressions(model: str = ".*", rate_interval: str = "1m") -> list[str]:
    """Return every PromQL expression of the dashboard, its variables replaced by these values.

    On a healthy system under traffic (200 requests within 5 minutes, the rules loaded) none of
    them has an empty answer.
    """
    queries = [each for panel in dashboard()["panels"] for each in panel.get("targets", [])]
    return [
        each["expr"].replace("$model", model).replace("$__rate_interval", rate_interval)
        for each in queries
    ]


def render() -> str:
    """Return the text of the dashboard's JSON file."""
    return json.dumps(dashboard(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
