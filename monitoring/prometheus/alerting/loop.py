"""Alerts on the loop: what waits for a person, what gives up, and what is overdue.

None of them carries an action: they are for people.
"""

from monitoring.prometheus.alerting.alert import Alert, bridge

WAITED_SECONDS = 900
EXPIRES_SECONDS = 7200
STUCK_SECONDS = 4500  # a child of the loop is ended after 3600 by default
OVERDUE_SECONDS = 7200
STALE_DAYS = 90
HELD_SECONDS = 86_400
LED_NOWHERE = "refused|failed|inconclusive|rolled_back"
# Stages that wait for people, labels, requests or a turn, each with a limit of its own.
WAITING = "approval.*|approved|rejected|queued.*|awaiting labels|shadowing|canary|probation|done"
UNDER_WAY = f'!~"{WAITING}"'
APPROVAL = '=~"approval.*"'
HELD = 'holdfast_lifecycle_held_since_timestamp_seconds{ends="never"}'
DEADLINE = "holdfast_job_deadline_timestamp_seconds"


def _in_stage(selector: str) -> str:
    """Since when a job is in such a stage; nothing where none is."""
    stages = f"holdfast_job_stage_since_timestamp_seconds{{stage{selector}}}"
    return f"({bridge(stages, by='model, stage')} > 0)"


def _ended(outcomes: str) -> str:
    """Runs of six hours that ended so."""
    return f'sum by (model) (increase(holdfast_lifecycle_runs_total{{outcome=~"{outcomes}"}}[6h]))'


ALERTS = (
    Alert(
        name="HoldfastJobStalled",
        # After a restart a job has some minutes to move before it counts as stalled again.
        expr="max by (model) (holdfast_lifecycle_stalled) == 1",
        after="1m",
        keep="10m",
        severity="warning",
        summary="A job of the loop does not move.",
        description=(
            "Model {{ $labels.model }}: its running job has shown no sign of life for minutes;"
            " until it ends, the loop starts nothing else for the model."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastJobStuck",
        expr=f"time() - {_in_stage(UNDER_WAY)} > {STUCK_SECONDS}",
        severity="warning",
        summary="A job of the loop has been in one stage for longer than a step may take.",
        description=(
            "Model {{ $labels.model }}: in stage {{ $labels.stage }} for"
            " {{ $value | humanizeDuration }}."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastApprovalWaiting",
        expr=f"time() - {_in_stage(APPROVAL)} > {WAITED_SECONDS}",
        severity="warning",
        summary="A job of the loop waits for a person.",
        description=(
            "Model {{ $labels.model }}: a job in stage {{ $labels.stage }} has waited"
            " {{ $value | humanizeDuration }} for an answer: holdfast jobs list, then approve or"
            " reject it."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastApprovalExpiring",
        expr=f"({bridge(DEADLINE)} > 0) - time() < {EXPIRES_SECONDS}",
        severity="warning",
        summary="A job that waits for a person is about to expire.",
        description=(
            "Model {{ $labels.model }}: without an answer its job expires in"
            " {{ $value | humanizeDuration }}, and what it was begun for goes on."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastLoopGivesUp",
        # 2.5, as an increase over a window is no whole number.
        expr=(f"{_ended(LED_NOWHERE)} > 2.5\nunless {_ended('promoted')} > 0.5"),
        keep="15m",
        severity="warning",
        summary="The loop tries again and again, and nothing comes of it.",
        description=(
            'Model {{ $labels.model }}: about {{ $value | printf "%.0f" }} runs of the last 6 hours'
            " led nowhere, and none promoted a version. It rests longer after each of them."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastBudgetSpent",
        expr=f"{bridge('holdfast_lifecycle_budget_left_runs', least=True)} == 0",
        after="1m",
        severity="warning",
        summary="The loop has used up its runs of the day.",
        description=(
            "Model {{ $labels.model }}: HOLDFAST_DAILY_BUDGET runs were begun in 24 hours. Until"
            " the oldest is a day old only a person starts one."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastEvaluationOverdue",
        expr=(
            f"time() - ({bridge('holdfast_evaluation_due_timestamp_seconds')} > 0)"
            f" > {OVERDUE_SECONDS}"
        ),
        severity="info",
        summary="A scheduled evaluation has not taken place.",
        description=("Model {{ $labels.model }}: it was due {{ $value | humanizeDuration }} ago."),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
    Alert(
        name="HoldfastModelStale",
        expr=(
            f"time() - ({bridge('holdfast_version_made_timestamp_seconds')} != 0)"
            f" > {STALE_DAYS} * 86400"
        ),
        after="1h",
        severity="info",
        summary="The champion is old.",
        description=(
            "Model {{ $labels.model }}: its champion was made {{ $value | humanizeDuration }} ago"
            f" (bound: {STALE_DAYS} days). Evaluate it in full."
        ),
        dashboard="holdfast-quality",
        view="versions",
    ),
    Alert(
        name="HoldfastLoopHeld",
        expr=f"time() - ({bridge(HELD)} != 0) > {HELD_SECONDS}",
        severity="info",
        summary="A person holds the loop, without an end.",
        description=(
            "Model {{ $labels.model }}: held for {{ $value | humanizeDuration }}. Until it is"
            " released (holdfast models release) the loop mends nothing."
        ),
        dashboard="holdfast-lifecycle",
        view="loop",
    ),
)
