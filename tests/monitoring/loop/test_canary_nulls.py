"""How often a canary is aborted that answers as well as the champion, and one that does not."""

import time
from pathlib import Path

import numpy as np
import pytest

from models.statistics.shadow import Agreement, ShadowComparison, Shadowed
from models.versions.registry import Registry
from models.versions.registry_state import Canary
from monitoring.loop.jobs import Job
from monitoring.loop.promotion import judge_canary, watch_canary
from tests.models.versions.test_registry import WHY, publish

STREAMS, LABELS, LOOK = 250, 2000, 50  # streams, labels of each, and labels between two looks
JOB = Job("job", "retrain", "digits", 1, "person", "", 0.0, 0.0, challenger=2)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Version 2 is a canary of the job."""
    made = Registry(tmp_path)
    for _ in range(2):
        publish(made, model="digits")
    made.promote("digits", 1, expected=None, **WHY)
    canary = Canary(2, 0.1, time.time() + 3600, "job")
    made.begin_canary("digits", canary, expected=1, **WHY)
    return made


def aborted(registry: Registry, seed: int, lost: float, won: float) -> float:
    """Share of the streams whose canary is refused, where it is looked at as labels come."""
    rng, refused = np.random.default_rng(seed), 0
    for _ in range(STREAMS):
        u = rng.random(LABELS)
        champion, challenger = u >= won, (u < won) | (u >= won + lost)
        seen = Shadowed(ShadowComparison(), Agreement(), None, None)
        verdict = None
        look = watch_canary(registry, JOB, lambda: seen)  # noqa: B023 - called in this round only
        for start in range(0, LABELS, LOOK):
            part = slice(start, start + LOOK)
            pairs = seen.comparison.update(champion[part], challenger[part])
            agreement = seen.agreement.update(champion[part] != challenger[part])
            seen = Shadowed(pairs, agreement, None, None)
            if (verdict := look()) is not None:
                break
        ended = judge_canary(JOB, 2, verdict, seen.words())
        refused += ended is not None and ended[0] == "refused"
    return refused / STREAMS


@pytest.mark.parametrize("discordant", [0.01, 0.03, 0.1, 0.3])
def test_a_canary_as_good_as_the_champion_is_aborted_in_at_most_one_of_twenty(
    registry: Registry, discordant: float
) -> None:
    assert aborted(registry, 17, discordant / 2, discordant / 2) <= 0.05


def test_a_canary_five_points_worse_is_aborted_nearly_always(registry: Registry) -> None:
    assert aborted(registry, 18, 0.06, 0.01) >= 0.95
