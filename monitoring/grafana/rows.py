"""The rows of the dashboard: each answers one question of an on-call engineer.

The bounds are those of `monitoring/prometheus/alert_rules.yml`; a test compares them.
"""

from monitoring.grafana.panels import (
    AMBER,
    GREEN,
    RED,
    Panel,
    heatmap,
    lines,
    stat,
    thresholds,
    value_map,
)

ERROR_RATIO_BOUND = 0.01
PSI_BOUND = 0.25
ATTACK_EVIDENCE_BOUND = 6
STALE_SECONDS = 60

MODEL = 'model=~"$model"'
REQUESTS = 'route!~"/metrics|/healthz|/readyz|/v2/health/.*"'


def rate(metric: str, selector: str = "", *, by: str = "") -> str:
    """Return the expression of a counter's rate per second, summed over all labels but `by`."""
    return _render_sum("rate", metric, selector, by)


def count(metric: str, selector: str = "", *, by: str = "") -> str:
    """Return the expression of a counter's increase per interval, and 0 where there is no series.

    For events that may never have happened: none yet is the truth, not a gap.
    """
    return f"{_render_sum('increase', metric, selector, by)} or on () vector(0)"


def latest(gauge: str, *, by: str = "model") -> str:
    """Return the expression of a gauge of the chosen models, whichever process reports it."""
    return f"max by ({by}) ({gauge}{{{MODEL}}})"


def _render_sum(function: str, metric: str, selector: str, by: str) -> str:
    grouping = f" by ({by}) " if by else ""
    braces = f"{{{selector}}}" if selector else ""
    return f"sum{grouping}({function}({metric}{braces}[$__rate_interval]))"


def serving_row() -> list[Panel]:
    """Return "Is it serving?": rate, errors, latency, version."""
    loaded = latest("holdfast_model_loaded_timestamp_seconds", by="model, version")
    duration = rate("holdfast_http_request_duration_seconds_bucket", REQUESTS, by="le")
    return [
        stat(
            "Which version answers, and since when?",
            "The version of each model that was loaded last, and the age of the load.",
            {"{{model}} v{{version}}": f"topk by (model) (1, {loaded} > 0) * 1000"},
            unit="dateTimeFromNow",
            width=4,
        ),
        lines(
            "How many requests does it answer?",
            "Requests per second by status; probes and scrapes are left out.",
            {"{{code}}": rate("holdfast_http_requests_total", REQUESTS, by="code")},
            unit="reqps",
            width=7,
            style="stacked",
        ),
        lines(
            "What share of the requests fails?",
            "Share of 5xx answers over 5 minutes. Alert HoldfastErrorRatio: above the line.",
            {"5xx": "holdfast:error_ratio:5m"},
            unit="percentunit",
            width=6,
            limits=thresholds((ERROR_RATIO_BOUND, RED)),
        ),
        lines(
            "How long does a request take?",
            "Median and 99th percentile of the time to answer; probes and scrapes are left out.",
            {q: f"histogram_quantile({p}, {duration})" for q, p in (("p50", 0.5), ("p99", 0.99))},
            unit="s",
            width=7,
        ),
        *_serving_detail(),
    ]


def _serving_detail() -> list[Panel]:
    stage, rows = "holdfast_stage_duration_seconds", "holdfast_batch_rows"
    seconds = rate(f"{stage}_sum", MODEL, by="stage")
    runs = rate(f"{stage}_count", MODEL, by="stage")
    failures = "holdfast_inference_failure_duration_seconds_count"
    last_request = latest("holdfast_last_inference_timestamp_seconds", by="model, version")
    dropped = count("holdfast_records_dropped_total", by="reason")
    failed = count("holdfast_model_reload_failures_total", MODEL, by="model")
    broke = count("holdfast_model_run_failures_total", MODEL, by="model")
    return [
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
            {"rows": f"{rate(f'{rows}_sum')} / {rate(f'{rows}_count')}"},
            unit="short",
            width=6,
        ),
        lines(
            "What was lost?",
            "Records that could not be kept, runs of a model that failed (answered 503), and model"
            " loads that failed (the version before is still served). Alert HoldfastReloadFailing:"
            " any failed load.",
            {
                "record dropped: {{reason}}": dropped,
                "run failed: {{model}}": broke,
                "load failed: {{model}}": failed,
            },
            unit="short",
            width=9,
            style="bars",
        ),
        lines(
            "Which model is asked for what it cannot answer?",
            "Prediction requests per second that a version refused or failed.",
            {"{{model}} v{{version}}": rate(failures, MODEL, by="model, version")},
            unit="reqps",
            width=16,
        ),
        stat(
            "When was each version last asked?",
            "The age of the last prediction of each version that has answered any.",
            {"{{model}} v{{version}}": f"({last_request} > 0) * 1000"},
            unit="dateTimeFromNow",
            width=8,
        ),
    ]


