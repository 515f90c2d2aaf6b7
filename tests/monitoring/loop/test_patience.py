"""Laws of patience: bounded, told, growing, and over at once when the process stops."""

import errno
import threading
import time

import pytest

from monitoring.loop.durable import patience
from monitoring.loop.durable.patience import Interrupted, rest, try_patiently


def full() -> OSError:
    """What passes."""
    return OSError(errno.ENOSPC, "No space left on device")


class Acts:
    """Fails so often by what passes, then gives how often it was called."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise full()
        return self.calls


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)


def test_what_passes_is_tried_again_and_each_try_is_told() -> None:
    told: list[tuple[str, int]] = []
    act = Acts(3)
    assert try_patiently(act, lambda words, k: told.append((words, k)), threading.Event()) == 4
    assert told == [("the disk is full", k) for k in (1, 2, 3)]


def test_what_does_not_pass_is_raised_at_once() -> None:
    calls = []

    def act() -> None:
        calls.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        try_patiently(act, lambda words, k: None, threading.Event())
    assert len(calls) == 1


def test_what_does_not_pass_in_time_is_raised() -> None:
    act = Acts(10**9)
    with pytest.raises(OSError, match="No space"):
        try_patiently(act, lambda words, k: None, threading.Event())
    assert act.calls > patience.LEAST_TRIES


def test_what_takes_long_itself_is_tried_some_times_all_the_same() -> None:
    act = Acts(patience.LEAST_TRIES)
    assert try_patiently(act, lambda words, k: None, threading.Event(), 0.0) == act.calls


def test_the_pauses_grow_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(patience, "rest", lambda seconds, stop: pauses.append(seconds))
    try_patiently(Acts(6), lambda words, k: None, threading.Event(), 1e9)
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.01, 0.01]


def test_the_stop_ends_a_pause_and_no_handler_of_exceptions_takes_it_for_a_failure() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        rest(60, stop)
    assert time.monotonic() - began < 30
    assert not issubclass(Interrupted, Exception)
