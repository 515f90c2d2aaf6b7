"""What the loop makes of a look at the champion: passed, failed, or not decided; and why.

Drift that does no harm is called so, and evidence of harm stands unless the labelled rows since it
began lie above the floor.
"""

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
        words = (
            f"live accuracy {live.value:.1%} ({live.low:.1%} to {live.high:.1%}, n = {live.n}), "
            f"expected {expected_accuracy(promised):.1%}, "
            f"floor {accuracy_floor(promised):.1%}"
        )
    if verdict == "undecided" and job.source == "accuracy":
        return "failed", f"{job.reason}; {words}"
    if job.source == "drift" and verdict != "failed":
        return _tell_drift(live, accuracy_floor(promised), words)
    return "inconclusive" if verdict == "undecided" else verdict, words


def _tell_drift(live: Proportion, floor: float, words: str) -> tuple[Verdict, str]:
    """The verdict of a look at drift that has found no failure: did it harm, as far as is known?

    Evidence of harm goes on after the look: what is small shows later.
    """
    if live.n >= MIN_ROWS and live.value >= floor:
        return "passed", f"moved, not harmed: {words}"
    return "inconclusive", f"moved; whether it harms is not known yet: {words}"