def drift_row() -> list[Panel]:
    """Return "Has the world moved?": the alarm and the evidence behind it."""
    evidence = latest("holdfast_drift_evidence_log10", by="model, channel")
    threshold = latest("holdfast_drift_alarm_threshold_log10")
    return [
        stat(
            "Is the drift alarm raised?",
            "The watcher's alarm. Alert HoldfastDrift: while it is raised.",
            {"{{model}}": latest("holdfast_drift_alarm")},
            unit="none",
            width=4,
            limits=thresholds((1, RED)),
            mappings=[value_map({"0": ("no drift", GREEN), "1": ("DRIFT", RED)})],
        ),
        lines(
            "How strong is the evidence of drift?",
            "Evidence per channel against the reference, as a power of ten, beside the threshold at"
            " which the alarm is raised.",
            {"{{model}} {{channel}}": evidence, "{{model}} threshold": threshold},
            unit="none",
            width=10,
        ),
        lines(
            "Which channel moved?",
            "Population stability index over 5 minutes, less what chance alone gives; from 200"
            " requests on. Alert HoldfastChannelShift: above the line.",
            {"{{model}} v{{version}} {{channel}}": f"holdfast:channel_psi:5m{{{MODEL}}}"},
            unit="none",
            width=10,
            limits=thresholds((PSI_BOUND, AMBER)),
        ),
        *_drift_detail(),
        lines(
            "How bursty is the traffic?",
            "Variance of the counts over that of independent requests, the largest of each"
            " channel's bets. Above 1 the evidence is discounted by as much.",
            {
                "{{model}} {{channel}}": latest(
                    "holdfast_drift_dispersion_ratio", by="model, channel"
                )
            },
            unit="none",
            width=14,
        ),
        lines(
            "How many requests are repeats?",
            "Rows per second that a client sent again within a minute: counted once in the cells.",
            {"{{model}}": rate("holdfast_repeats_total", MODEL, by="model")},
            unit="reqps",
            width=10,
        ),
    ]


def _drift_detail() -> list[Panel]:
    predictions = "holdfast_predictions_total"
    by_class = rate(predictions, MODEL, by="model, class")
    return [
        heatmap(
            "How are the drift p-values spread?",
            "Even over all rows where requests look like the training data, heavy at the bottom"
            " where they do not.",
            _render_sum("increase", "holdfast_drift_p_value_bucket", MODEL, "le"),
            width=12,
        ),
        lines(
            "Which classes are predicted?",
            "Share of each predicted class.",
            {
                "{{model}} {{class}}": f"{by_class} / on (model) group_left () "
                + rate(predictions, MODEL, by="model")
            },
            unit="percentunit",
            width=12,
            style="stacked",
            top=1,
        ),
    ]


