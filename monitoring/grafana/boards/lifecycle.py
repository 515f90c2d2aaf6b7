"""Lifecycle: approve, wait, or repair?"""

from monitoring.grafana.boards.watch import watch_panels
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
    timeline,
)
from monitoring.grafana.panels import with_links as leading
from monitoring.grafana.queries import MODEL, count, latest, or_none

FEW_RUNS = 4


def panels() -> list[Panel]:
    """What the loop does and did, what stopped it, and how the watcher is."""
    return [*_now(), *_jobs(), *_compared(), *watch_panels()]


def _now() -> list[Panel]:
    stages = latest("holdfast_job_stage_since_timestamp_seconds", by="model, stage")
    champion = timeline(
        "Which version is champion?",
        "The champion's number over time.",
        {"{{model}}": latest("holdfast_champion_version")},
        width=8,
    )
    stage = timeline(
        "What does the loop do now?",
        "1 while a job is in the stage. Alerts HoldfastApprovalWaiting and HoldfastJobStuck: for"
        " too long.",
        {"{{model}} {{stage}}": f"{stages} > bool 0"},
        width=8,
    )
    deadline = latest("holdfast_job_deadline_timestamp_seconds")
    expires = stat(
        "When does a waiting challenger expire?",
        "Time that is left to answer; 0: none waits. Alert HoldfastApprovalExpiring: two hours.",
        {"{{model}}": f"(({deadline} > 0) - time()) or {deadline} * 0"},
        unit="s",
        width=4,
    )
    held = latest("holdfast_lifecycle_held_since_timestamp_seconds", by="model, ends")
    hold = stat(
        "Who holds it?",
        "How long a person has held the loop, and whether that ends by itself; 0: nobody does."
        " Alert HoldfastLoopHeld: a day without an end.",
        {"{{model}}, ends {{ends}}": f"(time() - ({held} > 0)) or {held} * 0"},
        unit="s",
        width=4,
    )
    return [
        leading(champion, "#versions"),
        leading(stage, "HoldfastApprovalWaiting", "HoldfastJobStuck", "#loop"),
        leading(expires, "HoldfastApprovalExpiring", "#loop"),
        leading(hold, "HoldfastLoopHeld", "#loop"),
    ]


def _jobs() -> list[Panel]:
    said = f"holdfast_gate_verdict{{{MODEL}, verdict!='pass'}} == 1"
    seconds = "holdfast_job_stage_duration_seconds_bucket"
    slow = f"histogram_quantile(0.9, sum by (stage, le) (rate({seconds}{{{MODEL}}}[1d])) > 0)"
    evaluated = latest("holdfast_evaluation_last_success_timestamp_seconds")
    due = latest("holdfast_evaluation_due_timestamp_seconds")
    ran = lines(
        "What ran, and how did it end?",
        "Runs of the loop that ended, by kind and outcome. Alert HoldfastLoopGivesUp: three that"
        " led nowhere in six hours, and none promoted.",
        {
            "{{model}} {{kind}} {{outcome}}": count(
                "holdfast_lifecycle_runs_total", MODEL, by="model, kind, outcome"
            )
        },
        unit="short",
        width=8,
        style="bars",
    )
    refused = lines(
        "What was refused, and why?",
        "Triggers that started nothing, by the name of the refusal.",
        {
            "{{model}} {{reason}}": count(
                "holdfast_lifecycle_refusals_total", MODEL, by="model, reason"
            )
        },
        unit="short",
        width=8,
        style="bars",
    )
    gates = table(
        "Which gates did the last challenger not pass?",
        "Each gate that says fail, or unknown, of the last challenger; a row of 0 without a name:"
        " none.",
        or_none(f"sum by (model, check, verdict) ({said})"),
        unit="none",
        width=8,
        limits=thresholds((1, RED)),
    )
    left = stat(
        "How many runs are left today?",
        "Runs that the loop may still begin by itself in 24 hours. Alert HoldfastBudgetSpent: 0.",
        {"{{model}}": latest("holdfast_lifecycle_budget_left_runs")},
        unit="short",
        width=5,
        limits=thresholds((1, AMBER), (FEW_RUNS, GREEN), base=RED),
    )
    stages = bars(
        "How long does each stage take?",
        "The 90% quantile of a day's jobs; 0 without any.",
        {"{{stage}}": or_none(slow)},
        unit="s",
        width=9,
    )
    last = stat(
        "When was it evaluated last?",
        "Age of the last evaluation that ran to its end.",
        {"{{model}}": or_none(f"{evaluated} * 1000")},
        unit="dateTimeFromNow",
        width=5,
    )
    overdue = stat(
        "Is an evaluation overdue?",
        "Time since the schedule was due; below 0: it is still to come; 0: there is no schedule."
        " Alert HoldfastEvaluationOverdue: two hours.",
        {"{{model}}": f"(time() - ({due} > 0)) or {due} * 0"},
        unit="s",
        width=5,
        limits=thresholds((7200, AMBER)),
    )
    return [
        leading(ran, "HoldfastLoopGivesUp", "#loop"),
        leading(refused, "#loop"),
        leading(gates, "#loop"),
        leading(left, "HoldfastBudgetSpent"),
        stages,
        last,
        leading(overdue, "HoldfastEvaluationOverdue"),
    ]


def _compared() -> list[Panel]:
    labels = latest("holdfast_shadow_labels", by="model, right")
    requests = latest("holdfast_shadow_requests", by="model, answers")
    seconds = latest("holdfast_shadow_run_seconds", by="model, role")
    return [
        lines(
            "How did champion and challenger do on the same requests?",
            "Requests that both answered in the last comparison (shadow, canary or probation), and"
            " of the labelled ones, who alone was right.",
            {
                "{{model}} {{answers}}": or_none(requests),
                "{{model}} {{right}} right": or_none(labels),
            },
            unit="short",
            width=10,
        ),
        lines(
            "What does a run of each cost?",
            "Median processor time of a run of one row in that comparison.",
            {"{{model}} {{role}}": or_none(seconds)},
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
