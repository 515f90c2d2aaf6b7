"""The part of the lifecycle's dashboard on the watcher: whether it sees, and what is wrong."""

from monitoring.grafana.panels import GREEN, GREY, RED, Panel, lines, stat, thresholds, value_map
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import count, latest, or_none
from monitoring.prometheus.alerting.watch import STALE_SECONDS


def watch_panels() -> list[Panel]:
    """The watcher's looks, its problems, and jobs that do not move."""
    return [*_looks(), *_problems(), *_standing_still()]


def _looks() -> list[Panel]:
    awake = stat(
        "Is the watcher awake?",
        "Time since it last looked. Alert HoldfastWatcherStale: above 60 s.",
        {"last look": "time() - max(holdfast_watch_last_tick_timestamp_seconds)"},
        unit="s",
        width=4,
        limits=thresholds((STALE_SECONDS, RED)),
    )
    reads = lines(
        "Can the watcher read the counters?",
        "Failed reads of the services' counters, by service and reason.",
        {
            "all": count("holdfast_watch_scrape_failures_total"),
            "{{service}} {{reason}}": count(
                "holdfast_watch_service_failures_total", by="service, reason"
            ),
        },
        unit="short",
        width=7,
        style="bars",
    )
    leader = stat(
        "Which watcher leads?",
        "1 where a watcher leads, 0 where it stands by for the leader (PostgreSQL alone).",
        {"{{instance}}": "max by (instance) (holdfast_watcher_leader)"},
        unit="none",
        width=3,
        mappings=[value_map({"0": ("stands by", GREY), "1": ("leads", GREEN)})],
    )
    services = stat(
        "Which services are read?",
        "Whether the counters of a service are read and believed. Alert HoldfastServiceUnread: not"
        " for a minute.",
        {"{{service}}": or_none("min by (service) (holdfast_watch_service_up)")},
        unit="none",
        width=4,
        mappings=[value_map({"0": ("not read", RED), "1": ("read", GREEN)})],
    )
    alerts = lines(
        "Which alerts arrived?",
        "Alerts received from Alertmanager, by action asked for and decision taken.",
        {"{{action}} {{decision}}": count("holdfast_alerts_received_total", by="action, decision")},
        unit="short",
        width=6,
        style="bars",
    )
    return [
        leading(awake, "HoldfastWatcherStale"),
        leading(reads, "HoldfastServiceUnread"),
        services,
        alerts,
        leader,
    ]


def _problems() -> list[Panel]:
    problem = or_none("max by (model, problem) (holdfast_watch_problem)")
    wrong = lines(
        "What is wrong, and with which model?",
        "1 while a model has the problem. Alerts HoldfastModelBroken, HoldfastWatchImpaired,"
        " HoldfastWatcherBlind, HoldfastCountersStill: for a minute.",
        {"{{model}} {{problem}}": problem},
        unit="none",
        width=8,
    )
    unknown = stat(
        "Which figures are not known?",
        "A figure that an alert needs: while it is not known, that alert cannot fire. Alert"
        " HoldfastFigureUnknown: for an hour, where it would be needed.",
        {"{{model}} {{figure}}": or_none("max by (model, figure) (holdfast_figure_unknown)")},
        unit="none",
        width=8,
        mappings=[value_map({"0": ("known", GREEN), "1": ("NOT KNOWN", GREY)})],
    )
    return [
        leading(
            wrong,
            "HoldfastModelBroken",
            "HoldfastWatchImpaired",
            "HoldfastWatcherBlind",
            "HoldfastCountersStill",
        ),
        leading(unknown, "HoldfastFigureUnknown"),
        lines(
            "How often did something break?",
            "Problems that began, by model and name.",
            {"{{model}} {{problem}}": count("holdfast_watch_problems_total", by="model, problem")},
            unit="short",
            width=8,
            style="bars",
        ),
    ]


def _standing_still() -> list[Panel]:
    moved = latest("holdfast_lifecycle_moved_timestamp_seconds")
    stalled = stat(
        "Does a job stand still?",
        "Whether the running job of a model moves. Alert HoldfastJobStalled: not for a minute.",
        {"{{model}}": or_none(latest("holdfast_lifecycle_stalled"))},
        unit="none",
        width=6,
        mappings=[value_map({"0": ("moves, or none runs", GREEN), "1": ("STALLED", RED)})],
    )
    return [
        leading(stalled, "HoldfastJobStalled"),
        lines(
            "When did the running job last move?",
            "Seconds since the job of a model gave a sign of life; 0 where none runs.",
            {"{{model}}": or_none(f"time() - {moved}")},
            unit="s",
            width=9,
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