def tampering_row() -> list[Panel]:
    """Return "Is someone tampering?": flags and the likelihoods behind them."""
    flagged = "holdfast:flagged_ratio:5m"
    return [
        lines(
            "Are inputs attacked, or only corrupted?",
            "Evidence, log10, of the stream of likelihoods. Slow: attacked, which no mix of clean"
            " and corrupted inputs explains; alert HoldfastPerturbationRate: above the line. Quick:"
            " corrupted or attacked; it only informs. Alert HoldfastQueryAttack: more than ten"
            " flagged queries in five minutes.",
            {
                "{{model}} {{stream}}": f"max by (model, stream) ("
                f"holdfast_perturbation_evidence_log10{{{MODEL}}})",
                "{{model}} threshold": f"holdfast_perturbation_alarm_threshold_log10{{{MODEL}}}",
                "{{model}} alarm": f"holdfast_perturbation_alarm{{{MODEL}}}",
            },
            unit="short",
            width=8,
            limits=thresholds((ATTACK_EVIDENCE_BOUND, RED)),
        ),
        heatmap(
            "How are the perturbation likelihoods spread?",
            "Near 0 for clean inputs; weight near 1 is tampering.",
            _render_sum("increase", "holdfast_perturbation_likelihood_bucket", MODEL, "le"),
            width=8,
        ),
        lines(
            "What share of the inputs is flagged, by kind?",
            "Share of the inputs whose p-value or likelihood passed its threshold, over 5 minutes.",
            {"{{model}} {{kind}}": f"{flagged}{{{MODEL}}}"},
            unit="percentunit",
            width=8,
        ),
    ]


def accuracy_row() -> list[Panel]:
    """Return "Is it right?": labels that came back, and evaluations."""
    return [
        lines(
            "Is it as right as its evaluation promised?",
            "Accuracy on recent labelled requests (a gap: too few labels) with its 95% interval,"
            " the same corrected for which requests got labels, that of the served version on its"
            " test set, and the floor below which there is harm.",
            {
                "{{model}} observed": latest("holdfast_observed_accuracy_ratio"),
                "{{model}} observed, {{bound}}": latest(
                    "holdfast_observed_accuracy_bound_ratio", by="model, bound"
                ),
                "{{model}} corrected, {{bound}}": latest(
                    "holdfast_corrected_accuracy_ratio", by="model, bound"
                ),
                "{{model}} expected": latest("holdfast_expected_accuracy_ratio"),
                "{{model}} floor": latest("holdfast_accuracy_floor_ratio"),
            },
            unit="percentunit",
            width=8,
            top=1,
        ),
        lines(
            "Are the answers worse than promised?",
            "Evidence of harm, as a power of ten, and the line at which the alarm is raised. Alert"
            " HoldfastObservedAccuracyLow: above it, where the labels are believed.",
            {
                "{{model}}": latest("holdfast_harm_evidence_log10"),
                "{{model}} alarm from here on": latest("holdfast_harm_alarm_threshold_log10"),
            },
            unit="none",
            width=6,
        ),
        stat(
            "Is that harm?",
            "1 while the alarm of harm is raised and the labels are believed; and how many labels"
            " the observed accuracy rests on.",
            {
                "{{model}} harm": latest("holdfast_harm_alarm"),
                "{{model}} labels": latest("holdfast_observed_accuracy_labels"),
            },
            unit="short",
            width=5,
        ),
        *_accuracy_detail(),
    ]


def _accuracy_detail() -> list[Panel]:
    labelled = f"({rate('holdfast_feedback_total', MODEL)} or vector(0))"
    disputed = rate("holdfast_feedback_contradictions_total", MODEL)
    made = rate("holdfast_predictions_total", MODEL)
    evaluated = latest("holdfast_evaluation_last_success_timestamp_seconds")
    return [
        lines(
            "What share of the answers gets a label?",
            "Labels received per prediction made, those that another client contradicts, and the"
            " share of the latest requests that have one.",
            {
                "contradicted": f"({disputed} or vector(0)) / {made}",
                "labels per answer": f"{labelled} / {made}",
                "{{model}} latest requests": latest("holdfast_label_coverage_ratio"),
            },
            unit="percentunit",
            width=5,
        ),
        stat(
            "How well did each version do in its evaluation?",
            "Accuracy by version, suite, attack, and eps: the largest change of one feature.",
            {
                "{{model}} v{{version}} {{suite}} {{attack}} {{eps}}": latest(
                    "holdfast_evaluation_accuracy_ratio", by="model, version, suite, attack, eps"
                )
            },
            unit="percentunit",
            width=19,
        ),
        stat(
            "When was it evaluated last?",
            "Age of the last evaluation that ran to its end.",
            {"{{model}}": f"{evaluated} * 1000"},
            unit="dateTimeFromNow",
            width=5,
        ),
    ]
