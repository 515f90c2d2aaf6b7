"""Service: scale, roll back, or restart?"""

from monitoring.grafana.panels import (
    AMBER,
    GREEN,
    RED,
    Panel,
    gauge,
    lines,
    stat,
    table,
    thresholds,
)
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import (
    INSTANCE,
    MODEL,
    REQUESTS,
    count,
    latest,
    or_none,
    rate,
)
from monitoring.prometheus.alerting.catalogue import OBJECTIVES
from monitoring.prometheus.alerting.processes import ERROR_RATIO_BOUND, LOADED

SLOW_SECONDS = 0.1
BUSY = 0.8
LOW_BYTES, FULL_BYTES = 1e10, 1e9


def panels() -> list[Panel]:
    """Rate, errors, duration; then what of the machine is used; then versions."""
    return [*_requests(), *_budgets(), *_use(), *_versions()]


def _requests() -> list[Panel]:
    chosen = f"{REQUESTS}, {INSTANCE}"
    duration = rate("holdfast_http_request_duration_seconds_bucket", chosen, by="route, le")
    asked = lines(
        "How many requests does it answer?",
        "Requests per second by route and status; probes and scrapes are left out.",
        {"{{route}} {{code}}": rate("holdfast_http_requests_total", chosen, by="route, code")},
        unit="reqps",
        width=9,
        style="stacked",
    )
    fails = lines(
        "What share of the requests fails?",
        "Share of 5xx answers over 5 minutes. Alert HoldfastErrorRatio: above the line. Alert"
        " HoldfastServiceDown: no answer to Prometheus.",
        {"5xx": "holdfast:error_ratio:5m"},
        unit="percentunit",
        width=6,
        limits=thresholds((ERROR_RATIO_BOUND, RED)),
    )
    takes = lines(
        "How long does a request take?",
        "Median and 99th percentile of the time to answer, by route. Alert HoldfastLatencyBurn: far"
        " more than 1% above the line.",
        {
            f"{{{{route}}}} {q}": f"histogram_quantile({p}, {duration})"
            for q, p in (("p50", 0.5), ("p99", 0.99))
        },
        unit="s",
        width=9,
        limits=thresholds((SLOW_SECONDS, AMBER)),
    )
    return [
        asked,
        leading(fails, "HoldfastErrorRatio", "HoldfastServiceDown"),
        leading(takes, "HoldfastLatencyBurn"),
    ]


def _budgets() -> list[Panel]:
    left = {
        f"{each.name}": f"1 - holdfast:{each.name}_ratio:{each.days} / {each.budget:g}"
        for each in OBJECTIVES
    }
    stage = "holdfast_stage_duration_seconds"
    seconds = rate(f"{stage}_sum", MODEL, by="stage")
    runs = rate(f"{stage}_count", MODEL, by="stage")
    budget = gauge(
        "How much of the error budgets is left?",
        "Share of what 30 days allow that is not used up, of failed and of slow requests. Alerts"
        " HoldfastErrorBudgetFast and HoldfastErrorBudgetSlow go by how fast it is used.",
        left,
        unit="percentunit",
        width=6,
        limits=thresholds((0.0001, AMBER), (0.5, GREEN), base=RED),
    )
    return [
        leading(budget, "HoldfastErrorBudgetFast", "HoldfastErrorBudgetSlow"),
        lines(
            "Where does the time go?",
            "Mean time of each stage of a request: decode, run (the graph), count, encode.",
            {"{{stage}}": f"{seconds} / {runs}"},
            unit="s",
            width=9,
            style="stacked",
        ),
        lines(
            "How many rows does a request carry?",
            "Mean number of rows in one run of the graph.",
            {"rows": f"{rate('holdfast_batch_rows_sum')} / {rate('holdfast_batch_rows_count')}"},
            unit="short",
            width=9,
        ),
    ]


def _use() -> list[Panel]:
    busy = rate("holdfast_http_request_duration_seconds_sum", INSTANCE, by="instance")
    threads = f"sum by (instance) (holdfast_threads{{{INSTANCE}}})"
    away = rate("holdfast_http_requests_total", f'code=~"429|503", {INSTANCE}', by="code")
    lost = lines(
        "What was lost?",
        "Records that could not be kept, runs of a model that failed (answered 503), and model"
        " loads that failed (the version before is still served).",
        {
            "record dropped: {{reason}}": count("holdfast_records_dropped_total", by="reason"),
            "run failed: {{model}}": count("holdfast_model_run_failures_total", MODEL, by="model"),
            "load failed: {{model}}": count(
                "holdfast_model_reload_failures_total", MODEL, by="model"
            ),
        },
        unit="short",
        width=6,
        style="bars",
    )
    disk = lines(
        "How long does the disk last?",
        "Bytes left on the disk of the state, and what its parts take. Alert HoldfastStateDiskLow:"
        " below 1 GB, or full within a day.",
        {
            "left": or_none("min(holdfast_state_free_bytes)"),
            "{{part}}": or_none("max by (part) (holdfast_state_used_bytes)"),
        },
        unit="bytes",
        width=6,
        limits=thresholds((FULL_BYTES, AMBER), (LOW_BYTES, GREEN), base=RED),
    )
    return [
        lines(
            "How busy are its threads?",
            "Requests that are being answered on average, waiting ones included, per thread that"
            " answers. At 1 and above requests wait.",
            {"{{instance}}": f"{busy} / {threads}"},
            unit="percentunit",
            width=6,
            limits=thresholds((BUSY, AMBER)),
        ),
        lines(
            "Who is turned away?",
            "Requests per second answered with 429 (a client asks too much) or 503 (no model, or"
            " too many requests to it).",
            {"{{code}}": or_none(away)},
            unit="reqps",
            width=6,
        ),
        leading(lost, "HoldfastRecordsDropped", "HoldfastReloadFailing"),
        leading(disk, "HoldfastStateDiskLow"),
    ]


def _versions() -> list[Panel]:
    newest = f"max by (instance, model) ({LOADED}{{{MODEL}}})"
    per_instance = f"max by (instance, model, version) ({LOADED}{{{MODEL}, {INSTANCE}}})"
    failures = "holdfast_inference_failure_duration_seconds_count"
    last_request = latest("holdfast_last_inference_timestamp_seconds", by="model, version")
    same = table(
        "Do all instances answer with the same version?",
        "The version that each instance loaded last, and when. Alert HoldfastVersionsDiffer: not"
        " the same for two minutes.",
        f"({per_instance} == on (instance, model) group_left () {newest}) * 1000",
        unit="dateTimeFromNow",
        width=10,
    )
    return [
        leading(same, "HoldfastVersionsDiffer", "#versions"),
        lines(
            "Which model is asked for what it cannot answer?",
            "Prediction requests per second that a version refused or failed.",
            {"{{model}} v{{version}}": rate(failures, MODEL, by="model, version")},
            unit="reqps",
            width=8,
        ),
        stat(
            "When was each version last asked?",
            "The age of the last prediction of each version that has answered any.",
            {"{{model}} v{{version}}": f"({last_request} > 0) * 1000"},
            unit="dateTimeFromNow",
            width=6,
        ),
    ]
