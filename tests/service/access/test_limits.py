"""The law of the rate, the count of calls under way, and what processes share of them."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import mapped_file
from service.access.limit_table import ENTRIES, SETS, WAYS, LimitTable
from service.access.limits import SECOND, Bucket, ClientLimits, limits_of
from service.configuration.settings import Settings
from service.web.errors import TooManyError

RATES = st.floats(0.01, 1e6)
BURSTS = st.integers(1, 50)


def admitted(bucket: Bucket, times: list[int]) -> list[int]:
    full, found = 0, []
    for now in times:
        full, wait = bucket.admit(full, now)
        if not wait:
            found.append(now)
    return found


def most_in_a_window(times: list[int], rate: float, burst: int) -> float:
    """The largest n - (burst + rate t) over all windows; at most 0 where the law holds."""
    times = sorted(times)
    return max(
        last - first + 1 - burst - rate * (times[last] - times[first]) / SECOND
        for first in range(len(times))
        for last in range(first, len(times))
    )


@given(RATES, BURSTS, st.lists(st.floats(0, 4), min_size=1, max_size=120), st.integers(1, 2**40))
def test_no_window_holds_more_than_the_burst_and_what_flows_in(
    rate: float, burst: int, gaps: list[float], start: int
) -> None:
    times, now = [], start
    for gap in gaps:  # in units of an interval
        now += int(gap * SECOND / rate)
        times.append(now)
    assert most_in_a_window(admitted(Bucket.of(rate, burst), times), rate, burst) <= 1e-9


@given(RATES, BURSTS)
def test_who_keeps_to_the_rate_is_never_refused_after_a_burst(rate: float, burst: int) -> None:
    bucket = Bucket.of(rate, burst)
    times = [SECOND] * burst + [SECOND + k * bucket.interval_ns for k in range(1, 30)]
    assert admitted(bucket, times) == times


@given(RATES, BURSTS, st.integers(0, 2**40), st.integers(0, 10**12))
def test_who_waits_as_told_is_admitted_and_a_moment_earlier_is_not(
    rate: float, burst: int, full: int, now: int
) -> None:
    bucket = Bucket.of(rate, burst)
    kept, wait = bucket.admit(full, now)
    if wait:
        assert bucket.admit(kept, now + wait)[1] == 0
        assert bucket.admit(kept, now + wait - 1)[1] == 1


def test_a_clock_that_begins_anew_locks_nobody_out() -> None:
    bucket = Bucket.of(1.0, 5)
    _, wait = bucket.admit(10**18, 7 * SECOND)
    assert wait == SECOND


def limits(
    directory: Path | None, rate: float = 0, burst: int = 1, concurrency: int = 0
) -> ClientLimits:
    return ClientLimits(rate, burst, concurrency, LimitTable(64, directory))


def test_clients_have_buckets_of_their_own_and_are_told_when_to_come_back() -> None:
    found = limits(None, rate=0.25, burst=2)
    for client in ("a", "b"):
        for _ in range(2):
            found.enter(client)
        with pytest.raises(TooManyError, match=r"at most 0\.25 calls a second") as told:
            found.enter(client)
        assert told.value.headers == {"Retry-After": "4"}


def test_calls_under_way_are_bounded_and_free_their_place() -> None:
    found = limits(None, concurrency=2)
    found.enter("a"), found.enter("a"), found.enter("b")
    with pytest.raises(TooManyError, match="at most 2 calls") as told:
        found.enter("a")
    assert told.value.headers == {"Retry-After": "1"}
    found.leave("a")
    found.enter("a")
    found.leave("a"), found.leave("a"), found.leave("a"), found.leave("never seen")
    found.enter("a"), found.enter("a")
    with pytest.raises(TooManyError):
        found.enter("a")


def test_a_call_that_is_refused_for_its_share_costs_nothing_of_the_rate() -> None:
    found = limits(None, rate=0.001, burst=3, concurrency=1)
    found.enter("a")
    for _ in range(9):
        with pytest.raises(TooManyError, match="at a time"):
            found.enter("a")
    for _ in range(2):
        found.leave("a"), found.enter("a")
    found.leave("a")
    with pytest.raises(TooManyError, match="a second"):
        found.enter("a")


def test_threads_that_share_limits_never_exceed_them() -> None:
    found, seen, under_way = limits(None, concurrency=3), Counter[str](), threading.Semaphore(3)

    def client() -> None:
        for _ in range(300):
            try:
                found.enter("a")
            except TooManyError:
                seen["refused"] += 1
                continue
            if not under_way.acquire(blocking=False):
                seen["too many"] += 1
            else:
                under_way.release()
            seen["admitted"] += 1
            found.leave("a")

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen["too many"] == 0
    assert seen["admitted"]
    for _ in range(3):
        found.enter("a")


def test_more_clients_than_there_is_room_for_push_out_the_fullest_bucket() -> None:
    table = LimitTable(64)
    keys = [1 + SETS * way for way in range(WAYS + 1)]
    for rank, key in enumerate(keys[:WAYS]):
        at = table.take(key)
        table.full[at] = 1000 - rank  # the last one is the fullest
        if key == keys[WAYS - 1]:
            table.begin(at)  # but has a call under way
        table.give(at)
    at = table.take(keys[WAYS])
    assert (table.full[at], table.under_way(at)) == (0, 0), "a newcomer inherits nothing"
    table.give(at)
    kept = [key for key in keys if key in table._keys.tolist()]
    assert kept == [*keys[: WAYS - 2], keys[WAYS - 1], keys[WAYS]]


def test_memory_is_bounded_whoever_comes(tmp_path: Path) -> None:
    found = limits(tmp_path, rate=1000.0, concurrency=4)
    before = sum(file.stat().st_size for file in tmp_path.rglob("*"))
    for client in range(3 * ENTRIES):
        found.enter(f"2001:db8:{client:x}::/64")
    after = sum(file.stat().st_size for file in tmp_path.rglob("*"))
    assert after == before < 2**21
    assert len(found._keys) <= 4096
    found.close()


def test_names_are_not_in_the_file_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    found = limits(tmp_path, rate=1.0)
    found.enter("token sesame"), found.close()
    (file,) = tmp_path.glob("limits-*.map")
    assert b"sesame" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_second_worker_sees_what_the_first_admitted_and_a_later_one_goes_on(
    tmp_path: Path,
) -> None:
    first, second = (limits(tmp_path, rate=0.001, burst=3, concurrency=2) for _ in range(2))
    first.enter("a"), second.enter("a")
    for each in (first, second):
        with pytest.raises(TooManyError, match="at a time"):
            each.enter("a")
    first.leave("a"), second.leave("a")
    first.close(), second.close()
    third = limits(tmp_path, rate=0.001, burst=3, concurrency=2)
    third.enter("a"), third.leave("a")
    with pytest.raises(TooManyError, match="a second"):
        third.enter("a")
    third.close()


def test_a_full_disk_leaves_each_worker_with_limits_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped_file.os, "posix_fallocate", full)
    found = limits_of(Settings(client_concurrency=1), tmp_path)
    assert found is not None
    found.enter("a")
    with pytest.raises(TooManyError):
        found.enter("a")


def test_no_limits_that_are_set_are_no_limits() -> None:
    assert limits_of(Settings(), None) is None


WORKER = """
import json, sys, time
from pathlib import Path
from service.access import limits
from service.web.errors import TooManyError
from service.access.limit_table import LimitTable

