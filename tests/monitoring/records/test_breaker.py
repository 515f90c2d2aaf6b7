import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from monitoring.records.breaker import TURN_SECONDS, Gate
from monitoring.records.database import StoreError
from tests.waiting import wait_until


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What hangs until it is set."""
    made = threading.Event()
    yield made
    made.set()


def fail() -> None:
    raise StoreError("disk full")


def seconds(gate: Gate, work: object = lambda: None, times: int = 1) -> float:
    """How long so many refusals take."""
    began = time.monotonic()
    for _ in range(times):
        with pytest.raises(StoreError):
            gate.call(work)  # type: ignore[arg-type]
    return time.monotonic() - began


def test_a_call_gives_what_the_work_returns_or_raises() -> None:
    gate = Gate(2, 1.0)
    assert gate.call(lambda: 7) == 7
    with pytest.raises(KeyError):
        gate.call(lambda: {}["a"])
    assert gate.call(lambda: 8) == 8  # the caller's mistake is no failure of the store


def test_a_store_that_hangs_is_waited_for_once_then_refused_at_once(
    stuck: threading.Event,
) -> None:
    gate, before = Gate(2, 0.2, pause_seconds=0.05), threading.active_count()
    assert seconds(gate, stuck.wait) >= 0.2
    time.sleep(0.1)
    # While one call hangs, nobody tries another, and no thread is added: no refusal is waited for.
    assert seconds(gate, times=300) < 300 * 0.2 / 2
    assert threading.active_count() <= before + 2
    stuck.set()

    def call() -> int:
        with suppress(StoreError):
            return gate.call(lambda: 7)
        return 0

    assert wait_until(call, what="it is back when the call that hung has ended") == 7


def test_after_a_failure_one_call_in_a_while_tries_and_the_first_that_works_opens_the_gate() -> (
    None
):
    gate, tried, refused = Gate(2, 120.0, pause_seconds=0.1), [], 0

    def count() -> None:
        tried.append(time.monotonic())
        fail()

    while len(tried) < 5:
        with pytest.raises(StoreError, match="disk full"):
            gate.call(count)
        refused += 1
        time.sleep(0.001)
    assert min(np.diff(tried)) >= 0.0999
    assert refused > len(tried)
    time.sleep(0.12)
    assert [gate.call(lambda: 7) for _ in range(5)] == [7] * 5


def test_no_more_calls_than_allowed_run_at_once_and_others_wait_their_turn(
    stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, running, most = Gate(2, 120.0), [], []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()

    threads = [threading.Thread(target=gate.call, args=(work,)) for _ in range(12)]
    with monkeypatch.context() as patch:
        patch.setattr("monitoring.records.breaker.TURN_SECONDS", 120.0)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(most) == 12
    assert max(most) <= 2
    inside = threading.Semaphore(0)

    def hold() -> None:
        inside.release()
        stuck.wait()

    holders = [threading.Thread(target=gate.call, args=(hold,)) for _ in range(2)]
    for thread in holders:
        thread.start()
    assert all(inside.acquire(timeout=120) for _ in holders)
    assert seconds(gate) >= TURN_SECONDS
    stuck.set()
    for thread in holders:
        thread.join()


def test_those_who_wait_their_turn_are_told_as_soon_as_the_store_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitoring.records.breaker.TURN_SECONDS", 120.0)
    gate, begun = Gate(1, 120.0, pause_seconds=120.0), threading.Event()

    def fail_slowly() -> None:
        begun.set()
        time.sleep(0.1)
        fail()

    first = threading.Thread(target=seconds, args=(gate, fail_slowly))
    first.start()
    assert begun.wait(120)
    with pytest.raises(StoreError, match="disk full"):
        gate.call(lambda: None)
    first.join()
