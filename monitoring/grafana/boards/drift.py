"""Drift: did a client break something, or did the world change?"""

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
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import MODEL, latest, rate, render_sum
from monitoring.prometheus.alerting.model import PSI_BOUND

DISCOUNTED = 3.0  # times the variance of independent requests from which evidence comes late


def panels() -> list[Panel]:
    """The alarm, what moved, and what the traffic is like."""
    return [*_alarm(), *_cells(), *_traffic()]


def _alarm() -> list[Panel]:
    evidence = latest("holdfast_drift_evidence_log10", by="model, channel")
    threshold = latest("holdfast_drift_alarm_threshold_log10")
    alarm = stat(
        "Is the drift alarm raised?",
        "The watcher's alarm. Alert HoldfastDrift: while it is raised.",
        {"{{model}}": latest("holdfast_drift_alarm")},
        unit="none",
        width=4,
        limits=thresholds((1, RED)),
        mappings=[value_map({"0": ("no drift", GREEN), "1": ("DRIFT", RED)})],
    )
    strength = lines(
        "How strong is the evidence of drift?",
        "Evidence per channel against the reference, as a power of ten, beside the threshold at"
        " which the alarm is raised.",
        {"{{model}} {{channel}}": evidence, "{{model}} threshold": threshold},
        unit="none",
        width=10,
    )
    moved = lines(
        "Which channel moved?",
        "Population stability index over 5 minutes, less what chance alone gives; from 200"
        " requests on. Alert HoldfastChannelShift: above the line.",
        {"{{model}} v{{version}} {{channel}}": f"holdfast:channel_psi:5m{{{MODEL}}}"},
        unit="none",
        width=10,
        limits=thresholds((PSI_BOUND, AMBER)),
    )
    return [
        leading(alarm, "HoldfastDrift", "#drift"),
        leading(strength, "#drift"),
        leading(moved, "HoldfastChannelShift"),
    ]


def _cells() -> list[Panel]:
    chosen = f'{MODEL}, channel=~"$channel"'
    keys = "model, version, channel, cell"
    difference = (
        f"sum by (channel, cell) (holdfast:cell_share:5m{{{chosen}}}"
        f" - on ({keys}) holdfast:cell_reference:ratio)"
    )
    return [
        lines(
            "Which cells of the chosen channel moved?",
            "Share of the requests in each cell over 5 minutes, less the reference's share; choose"
            " one channel above.",
            {"{{channel}} {{cell}}": difference},
            unit="percentunit",
            width=12,
        ),
        heatmap(
            "How are the drift p-values spread?",
            "Even over all rows where requests look like the training data, heavy at the bottom"
            " where they do not.",
            render_sum("increase", "holdfast_drift_p_value_bucket", MODEL, "le"),
            width=12,
        ),
    ]


def _traffic() -> list[Panel]:
    predictions = "holdfast_predictions_total"
    by_class = rate(predictions, MODEL, by="model, class")
    share = f"{by_class} / on (model) group_left () " + rate(predictions, MODEL, by="model")
    return [
        lines(
            "Which classes are predicted?",
            "Share of each predicted class.",
            {"{{model}} {{class}}": share},
            unit="percentunit",
            width=8,
            style="stacked",
            top=1,
        ),
        lines(
            "How bursty is the traffic?",
            "Variance of the counts over that of independent requests, the largest of each"
            " channel's bets. Evidence is discounted by as much; above the line alarms come late.",
            {
                "{{model}} {{channel}}": latest(
                    "holdfast_drift_dispersion_ratio", by="model, channel"
                )
            },
            unit="none",
            width=8,
            limits=thresholds((DISCOUNTED, AMBER)),
        ),
        lines(
            "How many requests are repeats?",
            "Rows per second that a client sent again within a minute: counted once in the cells.",
            {"{{model}}": rate("holdfast_repeats_total", MODEL, by="model")},
            unit="reqps",
            width=8,
        ),
    ]
