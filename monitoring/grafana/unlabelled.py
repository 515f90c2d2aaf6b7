"""The dashboard's row on accuracy without labels, and on how far the labels may be believed."""

from monitoring.grafana.panels import AMBER, GREEN, Panel, lines, stat, thresholds, value_map
from monitoring.grafana.rows import latest


def unlabelled_row() -> list[Panel]:
    """Return "Is it right where nobody says so?": estimates, and what labels are worth."""
    shares = latest("holdfast_estimated_class_ratio", by="model, class")
    return [
        lines(
            "How right is it by estimate?",
            "Accuracy of recent requests estimated without labels. The low end counts requests with"
            " a drift p-value below 0.01 as wrong.",
            {"{{model}} {{bound}}": latest("holdfast_estimated_accuracy_ratio", by="model, bound")},
            unit="percentunit",
            width=8,
            top=1,
        ),
        stat(
            "Can that estimate be trusted?",
            "Not while a channel other than the predicted class has an alarm: the inputs are not"
            " those that the estimate was fitted on.",
            {"{{model}}": latest("holdfast_estimated_accuracy_trustworthy")},
            unit="none",
            width=4,
            limits=thresholds((1, GREEN), base=AMBER),
            mappings=[value_map({"0": ("NO", AMBER), "1": ("yes", GREEN)})],
        ),
        lines(
            "How late do labels come?",
            "Median and 90% quantile of the time from a request to its label.",
            {
                "{{model}} {{quantile}}": latest(
                    "holdfast_label_delay_seconds", by="model, quantile"
                )
            },
            unit="s",
            width=4,
        ),
        stat(
            "Do the labelled requests speak for all?",
            "Not where some requests get labels more often than others, or wrong answers none.",
            {"{{model}}": latest("holdfast_labels_biased")},
            unit="none",
            width=4,
            limits=thresholds((1, AMBER)),
            mappings=[value_map({"0": ("yes", GREEN), "1": ("NO", AMBER)})],
        ),
        lines(
            "Which classes are truly there?",
            "Estimated shares of the true classes while the class channel alone has an alarm; 0"
            " otherwise.",
            {"{{model}} {{class}}": f"{shares} or on () vector(0)"},
            unit="percentunit",
            width=4,
            style="stacked",
            top=1,
        ),
    ]
