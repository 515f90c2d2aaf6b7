"""Laws of counting in bulk: everything is counted, once, soon, whatever threads do."""

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitoring.counting.metrics import Metrics
from monitoring.counting.shared_counters import BulkHistogram, exposition
from monitoring.counting.tally import Tally
from tests.waiting import PATIENCE_SECONDS, wait_until

EXITS = """
import pathlib, sys
from monitoring.counting.metrics import Metrics
from monitoring.counting.shared_counters import share_counters
share_counters(pathlib.Path(sys.argv[1]), 0)
metrics = Metrics()
flagged = metrics.flagged.labels("m", "drift")
metrics.tally.put(lambda events: flagged.inc(len(events)), None)
"""


def test_what_is_put_is_counted_soon_without_being_asked_for() -> None:
    tally, seen = Tally(), []
    for event in range(3):
        tally.put(seen.extend, event)
    wait_until(lambda: len(seen) >= 3, what="three are counted")
    assert seen == [0, 1, 2]


def test_events_of_many_threads_are_each_counted_once() -> None:
    tally, seen = Tally(), []

    def put(own: int) -> None:
        for k in range(500):
            tally.put(seen.extend, (own, k))
            if k % 97 == own:
                tally.settle()

    threads = [threading.Thread(target=put, args=(own,)) for own in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.settle()
    assert sorted(seen) == [(own, k) for own in range(8) for k in range(500)]


def test_one_that_cannot_be_counted_takes_no_others_counts_with_it() -> None:
    """Of one batch: who comes after the broken one is counted, and nobody twice."""
    tally, first, last = Tally(), [], []

    def breaks(events: list[int]) -> None:
        raise ValueError(f"cannot count {events}")

    with capture_logs() as logged:
        for event in range(3):
            for add in (first.extend, breaks, last.extend):
                tally.put(add, event)
        tally.settle()
        tally.settle()
    assert first == last == [0, 1, 2]
    assert [line["event"] for line in logged] == ["not_counted"]


def test_one_that_cannot_be_counted_does_not_end_the_counting() -> None:
    tally, seen, broken = Tally(), [], threading.Event()

    def breaks(events: list[int]) -> None:
        broken.set()
        raise ValueError(f"cannot count {events}")

    tally.put(breaks, 1)
    assert broken.wait(PATIENCE_SECONDS)
    tally.put(seen.extend, 2)
    wait_until(lambda: seen, what="the next is counted")
    assert seen == [2]


def test_the_thread_ends_with_its_tally() -> None:
    def threads() -> int:
        return sum(thread.name == "counts" for thread in threading.enumerate())

    before, tally = threads(), Tally()
    tally.put(list.copy, 1)
    tally.settle()
    assert threads() == before + 1
    del tally
    gc.collect()
    # One of an earlier test may have ended, too.
    wait_until(lambda: threads() <= before, what="the thread ends")


def test_reading_the_metrics_counts_what_waits() -> None:
    metrics = Metrics()
    flagged = metrics.flagged.labels("m", "drift")
    metrics.tally.put(lambda events: flagged.inc(len(events)), None)
    text = exposition(metrics.registry, None)().decode()
    assert 'holdfast_flagged_total{kind="drift",model="m"} 1.0' in text


def test_a_worker_that_ends_leaves_nothing_uncounted(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", EXITS, str(tmp_path)], check=True)
    text = exposition(Metrics().registry, tmp_path)().decode()
    assert 'holdfast_flagged_total{kind="drift",model="m"} 1.0' in text


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60))
def test_values_are_counted_at_once_as_one_by_one(values: list[float]) -> None:
    registry = Metrics().registry
    bounds = (0.1, 0.25, 0.5, 1.0)
    one, many = (
        BulkHistogram(f"h{k}", "h", buckets=bounds, registry=registry) for k in ("one", "many")
    )
    for value in values:
        one.observe(value)
    many.observe_all(np.array(values, np.float32))
    samples = {s.name + str(s.labels): s.value for m in registry.collect() for s in m.samples}
    for bound in (*map(str, bounds), "+Inf"):
        label = str({"le": bound})
        assert samples[f"hone_bucket{label}"] == samples[f"hmany_bucket{label}"]
    assert samples["hone_sum{}"] == pytest.approx(samples["hmany_sum{}"])
