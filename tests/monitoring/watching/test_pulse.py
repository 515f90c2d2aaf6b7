"""Laws of readiness: a look that was completed not long ago, whatever became of later ones."""

import pytest

from monitoring.watching.pulse import INTERVALS, LEAST_SECONDS, Pulse


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(2.0, clock=clock, now=lambda: 1_000_000.0 + clock.seconds)


def test_before_the_first_look_is_complete_it_is_not_ready(pulse: Pulse, clock: Clock) -> None:
    assert not pulse.report().is_ready
    pulse.begin()
    clock.seconds += 5
    report = pulse.report()
    assert not report.is_ready
    assert report.status == "the watcher has not completed a look yet"
    assert report.reason == "a look has been under way for 5 s"
    assert report.since == "1970-01-12T13:48:20Z"
    assert report.last_look is None
    pulse.end()
    assert pulse.report().is_ready


def test_it_is_ready_for_as_long_as_the_last_look_is_fresh(pulse: Pulse, clock: Clock) -> None:
    pulse.begin()
    pulse.end()
    clock.seconds += LEAST_SECONDS
    assert pulse.report().is_ready
    clock.seconds += 1
    report = pulse.report()
    assert report.status == "the watcher completed its last look 61 s ago"
    assert report.since == report.last_look == "1970-01-12T13:48:20Z"
    assert report.reason == "no look is under way"


def test_a_look_that_hangs_and_one_that_fails_are_told_apart(pulse: Pulse, clock: Clock) -> None:
    pulse.begin()
    pulse.end()
    pulse.begin()
    clock.seconds += 200
    assert pulse.report().reason == "a look has been under way for 200 s"
    pulse.fail(RuntimeError("postgresql://me:secret@db"))
    report = pulse.report()
    assert report.reason == "the last look failed (RuntimeError); the watcher's log says more"
    assert "secret" not in str(report)
    pulse.begin()
    pulse.end()
    assert pulse.report().is_ready


def test_a_watcher_that_looks_rarely_is_given_more_time(clock: Clock) -> None:
    pulse = Pulse(600.0, clock=clock)
    pulse.begin()
    pulse.end()
    clock.seconds += INTERVALS * 600.0
    assert pulse.report().is_ready
    clock.seconds += 1
    assert not pulse.report().is_ready


def test_a_change_of_the_time_of_day_changes_nothing(clock: Clock) -> None:
    times = iter([5.0, 10**9, 0.0])
    pulse = Pulse(2.0, clock=clock, now=lambda: next(times))
    pulse.begin()
    pulse.end()
    for _ in range(3):
        assert pulse.report().is_ready
