"""Alerts on processes and what they stand on: answers, records, versions, disk.

Those on error budgets are made from `slo.yaml` (`monitoring.prometheus.alerting.objectives`).
"""

from monitoring.prometheus.alerting.alert import MOST_FAILED, Alert

ERROR_RATIO_BOUND = 0.01
LOADED = "holdfast_model_loaded_timestamp_seconds"
FREE = "holdfast_state_free_bytes"

ALERTS = (
    Alert(
        name="HoldfastServiceDown",
        expr='up{job="holdfast-service"} == 0 or absent(up{job="holdfast-service"})',
        after="30s",
        severity="critical",
        summary="The prediction service does not answer.",
        description=(
            'Target {{ or $labels.instance "(none configured)" }} of job {{ $labels.job }} has not'
            " answered a scrape for 30 seconds or longer."
        ),
        dashboard="holdfast-service",
        view="now",
    ),
    Alert(
        name="HoldfastErrorRatio",
        # For services that answer too few requests for a burn rate to say anything.
        expr=f"holdfast:error_ratio:5m > {ERROR_RATIO_BOUND} and holdfast:requests:5m >= 50",
        after="1m",
        keep="2m",
        severity="critical",
        summary="The service answers with server errors.",
        description=(
            "{{ $value | humanizePercentage }} of the requests of the last 5 minutes failed with a"
            f" 5xx status (bound: {ERROR_RATIO_BOUND:.0%}).{MOST_FAILED}"
        ),
        dashboard="holdfast-service",
        view="now",
    ),
    Alert(
        name="HoldfastRecordsDropped",
        expr="sum by (reason) (increase(holdfast_records_dropped_total[10m])) > 0",
        after="1m",
        keep="10m",
        severity="warning",
        summary="Records of requests could not be kept.",
        description=(
            'About {{ $value | printf "%.0f" }} records of the last 10 minutes were dropped'
            " (reason: {{ $labels.reason }}). Labels for them cannot be joined."
        ),
        dashboard="holdfast-service",
        view="now",
    ),
    Alert(
        name="HoldfastVersionsDiffer",
        expr=(
            "count by (model) (\n"
            "  count by (model, version) (\n"
            f"    {LOADED} > 0\n"
            "    and on (instance, model, version)\n"
            f"    ({LOADED} == on (instance, model) group_left () max by (instance, model)"
            f" ({LOADED}))\n"
            "  )\n"
            ") > 1"
        ),
        after="2m",
        severity="warning",
        summary="Instances of the service answer with different versions of a model.",
        description=(
            'Model {{ $labels.model }}: {{ $value | printf "%.0f" }} versions are the newest'
            " loaded ones of some instance for two minutes or longer."
        ),
        dashboard="holdfast-service",
        view="versions",
    ),
    Alert(
        name="HoldfastStateDiskLow",
        expr=(
            f"min by (job) ({FREE}) < 1e9\n"
            f"or (\n  min by (job) ({FREE}) < 1e10\n"
            f"  and min by (job) (predict_linear({FREE}[6h], 86400)) < 0\n)"
        ),
        after="15m",
        keep="15m",
        severity="critical",
        summary="The disk of the state directory is nearly full.",
        description=(
            "{{ $value | humanize1024 }}B are left for {{ $labels.job }}. When they are used up,"
            " records are dropped and no version can be written; answers go on."
        ),
        dashboard="holdfast-service",
        view="now",
    ),
)
