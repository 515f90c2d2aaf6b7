"""The shadow as a gate: its three verdicts, and nothing shown is never a pass."""

import pytest

from models.evaluation.gates.catalogue import GATES, plan, undecided
from models.evaluation.gates.checks import Check
from models.evaluation.gates.live import SHADOW, judge_shadow, with_shadow
from models.statistics.shadow import Agreement, ShadowComparison, Shadowed


def seen(requests: int, *, labels: int = 0, verdict: str = "not known") -> Shadowed:
    pairs = ShadowComparison(0, 0, labels, verdict=verdict)  # type: ignore[arg-type]
    return Shadowed(pairs, Agreement(requests, 3), 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("shown", "verdict", "n", "words"),
    [
        (None, "unknown", 0, "no live request came"),
        (seen(0), "unknown", 0, "no live request came"),
        (seen(30), "unknown", 30, "whether the challenger is worse is not known yet"),
        (seen(30, labels=20), "unknown", 20, "of 30 live requests 3 answered differently"),
        (seen(400, labels=250, verdict="worse"), "fail", 250, "is worse than the champion"),
        (seen(400, labels=250, verdict="no worse"), "pass", 250, "less than 3% worse"),
    ],
)
def test_verdict_of_the_shadow_is_unknown_unless_traffic_has_shown_one(
    shown: Shadowed | None, verdict: str, n: int, words: str
) -> None:
    check = judge_shadow(shown)
    assert (check.name, check.verdict, check.n) == (SHADOW, verdict, n)
    assert words in check.detail


def test_it_is_in_the_list_from_the_beginning_and_its_unknown_waits_for_nobody() -> None:
    assert GATES[-1].name == SHADOW
    planned = plan()
    after = with_shadow(planned, None)
    assert [check.name for check in after] == [check.name for check in planned]
    assert after[-1].detail != planned[-1].detail
    assert SHADOW not in [check.name for check in undecided(after)]


def test_a_job_that_was_begun_without_it_gets_it() -> None:
    old = (Check("parity", "pass", 0.0, 1.0, "fine"),)
    assert [check.name for check in with_shadow(old, seen(5))] == ["parity", SHADOW]
