"""Laws of a look's verdict: moved is not harmed, and harm stands until labels speak against it."""

import msgspec
import numpy as np
import pytest

from models.statistics.intervals import proportion
from monitoring.loop.jobs import Job
from monitoring.loop.looks import find_harmless, judge_look
from tests.models.report_example import read, share

CARD = read({"clean": share(0.97, 5000)})  # floor 96 %
CLEAN = proportion(np.arange(5000) < 4850)


def look(source: str, right: int, n: int, kind: str = "evaluate") -> tuple[str, str]:
    job = Job("job-1", kind, "digits", 1, source, "harm: 20 of 40", since=0.0, created_at=0.0)
    return judge_look(job, proportion(np.arange(n) < right), CLEAN, CARD)


@pytest.mark.parametrize(
    ("source", "right", "n", "verdict", "words"),
    [
        ("drift", 97, 100, "passed", "moved, not harmed: live accuracy 97.0%"),
        ("drift", 95, 100, "inconclusive", "moved; whether it harms is not known yet"),
        ("drift", 40, 40, "inconclusive", "only 40 labelled live rows (100 needed)"),
        ("drift", 0, 0, "inconclusive", "moved; whether it harms is not known yet"),
        ("drift", 80, 100, "failed", "live accuracy 80.0%"),
        ("accuracy", 80, 100, "failed", "live accuracy 80.0%"),
        ("accuracy", 20, 40, "failed", "harm: 20 of 40"),
        ("accuracy", 95, 100, "failed", "harm: 20 of 40"),
        ("accuracy", 995, 1000, "passed", "live accuracy 99.5%"),
        ("schedule", 95, 100, "inconclusive", "live accuracy 95.0%"),
        ("schedule", 40, 40, "inconclusive", "only 40 labelled live rows"),
        ("schedule", 2930, 3000, "passed", "expected 97.0%, floor 96.0%"),
    ],
)
def test_a_look_says_whether_what_moved_does_harm(
    source: str, right: int, n: int, verdict: str, words: str
) -> None:
    told, sentence = look(source, right, n)
    assert told == verdict
    assert words in sentence


def test_a_look_at_robustness_asks_no_labels() -> None:
    told, sentence = look("alert", 0, 500, kind="evaluate_robustness")
    assert (told, sentence) == ("passed", "held-out accuracy 97.0% as expected")


def test_a_champion_that_no_longer_is_what_its_card_says_fails_whatever_the_labels() -> None:
    job = Job("job-1", "evaluate", "digits", 1, "drift", "moved", since=0.0, created_at=0.0)
    worse = proportion(np.arange(5000) < 4000)
    assert judge_look(job, proportion(np.ones(500, bool)), worse, CARD)[0] == "failed"
    never = msgspec.structs.replace(CARD, window=proportion(np.zeros(0, bool)))
    assert judge_look(job, proportion(np.ones(500, bool)), CLEAN, never)[0] == "inconclusive"


def test_labels_that_still_come_call_drift_harmless_only_by_evidence() -> None:
    assert find_harmless(proportion(np.arange(100) < 97), CARD) == ""  # above the floor by chance?
    words = find_harmless(proportion(np.arange(400) < 388), CARD)
    assert words.startswith("moved, not harmed: live accuracy 97.0%")
    assert words.endswith("above 93.0% by evidence of 20 to 1")
    assert find_harmless(proportion(np.ones(99, bool)), CARD) == ""
    assert find_harmless(proportion(np.ones(3000, bool)), None) == ""
