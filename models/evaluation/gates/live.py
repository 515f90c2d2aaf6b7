"""The gate that live traffic judges: what the shadow showed of a challenger that passed the rest.

Without traffic, or with too few labels, it shows nothing and is `unknown` by name. That is told and
counted and waits for nobody: the gates before it have decided.
"""

from collections.abc import Sequence

from models.evaluation.gates.checks import Check, Verdict
from models.statistics.shadow import THRESHOLD, Shadowed

SHADOW = "shadow"
_VERDICTS: dict[str, Verdict] = {"worse": "fail", "no worse": "pass"}


def judge_shadow(seen: Shadowed | None) -> Check:
    """The check `shadow`, of what the shadow had seen when its time was over; None: nothing.

    Its value is the share of the requests that both versions answered differently.
    """
    requests = 0 if seen is None else seen.agreement.requests
    if seen is None or not requests:
        detail = "no live request came with its input while the challenger was in the shadow"
        return Check(SHADOW, "unknown", None, None, detail, 0)
    labels = seen.comparison.labels
    verdict = _VERDICTS.get(seen.verdict, "unknown")
    share = seen.agreement.disagreed / requests
    return Check(SHADOW, verdict, share, None, seen.words(), labels or requests, 1 / THRESHOLD)


def with_shadow(checks: Sequence[Check], seen: Shadowed | None) -> tuple[Check, ...]:
    """The checks of a job with that of the shadow, also where the job was begun without it."""
    check = judge_shadow(seen)
    if any(each.name == SHADOW for each in checks):
        return tuple(check if each.name == SHADOW else each for each in checks)
    return (*checks, check)