clock, seen = time.monotonic_ns, []
def monotonic_ns():
    seen.append(clock())
    time.sleep(0.0002)  # so that who holds no lock is overtaken
    return seen[-1]
limits.time = type("clock", (), {"monotonic_ns": staticmethod(monotonic_ns)})
table = LimitTable(64, Path(sys.argv[1]))
found = limits.ClientLimits(float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), table)
"""
HAMMER = (
    WORKER
    + """
calls = []
print("ready", flush=True), sys.stdin.readline()
for _ in range(600):
    try:
        found.enter("a")
        calls.append((seen[-1], True))
    except TooManyError:
        calls.append((seen[-1], False))
print(json.dumps(calls))
"""
)
HOLD = (
    WORKER
    + """
for _ in range(3):
    found.enter("a")
print("held", flush=True)
if sys.argv[5] == "locked":
    table.take(table.key(b"a"))
print("locked", flush=True)
time.sleep(600)
"""
)
CROSS = (
    WORKER
    + """
import threading
errors = []
def client(key):
    for _ in range(300):
        try:
            at = table.take(key)
            time.sleep(0.0002)
            table.give(at)
        except OSError as error:
            errors.append(str(error))
threads = [threading.Thread(target=client, args=(1 + k % 3,)) for k in range(6)]
print("ready", flush=True), sys.stdin.readline()
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(json.dumps(errors[:3]))
"""
)


def child(code: str, *arguments: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def together(workers: "list[subprocess.Popen[str]]") -> list[Any]:
    """Let them go at once; what each prints at its end."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [json.loads(worker.communicate()[0]) for worker in workers]


def test_the_law_holds_over_several_processes(tmp_path: Path) -> None:
    rate, burst = 400.0, 25
    workers = [child(HAMMER, tmp_path, rate, burst, 0) for _ in range(3)]
    for worker in workers:
        assert line(worker) == "ready"
    # A stamp is taken while the row is held, so their order is that of the decisions.
    calls = sorted((stamp, let_in) for calls in together(workers) for stamp, let_in in calls)
    times = [stamp for stamp, let_in in calls if let_in]
    assert most_in_a_window(times, rate, burst) <= 1e-9
    alone = admitted(Bucket.of(rate, burst), [stamp for stamp, _ in calls])
    assert times == alone, "and nobody is kept below it: together they decide as one would"
    assert burst < len(times) < len(calls)


def test_threads_of_two_processes_may_wait_for_each_others_sets(tmp_path: Path) -> None:
    workers = [child(CROSS, tmp_path, 1, 1, 1) for _ in range(2)]
    for worker in workers:
        assert line(worker) == "ready"
    assert together(workers) == [[], []]


@pytest.mark.parametrize("where", ["answering", "locked"])
def test_calls_of_a_worker_that_was_killed_are_forgotten(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = limits(tmp_path, concurrency=3)
    worker = child(HOLD, tmp_path, 0, 1, 3, where)
    assert (line(worker), line(worker)) == ("held", "locked")
    if where == "answering":
        monkeypatch.setattr(found._table, "_reclaim_at", 0.0)
        with pytest.raises(TooManyError):
            found.enter("a")
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    monkeypatch.setattr(found._table, "_reclaim_at", 0.0)
    for _ in range(3):
        found.enter("a")
    with pytest.raises(TooManyError):
        found.enter("a")
    found.close()


def test_a_worker_begins_with_no_calls_under_way(tmp_path: Path) -> None:
    worker = child(HOLD, tmp_path, 0, 1, 3, "answering")
    line(worker), line(worker)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    heir = limits(tmp_path, concurrency=3)
    heir._table._reclaim_at = float("inf")  # the row it takes over is empty without that
    for _ in range(3):
        heir.enter("a")
    heir.close()
