"""The row of the dashboard on loop and watcher: what they did, and what is wrong with them."""

from monitoring.grafana.panels import GREEN, RED, Panel, lines, stat, thresholds, value_map
from monitoring.grafana.rows import MODEL, STALE_SECONDS, count, latest


def loop_row() -> list[Panel]:
    """Return "What did the loop do?": runs, refusals, alerts, gates, and the watcher itself."""
    charts = (
        (
            "What ran, and how did it end?",
            "Evaluations, trainings and promotions that ended, by kind and outcome.",
            {"{{kind}} {{outcome}}": count("holdfast_lifecycle_runs_total", by="kind, outcome")},
        ),
        (
            "What was refused, and why?",
            "Triggers that started nothing, by the name of the refusal.",
            {"{{reason}}": count("holdfast_lifecycle_refusals_total", by="reason")},
        ),
        (
            "Which alerts arrived?",
            "Alerts received from Alertmanager, by action asked for and decision taken.",
            {
                "{{action}} {{decision}}": count(
                    "holdfast_alerts_received_total", by="action, decision"
                )
            },
        ),
    )
    bars = [lines(*each, unit="short", width=8, style="bars") for each in charts]
    return [*bars, *_loop_detail()]


def _loop_detail() -> list[Panel]:
    said = f"holdfast_gate_verdict{{{MODEL}, verdict!='pass'}}"
    failed = f"sum by (model, check, verdict) ({said}) or on () vector(0)"
    return [
        lines(
            "Which gates did the last challenger not pass?",
            "1 for each gate that says fail, or unknown, of the last challenger, 0 for the others;"
            " 0 before the first challenger.",
            {"{{model}} {{check}} {{verdict}}": failed},
            unit="none",
            width=10,
        ),
        stat(
            "Is the watcher awake?",
            "Time since it last read the counters. Alert HoldfastWatcherStale: above 60 s.",
            {"last look": "time() - max(holdfast_watch_last_tick_timestamp_seconds)"},
            unit="s",
            width=5,
            limits=thresholds((STALE_SECONDS, RED)),
        ),
        lines(
            "Can the watcher read the counters?",
            "Failed reads of the services' counters, by service and reason. Alert"
            " HoldfastServiceUnread: one that is not read for a minute.",
            {
                "all": count("holdfast_watch_scrape_failures_total"),
                "{{service}} {{reason}}": count(
                    "holdfast_watch_service_failures_total", by="service, reason"
                ),
            },
            unit="short",
            width=9,
            style="bars",
        ),
        *_watch_detail(),
    ]


def _watch_detail() -> list[Panel]:
    problem = "max by (model, problem) (holdfast_watch_problem) or on () vector(0)"
    begun = count("holdfast_watch_problems_total", by="model, problem")
    return [
        lines(
            "What is wrong, and with which model?",
            "1 while a model has the problem. Alerts HoldfastModelBroken, HoldfastWatchImpaired,"
            " HoldfastWatcherBlind, HoldfastCountersStill: for a minute.",
            {"{{model}} {{problem}}": problem},
            unit="none",
            width=10,
        ),
        stat(
            "Which services are read?",
            "1 while the counters of a service are read and believed.",
            {"{{service}}": "min by (service) (holdfast_watch_service_up) or on () vector(0)"},
            unit="none",
            width=5,
            mappings=[value_map({"0": ("not read", RED), "1": ("read", GREEN)})],
        ),
        lines(
            "How often did something break?",
            "Problems that began, by model and name.",
            {"{{model}} {{problem}}": begun},
            unit="short",
            width=9,
            style="bars",
        ),
        *_standing_still(),
        *_side_by_side(),
    ]


def _standing_still() -> list[Panel]:
    moved = latest("holdfast_lifecycle_moved_timestamp_seconds")
    return [
        stat(
            "Does a job stand still?",
            "1 while the running job of a model does not move. Alert HoldfastJobStalled: for a"
            " minute.",
            {"{{model}}": f"{latest('holdfast_lifecycle_stalled')} or on () vector(0)"},
            unit="none",
            width=5,
            mappings=[value_map({"0": ("moves, or none runs", GREEN), "1": ("STALLED", RED)})],
        ),
        lines(
            "When did the running job last move?",
            "Seconds since the job of a model gave a sign of life; 0 where none runs.",
            {"{{model}}": f"time() - {moved} or on () vector(0)"},
            unit="s",
            width=10,
        ),
        lines(
            "Which steps were tried again?",
            "Tries of a step of the loop that a passing fault ended: a locked database, a full"
            " disk.",
            {"{{step}}": count("holdfast_lifecycle_retries_total", by="step")},
            unit="short",
            width=9,
            style="bars",
        ),
    ]


def _side_by_side() -> list[Panel]:
    labels = latest("holdfast_shadow_labels", by="model, right")
    requests = latest("holdfast_shadow_requests", by="model, answers")
    seconds = latest("holdfast_shadow_run_seconds", by="model, role")
    return [
        lines(
            "How did champion and challenger do on the same requests?",
            "Requests that both answered in the last comparison (shadow, canary or probation), and"
            " of the labelled ones, who alone was right.",
            {
                "{{model}} {{answers}}": f"{requests} or on () vector(0)",
                "{{model}} {{right}} right": f"{labels} or on () vector(0)",
            },
            unit="short",
            width=10,
        ),
        lines(
            "What does a run of each cost?",
            "Median processor time of a run of one row in that comparison.",
            {"{{model}} {{role}}": f"{seconds} or on () vector(0)"},
            unit="s",
            width=7,
        ),
        lines(
            "What share of the requests does a canary answer?",
            "0 while there is no canary.",
            {"{{model}}": latest("holdfast_canary_share")},
            unit="percentunit",
            width=7,
        ),
    ]
