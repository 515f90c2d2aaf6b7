"""Alerts on what is asked and answered: drift, tampering, and whether answers are right."""

from monitoring.prometheus.alerting.alert import Alert, bridge

PSI_BOUND = 0.25
ESTIMATE_BOUND = 0.05
FEW_LABELS = 100

ALERTS = (
    Alert(
        name="HoldfastDrift",
        expr=f"{bridge('holdfast_drift_alarm')} == 1",
        severity="warning",
        action="evaluate",
        summary="Requests no longer look like the data the model was trained for.",
        description=(
            "Model {{ $labels.model }}: the evidence of drift has passed the alarm's threshold."
            ' {{- with printf "topk(1, max by (channel) (holdfast_drift_evidence_log10{model=%q}))"'
            ' $labels.model | query }} Strongest channel: {{ . | first | label "channel" }}, with'
            ' evidence of 10^{{ . | first | value | printf "%.1f" }} to 1.{{ end }}'
        ),
        dashboard="holdfast-drift",
        view="drift",
    ),
    Alert(
        name="HoldfastChannelShift",
        expr=f"holdfast:channel_psi:5m > {PSI_BOUND}",
        after="5m",
        keep="10m",
        severity="info",
        summary="One channel's distribution differs strongly from the reference.",
        description=(
            "Model {{ $labels.model }} version {{ $labels.version }}: the population stability"
            " index of channel {{ $labels.channel }} is"
            f' {{{{ $value | printf "%.2f" }}}} over 5 minutes (bound: {PSI_BOUND}).'
        ),
        dashboard="holdfast-drift",
        view="drift",
    ),
    Alert(
        name="HoldfastPerturbationRate",
        expr=f"{bridge('holdfast_perturbation_alarm')} == 1",
        after="1m",
        keep="5m",
        severity="warning",
        action="evaluate_robustness",
        summary="Inputs look attacked, and no mix of clean and corrupted ones explains it.",
        description=(
            "Model {{ $labels.model }}: the evidence of attacks has passed the alarm's threshold."
            ' {{- with printf "max(holdfast_perturbation_evidence_log10{model=%q,'
            'stream=\\"slow\\"})" $labels.model | query }} Evidence:'
            ' 10^{{ . | first | value | printf "%.1f" }} to 1.{{ end }}'
        ),
        dashboard="holdfast-perturbation",
        view="now",
    ),
    Alert(
        name="HoldfastQueryAttack",
        expr='sum by (model) (increase(holdfast_flagged_total{kind="query"}[5m])) > 10',
        keep="5m",
        severity="warning",
        summary=(
            "A client asks a long series of inputs that hardly differ, as attacks without a"
            " gradient do."
        ),
        description=(
            'Model {{ $labels.model }}: about {{ $value | printf "%.0f" }} inputs of the last 5'
            " minutes were flagged as probing queries (bound: 10). On traffic that is no series of"
            " near-duplicates there are none."
        ),
        dashboard="holdfast-perturbation",
        view="now",
    ),
    Alert(
        name="HoldfastObservedAccuracyLow",
        expr=f"{bridge('holdfast_harm_alarm')} == 1",
        severity="critical",
        action="evaluate",
        summary="The answers are right less often than the model's evaluation promised.",
        description=(
            "Model {{ $labels.model }}: the evidence of harm has passed the alarm's threshold."
            ' {{- with printf "max(holdfast_observed_accuracy_ratio{model=%q})" $labels.model |'
            " query }} Accuracy on the latest labelled requests:"
            " {{ . | first | value | humanizePercentage }}.{{ end }}"
            ' {{- with printf "max(holdfast_accuracy_floor_ratio{model=%q})" $labels.model | query'
            " }} Floor: {{ . | first | value | humanizePercentage }}.{{ end }}"
        ),
        dashboard="holdfast-quality",
        view="now",
    ),
    Alert(
        name="HoldfastEstimatedAccuracyLow",
        # An estimate starts nothing: it is too high as a rule where inputs are foreign.
        expr=(
            "max by (model) (holdfast_expected_accuracy_ratio)\n"
            '- max by (model) (holdfast_estimated_accuracy_ratio{bound="high"})\n'
            f"> {ESTIMATE_BOUND}\n"
            f"unless max by (model) (holdfast_observed_accuracy_labels) >= {FEW_LABELS}"
        ),
        after="10m",
        keep="10m",
        severity="warning",
        summary="By estimate the answers are right less often than promised, and few labels say.",
        description=(
            "Model {{ $labels.model }}: the upper end of the accuracy that is estimated without"
            " labels lies {{ $value | humanizePercentage }} below what the evaluation promised"
            f" (bound: {ESTIMATE_BOUND:.0%}). Label {FEW_LABELS} rows: then it is known."
        ),
        dashboard="holdfast-quality",
        view="label",
    ),
    Alert(
        name="HoldfastLabelsBiased",
        expr=f"{bridge('holdfast_labels_biased')} == 1",
        after="30m",
        severity="info",
        summary="The labelled requests do not speak for all of them.",
        description=(
            "Model {{ $labels.model }}: for half an hour or longer some requests have got labels"
            " more often than others, or wrong answers none. The observed accuracy is not that of"
            " the traffic."
        ),
        dashboard="holdfast-quality",
        view="label",
    ),
    Alert(
        name="HoldfastFeedbackSilent",
        expr=(
            "(\n"
            f"  time() - ({bridge('holdfast_last_feedback_timestamp_seconds')} > 0)\n"
            f"  > clamp_min(5 * ({bridge('holdfast_feedback_gap_usual_seconds')} > 0), 3600)\n"
            ")\n"
            "and on (model) holdfast:predictions:1h > 200"
        ),
        after="10m",
        severity="warning",
        summary="Labels have stopped coming while requests go on.",
        description=(
            "Model {{ $labels.model }}: the last label came {{ $value | humanizeDuration }} ago,"
            " more than five times the usual gap. Harm would go unseen."
        ),
        dashboard="holdfast-quality",
        view="label",
    ),
    Alert(
        name="HoldfastReloadFailing",
        expr="sum by (model) (increase(holdfast_model_reload_failures_total[10m])) > 0",
        severity="warning",
        summary="A new model version could not be loaded; the one before is still served.",
        description=(
            'Model {{ $labels.model }}: about {{ $value | printf "%.0f" }} failed loads in 10'
            " minutes. holdfast models verify {{ $labels.model }} names the file."
        ),
        dashboard="holdfast-service",
        view="versions",
    ),
)
