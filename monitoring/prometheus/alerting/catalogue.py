"""Which alerts there are: the one list that rules, runbooks and tests derive from."""

from monitoring.prometheus.alerting import loop, model, processes, watch
from monitoring.prometheus.alerting.alert import Alert
from monitoring.prometheus.alerting.objectives import budget_alerts, read_objectives

OBJECTIVES = read_objectives()
GROUPS: dict[str, tuple[Alert, ...]] = {
    "holdfast_model": model.ALERTS,
    "holdfast_watch": watch.ALERTS,
    "holdfast_loop": loop.ALERTS,
    "holdfast_processes": processes.ALERTS,
    "holdfast_budgets": tuple(budget_alerts(OBJECTIVES)),
}
ALERTS = {alert.name: alert for alerts in GROUPS.values() for alert in alerts}
