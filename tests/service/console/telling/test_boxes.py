"""What a version was judged against is said, and is no claim about its training."""

import pytest

from models.versions.judging import ThreatModel
from service.console.telling.boxes import tell_judged


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (None, "not judged"),
        (ThreatModel(eps=0.15), "judged against 0.15."),
        (ThreatModel(norm="l2", eps=1.0), "L2 length 1, which says nothing of changes of each"),
    ],
)
def test_what_it_was_judged_against_is_not_told_as_what_it_was_trained_against(
    threat: ThreatModel | None, words: str
) -> None:
    assert words in tell_judged(threat)
    assert "trained" not in tell_judged(threat)
