"""Overview: who has to act, and on what?"""

from monitoring.grafana.panels import (
    AMBER,
    GREEN,
    RED,
    Panel,
    bars,
    lines,
    stat,
    table,
    thresholds,
    value_map,
)
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import MODEL, latest, or_none, rate
from monitoring.prometheus.alerting.loop import WAITED_SECONDS
from monitoring.prometheus.alerting.processes import ERROR_RATIO_BOUND
from monitoring.prometheus.alerting.watch import STALE_SECONDS

LOST_BOUND = 0.1


def panels() -> list[Panel]:
    """What fires, and the questions that are asked first."""
    return [*_first(), *_then()]


def _first() -> list[Panel]:
    firing = 'ALERTS{alertname=~"Holdfast.+", alertstate="firing"}'
    evidence = latest("holdfast_drift_evidence_log10")
    threshold = latest("holdfast_drift_alarm_threshold_log10")
    return [
        leading(
            table(
                "What fires?",
                "Every firing alert with its model; a row of 0 without a name: none fires.",
                f"sum by (alertname, model, severity) ({firing}) or on () vector(0)",
                unit="none",
                width=10,
                limits=thresholds((1, RED)),
            ),
            "#now",
        ),
        leading(
            stat(
                "Is it serving?",
                "Share of 5xx answers over 5 minutes. Alert HoldfastErrorRatio: above 1%."
                " Alert HoldfastServiceDown: no answer to Prometheus.",
                {"errors": "holdfast:error_ratio:5m"},
                unit="percentunit",
                width=4,
                limits=thresholds((ERROR_RATIO_BOUND, RED)),
            ),
            "HoldfastErrorRatio",
            "HoldfastServiceDown",
            "service",
        ),
        leading(
            bars(
                "Has the world moved?",
                "The strongest evidence of drift as a share of what raises the alarm, on a scale of"
                " powers of ten. Alert HoldfastDrift: at 1.",
                {"{{model}}": f"{evidence} / {threshold}"},
                unit="none",
                width=5,
                limits=thresholds((0.8, AMBER), (1, RED)),
                top=1.5,
            ),
            "HoldfastDrift",
            "drift",
            "#drift",
        ),
        leading(
            stat(
                "Is someone tampering?",
                "Whether the stream of likelihoods looks attacked; 0 also where the version cannot"
                " tell.",
                {"{{model}}": or_none(latest("holdfast_perturbation_alarm"))},
                unit="none",
                width=5,
                limits=thresholds((1, RED)),
                mappings=[value_map({"0": ("no evidence", GREEN), "1": ("ATTACKED", RED)})],
            ),
            "HoldfastPerturbationRate",
            "perturbation",
        ),
    ]


def _then() -> list[Panel]:
    expected = latest("holdfast_expected_accuracy_ratio")
    observed = latest("holdfast_observed_accuracy_ratio")
    waits = latest("holdfast_job_stage_since_timestamp_seconds", 'stage=~"approval.*"')
    answered = "holdfast_stage_duration_seconds_count"
    return [
        leading(
            stat(
                "Is it right?",
                "Accuracy that is lost on labelled requests, against what the evaluation promised;"
                " no figure: nobody has told it. Alert HoldfastObservedAccuracyLow goes by"
                " evidence, not by this figure.",
                {"{{model}}": f"{expected} - {observed}"},
                unit="percentunit",
                width=4,
                limits=thresholds((LOST_BOUND, RED)),
            ),
            "HoldfastObservedAccuracyLow",
            "quality",
            "#label",
        ),
        leading(
            stat(
                "Does anything wait for a person?",
                "How long a challenger has waited for an answer; 0: none does."
                " Alert HoldfastApprovalWaiting: above 15 minutes.",
                {"{{model}}": f"(time() - ({waits} > 0)) or {waits} * 0"},
                unit="s",
                width=5,
                limits=thresholds((WAITED_SECONDS, AMBER)),
            ),
            "HoldfastApprovalWaiting",
            "lifecycle",
            "#loop",
        ),
        leading(
            stat(
                "Is it being watched?",
                "Time since the watcher last looked. Alert HoldfastWatcherStale: above 60 s.",
                {"last look": "time() - max(holdfast_watch_last_tick_timestamp_seconds)"},
                unit="s",
                width=4,
                limits=thresholds((STALE_SECONDS, RED), base=GREEN),
            ),
            "HoldfastWatcherStale",
            "lifecycle",
        ),
        leading(
            lines(
                "How many requests, and which version answers them?",
                "Answered predictions per second by version.",
                {
                    "{{model}} v{{version}}": rate(
                        answered, f'stage="run", {MODEL}', by="model, version"
                    )
                },
                unit="reqps",
                width=11,
                style="stacked",
            ),
            "service",
        ),
    ]
