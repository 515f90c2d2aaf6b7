"""Perturbation: block, reject, or recalibrate?"""

from monitoring.grafana.panels import Panel, bars, heatmap, lines
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import MODEL, count, latest, or_none, rate, render_sum

FLAGGED = "holdfast:flagged_ratio:5m"


def panels() -> list[Panel]:
    """How much is flagged, by whom it may be, and what the version withstands."""
    return [*_flagged(), *_answers()]


def _flagged() -> list[Panel]:
    evidence = latest("holdfast_perturbation_evidence_log10", by="model, stream")
    perturbed = lines(
        "Are inputs attacked, or only corrupted?",
        "Evidence of the stream of likelihoods, as a power of ten. Slow: attacked, which no mix of"
        " clean and corrupted inputs explains. Quick: corrupted or attacked; it only informs. Alert"
        " HoldfastPerturbationRate: the slow one above the threshold.",
        {
            "{{model}} {{stream}}": or_none(evidence),
            "{{model}} threshold": or_none(latest("holdfast_perturbation_alarm_threshold_log10")),
        },
        unit="none",
        width=8,
    )
    spread = heatmap(
        "How are the perturbation likelihoods spread?",
        "Near 0 for clean inputs; a heap near 1 is an attack, a broad shift a detector that does"
        " not know these inputs.",
        render_sum("increase", "holdfast_perturbation_likelihood_bucket", MODEL, "le"),
        width=8,
    )
    probing = lines(
        "Does a client probe the model?",
        "Inputs flagged because their client had just sent others that hardly differ. Alert"
        " HoldfastQueryAttack: more than ten in five minutes.",
        {"{{model}}": count("holdfast_flagged_total", f'kind="query", {MODEL}', by="model")},
        unit="short",
        width=8,
        style="bars",
    )
    return [
        leading(perturbed, "HoldfastPerturbationRate", "#now"),
        spread,
        leading(probing, "HoldfastQueryAttack"),
    ]


def _answers() -> list[Panel]:
    labels = "model, version, suite, attack, eps"
    withstood = bars(
        "How much does the served version withstand?",
        "Accuracy in its evaluation by suite, attack, and eps: the largest change of one feature.",
        {
            "{{model}} v{{version}} {{suite}} {{attack}} {{eps}}": or_none(
                latest("holdfast_evaluation_accuracy_ratio", by=labels)
            )
        },
        unit="percentunit",
        width=8,
        top=1,
    )
    foreign = lines(
        "Did inputs become foreign at the same time?",
        "Share of the inputs flagged by kind over 5 minutes. Drift and perturbation together: the"
        " detector does not know these inputs.",
        {"{{model}} {{kind}}": f"{FLAGGED}{{{MODEL}}}"},
        unit="percentunit",
        width=6,
    )
    refused = rate("holdfast_http_requests_total", 'code="409"', by="route")
    certified = rate("holdfast_certified_total", f'certified="true", {MODEL}', by="model")
    answered = rate("holdfast_certified_total", MODEL, by="model")
    return [
        leading(foreign, "drift"),
        lines(
            "What share of the answers is certified?",
            "Answers that no change within the version's eps can turn; 0 also for versions that"
            " were not trained for it. It says nothing of foreign inputs.",
            {"{{model}}": or_none(f"{certified} / {answered}")},
            unit="percentunit",
            width=5,
        ),
        lines(
            "What was refused?",
            "Requests per second answered with 409: flagged ones where the policy refuses them, and"
            " labels of ids that are not unique.",
            {"{{route}}": or_none(refused)},
            unit="reqps",
            width=5,
        ),
        leading(withstood, "#versions"),
    ]
