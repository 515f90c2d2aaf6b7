"""What the loop makes of a look at the champion: passed, failed, or not decided; and why.

Drift that does no harm is called so, and evidence of harm stands unless the labelled rows since it
began lie above the floor.
"""

import math

from models.statistics.betting import log_above
from models.statistics.shares import Proportion
from models.versions.figures import Evaluation
from monitoring.evidence.performance import (
    MIN_ROWS,
    accuracy_floor,
    expected_accuracy,
    has_fallen,
    judge,
    promised_accuracy,
)
from monitoring.loop.jobs import Job
from monitoring.loop.results import Verdict

HARMLESS_MARGIN = 0.03  # of accuracy below the floor
SURE = 20.0  # to one, before labels are believed while they still come


def judge_look(
    job: Job, live: Proportion, clean: Proportion, card: Evaluation
) -> tuple[Verdict, str]:
    """Whether the champion still is what was promised, and why.

    Args:
        job: why the loop looks.
        live: accuracy on the labelled rows since the cause began.
        clean: accuracy on the held-out rows, measured anew.
        card: the version's own evaluation.
    """
    if has_fallen(clean, card.clean):
        claim = card.clean.value
        return "failed", f"held-out accuracy {clean.value:.1%}, the card says {claim:.1%}"
    held = f"held-out accuracy {clean.value:.1%} as expected"
    if job.kind == "evaluate_robustness":
        return "passed", held
    promised = promised_accuracy(card)
    verdict = judge(live, promised)
    if live.n < MIN_ROWS:
        words = f"{held}; only {live.n} labelled live rows ({MIN_ROWS} needed)"
    else:
        words = _describe_live(live, promised)
    if verdict == "undecided" and job.source == "accuracy":
        return "failed", f"{job.reason}; {words}"
    if job.source == "drift" and verdict != "failed":
        if live.n >= MIN_ROWS and live.value >= accuracy_floor(promised):
            return "passed", f"moved, not harmed: {words}"
        return "inconclusive", f"moved; whether it harms is not known yet: {words}"
    return "inconclusive" if verdict == "undecided" else verdict, words


def find_harmless(live: Proportion, card: Evaluation | None) -> str:
    """Why a change of the inputs does no harm, in words; empty where labels do not say so.

    May be asked at every look: where accuracy lies 3 points below the floor or more, the chance
    that it ever says so is at most 1 in 20. Evidence of harm goes on: what is small shows later.

    Args:
        live: accuracy on *all* labelled rows since the change.
        card: the version's own evaluation.
    """
    promised = promised_accuracy(card)
    least = accuracy_floor(promised) - HARMLESS_MARGIN
    if live.n < MIN_ROWS or not 0 < least < 1:
        return ""
    right = round(live.value * live.n)
    if log_above(right, live.n, least) < math.log(SURE):
        return ""
    sure = f"above {least:.1%} by evidence of {SURE:.0f} to 1"
    return f"moved, not harmed: {_describe_live(live, promised)}; {sure}"


def _describe_live(live: Proportion, promised: Proportion | None) -> str:
    return (
        f"live accuracy {live.value:.1%} ({live.low:.1%} to {live.high:.1%}, n = {live.n}), "
        f"expected {expected_accuracy(promised):.1%}, "
        f"floor {accuracy_floor(promised):.1%}"
    )
