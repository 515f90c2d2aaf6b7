"""The window of labelled rows begins where what moved, or got worse, had surely begun."""

from pathlib import Path

import msgspec
import pytest

from models.versions.registry import Registry
from monitoring.evidence.explanation import Explanation
from monitoring.evidence.labels.harm import HarmAlarm
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.onset import Onset
from monitoring.evidence.stream import Stream
from monitoring.watching.harm import drift_began, harm_event, window_since
from tests import bundles

QUIET = Harm(50, 1.0, 6.0, 0.95, None, "", "no harm", "")
EXPLAINED = Explanation(
    1, 100.0, "energy", "higher", "energy higher", 300, Onset(200, 240, 210), 80.0, 90.0, 0.98,
    (), (), "",
)  # fmt: skip


def harmed(since: float) -> Harm:
    return msgspec.structs.replace(QUIET, alarm=HarmAlarm(50, 6.5, since, 20, 40))


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    bundles.publish(tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    (model,) = registry.models()
    return Stream.open(registry.open(model, "1"), tmp_path, c=1e6)


def test_without_an_alarm_there_is_no_window(stream: Stream) -> None:
    stream.explained = EXPLAINED  # of an alarm that is over
    assert drift_began(stream) is None
    assert window_since(stream, QUIET) is window_since(stream, None) is None


def test_a_window_of_drift_begins_at_the_late_end_of_the_onset(stream: Stream) -> None:
    stream.alarm_since, stream.explained = 100.0, EXPLAINED
    assert window_since(stream, QUIET) == 90.0


@pytest.mark.parametrize(
    "known",
    [
        None,
        msgspec.structs.replace(EXPLAINED, last_at=None),
        msgspec.structs.replace(EXPLAINED, version=7),
        msgspec.structs.replace(EXPLAINED, raised_at=50.0),
    ],
)
def test_where_the_onset_is_not_known_it_begins_at_the_alarm(
    stream: Stream, known: Explanation | None
) -> None:
    stream.alarm_since, stream.explained = 100.0, known
    assert drift_began(stream) == 100.0


def test_of_two_causes_the_later_one_counts(stream: Stream) -> None:
    stream.alarm_since, stream.explained = 100.0, EXPLAINED
    assert window_since(stream, harmed(since=120.0)) == 120.0
    assert window_since(stream, harmed(since=60.0)) == 90.0
    event = harm_event(stream, harmed(since=60.0))
    assert event is not None
    assert event.since == 90.0
    stream.alarm_since = None
    assert window_since(stream, harmed(since=60.0)) == 60.0
    assert harm_event(stream, QUIET) is None
