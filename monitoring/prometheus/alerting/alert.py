"""An alert as a record, and the expressions that several of them share.

A restart of the watcher must not say "resolved". Its gauges are gone until it has looked, so where
there is none the last known value of an hour counts (`bridge`), but not of models that are gone:
what is over is over at once, and what is not known stays.
"""

from typing import Literal, NamedTuple

Severity = Literal["info", "warning", "critical"]
# What `slo.yaml` counts as a server error, and where most of them come from, for descriptions;
# nothing where there are none now.
FAILED = (
    'holdfast_http_requests_total{route!~"/metrics|/healthz|/readyz|/v2/health/.*",code=~"5.."}'
)
MOST_FAILED = (
    f"{{{{- with query `topk(1, sum by (route, code) (rate({FAILED}[5m])) > 0)`"
    ' }} Most in the last 5 minutes: {{ . | first | label "route" }} with'
    ' {{ . | first | label "code" }}.{{ end }}'
)
BRIDGE = "1h"  # for so long the last known value of a watcher that is away counts


class Alert(NamedTuple):
    """One alert.

    Args:
        name: CamelCase, begins with `Holdfast`.
        expr: PromQL; it fires for every series that is there.
        severity: `critical` wakes somebody, `warning` waits for the day, `info` for a look.
        summary: one sentence without figures.
        description: what is true now, in Prometheus's templates.
        dashboard: Grafana's uid of the dashboard that shows more.
        view: the console's view, without `#`.
        after: how long the expression must hold; empty: not at all.
        keep: how long the alert stays on after it.
        action: what the watcher is asked to start; empty: it is for people only.
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    dashboard: str
    view: str
    after: str = ""
    keep: str = ""
    action: str = ""


def bridge(gauge: str, *, by: str = "model", least: bool = False) -> str:
    """The gauge by some labels, over restarts of the watcher.

    >>> print(bridge("holdfast_drift_alarm"))
    (
      max by (model) (holdfast_drift_alarm)
      or max by (model) (last_over_time(holdfast_drift_alarm[1h]))
      unless on (model) holdfast:gone_model:last
    )

    Args:
        gauge: a selector of the watcher's gauges.
        by: the labels that are kept.
        least: of several watchers the least value counts, not the greatest.
    """
    pick = "min" if least else "max"
    return (
        f"(\n  {pick} by ({by}) ({gauge})\n"
        f"  or {pick} by ({by}) (last_over_time({gauge}[{BRIDGE}]))\n"
        f"  unless on (model) holdfast:gone_model:last\n)"
    )


def of_model(words: str) -> str:
    """A description of one model, or of all where the label is empty."""
    named = "{{ if $labels.model }}Model {{ $labels.model }}{{ else }}All models{{ end }}"
    return f"{named}: {words}"
