import threading
import time
from collections.abc import Iterator

import pytest

from monitoring.database import StoreError
from monitoring.gate import TURN_SECONDS, Gate


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What hangs until it is set."""
    made = threading.Event()
    yield made
    made.set()


def fail() -> None:
    raise StoreError("disk full")


def seconds(gate: Gate, work: object = lambda: None) -> float:
    began = time.monotonic()
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
    assert 0.2 <= seconds(gate, stuck.wait) < 1.0
    time.sleep(0.1)
    for _ in range(100):  # while one call hangs, nobody tries another, and no thread is added
        assert seconds(gate) < 0.1
    assert threading.active_count() <= before + 2
    stuck.set()
    deadline = time.monotonic() + 2
    while True:  # it is back as soon as the call that hung has ended
        try:
            assert gate.call(lambda: 7) == 7
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_after_a_failure_one_call_in_a_while_tries_and_the_first_that_works_opens_the_gate() -> (
    None
):
    gate, tried = Gate(2, 1.0, pause_seconds=0.1), []

    def count() -> None:
        tried.append(1)
        fail()

    deadline = time.monotonic() + 0.55
    while time.monotonic() < deadline:
        with pytest.raises(StoreError, match="disk full"):
            gate.call(count)
        time.sleep(0.001)
    assert 3 <= len(tried) <= 6
    time.sleep(0.12)
    assert [gate.call(lambda: 7) for _ in range(5)] == [7] * 5


def test_no_more_calls_than_allowed_run_at_once_and_others_wait_their_turn(
    stuck: threading.Event,
) -> None:
    gate, running, most = Gate(2, 5.0), [], []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()

    threads = [threading.Thread(target=gate.call, args=(work,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 12
    assert max(most) <= 2
    holders = [threading.Thread(target=gate.call, args=(stuck.wait,)) for _ in range(2)]
    for thread in holders:
        thread.start()
    time.sleep(0.05)
    assert TURN_SECONDS <= seconds(gate) < TURN_SECONDS + 0.5
    stuck.set()
    for thread in holders:
        thread.join()


def test_those_who_wait_their_turn_are_told_as_soon_as_the_store_fails() -> None:
    gate, begun = Gate(1, 5.0), threading.Event()

    def fail_slowly() -> None:
        begun.set()
        time.sleep(0.1)
        fail()

    first = threading.Thread(target=seconds, args=(gate, fail_slowly))
    first.start()
    begun.wait(5)
    with pytest.raises(StoreError, match="disk full"):
        gate.call(lambda: None)
    first.join()
