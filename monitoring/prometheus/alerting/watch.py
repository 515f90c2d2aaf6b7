"""Alerts on the watch itself: what of it is broken, blind, or standing still."""

from monitoring.prometheus.alerting.alert import Alert, bridge, of_model

BROKEN = "alias_file|audit_file|model_missing|champion_missing|champion_damaged|registry"
OWN_ALERT = "model_unwatched|counters_still"
STALE_SECONDS = 60
SEE_MODELS = (
    "problem {{ $labels.problem }} for a minute or longer. GET /models of the watcher says more,"
    " and what to do."
)
TICK = "holdfast_watch_last_tick_timestamp_seconds"


LABELLED = "holdfast_last_feedback_timestamp_seconds"


def _unknown(figure: str) -> str:
    return (
        f'({bridge(f"""holdfast_figure_unknown{{figure="{figure}"}}""", by="model, figure")} == 1)'
    )


def _problem(selector: str, by: str = "model") -> str:
    return f"{bridge(f'holdfast_watch_problem{{problem{selector}}}', by=by)} == 1"


ALERTS = (
    Alert(
        name="HoldfastModelBroken",
        expr=_problem(f'=~"{BROKEN}"', by="model, problem"),
        after="1m",
        severity="critical",
        summary=(
            "What the registry holds of a model is broken; it may not outlive a restart of the"
            " service."
        ),
        description=of_model(SEE_MODELS),
        dashboard="holdfast-lifecycle",
        view="versions",
    ),
    Alert(
        name="HoldfastWatchImpaired",
        expr=_problem(f'!~"{BROKEN}|{OWN_ALERT}"', by="model, problem"),
        after="1m",
        severity="warning",
        summary="A part of the watch over a model fails; the rest goes on.",
        description=of_model(SEE_MODELS),
        dashboard="holdfast-lifecycle",
        view="now",
    ),
    Alert(
        name="HoldfastWatcherBlind",
        expr=_problem('="model_unwatched"'),
        after="1m",
        severity="critical",
        summary="The watcher looks and sees nothing of a model.",
        description=(
            "Model {{ $labels.model }}: no service that the watcher can read counts anything of the"
            " version that it watches. Drift would go unseen."
        ),
        dashboard="holdfast-lifecycle",
        view="now",
    ),
    Alert(
        name="HoldfastCountersStill",
        expr=_problem('="counters_still"'),
        after="1m",
        severity="critical",
        summary="A model answers requests, and the counters of the watched version stand still.",
        description=(
            "Model {{ $labels.model }}: requests are answered that no cell of the watched version"
            " counts. Another version is served, or the cells are not exported; drift would go"
            " unseen."
        ),
        dashboard="holdfast-service",
        view="versions",
    ),
    Alert(
        name="HoldfastServiceUnread",
        expr=(
            "(\n  min by (service) (holdfast_watch_service_up)\n"
            "  or min by (service) (last_over_time(holdfast_watch_service_up[1h]))\n"
            f"  unless on () {TICK}\n) == 0"
        ),
        after="1m",
        severity="warning",
        summary="The watcher cannot read the counters of a service that it is told to watch.",
        description=(
            "Service {{ $labels.service }} has not been read for a minute or longer: it is away,"
            " slow, or HOLDFAST_SERVICE_URL is wrong. GET /models of the watcher says which."
        ),
        dashboard="holdfast-lifecycle",
        view="now",
    ),
    Alert(
        name="HoldfastFigureUnknown",
        # A usual gap is missed only where labels came once and requests go on.
        expr=(
            f"{_unknown('version_made')}\n"
            "or (\n"
            f"  {_unknown('usual_gap')}\n"
            f"  and on (model) {bridge(LABELLED)} > 0\n"
            "  and on (model) holdfast:predictions:1h > 200\n"
            ")"
        ),
        after="1h",
        severity="info",
        summary="A figure that another alert needs is not known, so that one cannot fire.",
        description=(
            "Model {{ $labels.model }}: {{ $labels.figure }} has not been known for an hour or"
            ' longer. {{ if eq $labels.figure "usual_gap" }}HoldfastFeedbackSilent cannot fire:'
            " labels came, but fewer than three gaps between them are known.{{ else }}"
            "HoldfastModelStale cannot fire: the date of the champion is damaged.{{ end }}"
        ),
        dashboard="holdfast-lifecycle",
        view="now",
    ),
    Alert(
        name="HoldfastWatcherStale",
        # Seconds between the last tick and now, by the watcher's clock and Prometheus's: also
        # where the two differ. A watcher that is down leaves its last tick behind for an hour;
        # after that, or where none was ever seen, the value is 0.
        expr=(
            f"abs(time() - max by (job) (last_over_time({TICK}[1h]))) > {STALE_SECONDS}\n"
            "or (\n"
            '  max by (job) (up{job="holdfast-watcher"}) == 0\n'
            f"  unless max by (job) (last_over_time({TICK}[1h]))\n"
            ")\n"
            'or absent(up{job="holdfast-watcher"}) * 0'
        ),
        after="30s",
        severity="critical",
        summary="Nothing is watching for drift.",
        description=(
            "The watcher's last look at the counters lies {{ if gt $value 0.0 }}{{ $value |"
            " humanizeDuration }}{{ else }}a long time, or for ever,{{ end }} from now by"
            f" Prometheus's clock (bound: {STALE_SECONDS} s)."
        ),
        dashboard="holdfast-lifecycle",
        view="now",
    ),
)
