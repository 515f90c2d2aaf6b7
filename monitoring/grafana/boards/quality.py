"""Quality: can the figures be believed, and is a rollback due?"""

from monitoring.grafana.panels import (
    AMBER,
    GREEN,
    GREY,
    RED,
    Panel,
    lines,
    stat,
    thresholds,
    timeline,
    value_map,
)
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import MODEL, latest, or_none, rate
from monitoring.prometheus.alerting.loop import STALE_DAYS
from monitoring.prometheus.alerting.model import FEW_LABELS

DAY_SECONDS = 86_400


def panels() -> list[Panel]:
    """Accuracy against the promise, what it rests on, and what is estimated without labels."""
    return [*_accuracy(), *_labels(), *_estimate()]


def _accuracy() -> list[Panel]:
    observed = lines(
        "Is it as right as its evaluation promised?",
        "Accuracy on recent labelled requests (a gap: too few labels) with its 95% interval, the"
        " same corrected for which requests got labels, that of the served version on its test"
        " set, and the floor below which there is harm.",
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
        width=9,
        top=1,
    )
    evidence = lines(
        "Are the answers worse than promised?",
        "Evidence of harm, as a power of ten, and the line at which the alarm is raised.",
        {
            "{{model}}": latest("holdfast_harm_evidence_log10"),
            "{{model}} alarm from here on": latest("holdfast_harm_alarm_threshold_log10"),
        },
        unit="none",
        width=7,
    )
    harm = stat(
        "Is that harm?",
        "1 while the alarm of harm is raised and the labels are believed. Alert"
        " HoldfastObservedAccuracyLow: then.",
        {"{{model}}": latest("holdfast_harm_alarm")},
        unit="none",
        width=4,
        limits=thresholds((1, RED)),
        mappings=[value_map({"0": ("no evidence", GREEN), "1": ("HARM", RED)})],
    )
    made = latest("holdfast_version_made_timestamp_seconds", by="model, version")
    age = stat(
        "How old is the champion?",
        "Time since it was made. Alert HoldfastModelStale: above 90 days.",
        {"{{model}} v{{version}}": f"time() - {made}"},
        unit="s",
        width=4,
        limits=thresholds((STALE_DAYS * DAY_SECONDS, AMBER)),
    )
    return [
        leading(observed, "HoldfastObservedAccuracyLow", "#now"),
        leading(evidence, "HoldfastObservedAccuracyLow"),
        harm,
        leading(age, "HoldfastModelStale", "#versions"),
    ]


def _labels() -> list[Panel]:
    labelled = f"({rate('holdfast_feedback_total', MODEL)} or vector(0))"
    disputed = rate("holdfast_feedback_contradictions_total", MODEL)
    made = rate("holdfast_predictions_total", MODEL)
    number = stat(
        "How many labels does it rest on?",
        "Labelled requests behind the observed accuracy; grey below 100.",
        {"{{model}}": latest("holdfast_observed_accuracy_labels")},
        unit="short",
        width=4,
        limits=thresholds((FEW_LABELS, GREEN), base=GREY),
    )
    share = lines(
        "What share of the answers gets a label?",
        "Labels received per prediction made, those that another client contradicts, and the share"
        " of the latest requests that have one.",
        {
            "contradicted": f"({disputed} or vector(0)) / {made}",
            "labels per answer": f"{labelled} / {made}",
            "{{model}} latest requests": latest("holdfast_label_coverage_ratio"),
        },
        unit="percentunit",
        width=8,
    )
    delay = {"{{model}} {{quantile}}": latest("holdfast_label_delay_seconds", by="model, quantile")}
    last = latest("holdfast_last_feedback_timestamp_seconds")
    usual = latest("holdfast_feedback_gap_usual_seconds")
    silent = lines(
        "How long has no label come?",
        "Time since the last label (0: none is kept), and the usual gap between labels. Alert"
        " HoldfastFeedbackSilent: five times that, an hour at least, while requests go on.",
        {"{{model}}": f"(time() - ({last} > 0)) or {last} * 0", "{{model}} usual": usual},
        unit="s",
        width=6,
    )
    return [
        leading(number, "#label"),
        leading(share, "#label"),
        lines(
            "How late do labels come?",
            "Median and 90% quantile of the time from a request to its label.",
            delay,
            unit="s",
            width=6,
        ),
        leading(silent, "HoldfastFeedbackSilent"),
    ]


def _estimate() -> list[Panel]:
    shares = latest("holdfast_estimated_class_ratio", by="model, class")
    estimate = lines(
        "How right is it by estimate?",
        "Accuracy of recent requests estimated without labels. The low end counts requests with a"
        " drift p-value below 0.01 as wrong. Alert HoldfastEstimatedAccuracyLow: the high end 5"
        " points below the promise, with fewer than 100 labels.",
        {"{{model}} {{bound}}": latest("holdfast_estimated_accuracy_ratio", by="model, bound")},
        unit="percentunit",
        width=8,
        top=1,
    )
    trusted = timeline(
        "Can that estimate be trusted?",
        "Not while a channel other than the predicted class has an alarm: the inputs are not those"
        " that the estimate was fitted on.",
        {"{{model}}": latest("holdfast_estimated_accuracy_trustworthy")},
        width=5,
        mappings=[value_map({"0": ("no", AMBER), "1": ("yes", GREEN)})],
    )
    speak = stat(
        "Do the labelled requests speak for all?",
        "Not where some requests get labels more often than others, or wrong answers none. Alert"
        " HoldfastLabelsBiased: for half an hour.",
        {"{{model}}": latest("holdfast_labels_biased")},
        unit="none",
        width=5,
        limits=thresholds((1, AMBER)),
        mappings=[value_map({"0": ("yes", GREEN), "1": ("NO", AMBER)})],
    )
    return [
        leading(estimate, "HoldfastEstimatedAccuracyLow", "#label"),
        trusted,
        leading(speak, "HoldfastLabelsBiased", "#label"),
        lines(
            "Which classes are truly there?",
            "Estimated shares of the true classes while the class channel alone has an alarm; 0"
            " otherwise.",
            {"{{model}} {{class}}": or_none(shares)},
            unit="percentunit",
            width=6,
            style="stacked",
            top=1,
        ),
    ]
