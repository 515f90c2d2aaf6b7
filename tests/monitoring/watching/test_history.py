"""Laws of the history: no request is lost or doubled, whatever is asked, merged, torn or killed."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.evidence.class_band import BLOCK
from monitoring.watching.history import History
from tests.killing import in_child

CELLS = {"class": 3, "energy": 5}


def counts(rows: int, seed: int) -> dict[str, np.ndarray]:
    """What one look weighs: the same number of requests in each channel."""
    rng = np.random.default_rng(seed)
    return {name: rng.multinomial(rows, np.ones(size) / size) for name, size in CELLS.items()}


def fill(history: History, looks: list[int], *, begin: int = 0) -> None:
    """Add looks ten seconds apart."""
    before = begin
    for k, rows in enumerate(looks):
        history.add(counts(rows, seed=k), until=10.0 * (k + 1), before=before)
        before += rows


def total(history: History) -> dict[str, list[int]]:
    sums = history.add_up(-np.inf, np.inf, CELLS)
    return {name: row.tolist() for name, row in sums.items()}


looks_ = st.lists(st.integers(0, 1500), min_size=1, max_size=30)


@settings(max_examples=20, deadline=None)
@given(looks_, st.sampled_from([600, 3000, 1 << 20]))
def test_every_request_is_there_once_over_restarts_and_within_the_bytes(
    looks: list[int], most_bytes: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "1.jsonl"
        history, before = History.open(path, most_bytes), 0
        expected = {name: np.zeros(size, dtype=int) for name, size in CELLS.items()}
        for k, rows in enumerate(looks):
            look = counts(rows, seed=k)
            history.add(look, until=10.0 * (k + 1), before=before)
            before += rows
            expected = {name: row + look[name] for name, row in expected.items()}
            if k % 7 == 3:
                history = History.open(path, most_bytes)
        assert not history.fault
        again = History.read(path)
        for each in (history, again):
            assert total(each) == {name: row.tolist() for name, row in expected.items()}
        assert again.span() == history.span()
        span = history.span()
        assert (0 if span is None else span.requests) == sum(looks)
        if before:
            least = max(most_bytes, 3 * 300)  # two blocks and a look are never merged away
            assert path.stat().st_size <= least
            for request in {1, before // 2 + 1, before}:
                times = history.when(request)
                assert times is not None
                ends = np.cumsum(looks)
                at = 10.0 * (int(np.searchsorted(ends, request)) + 1)
                assert times[0] <= at <= times[1]
        assert history.when(before + 1) is None


@settings(max_examples=20, deadline=None)
@given(looks_, st.floats(0, 600), st.floats(0, 600))
def test_a_period_holds_whole_blocks_that_lie_within_it(
    looks: list[int], since: float, until: float
) -> None:
    history = History(Path("/dev/null/1.jsonl"))
    fill(history, looks)
    assert bool(history.fault) == (sum(looks) > 0), "it goes on in memory"
    part = history.span(since, until)
    by_block = history.by_block(since, until, "class", 3)
    sums = history.add_up(since, until, CELLS)
    if part is None:
        assert not sums["class"].any()
        return
    assert since <= part.since <= part.until <= until
    assert part.requests == sums["class"].sum() == sums["energy"].sum()
    assert len(by_block) == part.blocks
    assert (by_block.sum(axis=1) >= BLOCK).all()
    assert (by_block.sum(axis=0) <= sums["class"]).all()


def test_an_alarm_ends_its_block_so_that_what_follows_is_known_by_itself(tmp_path: Path) -> None:
    history = History.open(tmp_path / "1.jsonl")
    history.add({}, until=5.0, before=0)
    history.add(counts(300, 0), until=10.0, before=0)
    history.end_block()
    history.add(counts(400, 1), until=20.0, before=300)
    for each in (history, History.read(tmp_path / "1.jsonl")):
        part = each.span(since=10.0)
        assert part is not None
        assert (part.since, part.until, part.requests) == (10.0, 20.0, 400)


def test_a_torn_end_is_dropped_and_what_follows_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    whole = History.open(path)
    fill(whole, [700, 700, 700])
    data = path.read_bytes()
    for cut in range(len(data) - 40, len(data), 7):
        path.write_bytes(data[:cut])
        torn = History.open(path)
        assert not torn.fault
        span = torn.span()
        assert span is not None
        assert span.requests == 1400
        torn.add(counts(50, 9), until=99.0, before=1400)
        later = History.read(path).span()
        assert later is not None
        assert later.requests == 1450


def test_a_damaged_file_is_set_aside_and_named_and_the_history_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    fill(History.open(path), [700, 700, 700])
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="line 2 is damaged"):
        History.read(path)
    anew = History.open(path)
    assert "line 2 is damaged" in anew.fault
    assert path.with_name("1.jsonl.damaged").read_bytes() == data
    assert anew.span() is None
    anew.add(counts(50, 9), until=99.0, before=2100)
    assert not anew.fault
    assert History.read(path).when(2120) == (99.0, 99.0)


def test_a_file_that_somebody_changes_is_written_anew_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    history = History.open(path)
    fill(history, [700, 700])
    path.unlink()
    history.add(counts(10, 5), until=30.0, before=1400)
    assert total(History.read(path)) == total(history)


def test_a_kill_at_any_line_loses_at_most_the_look_under_way(tmp_path: Path) -> None:
    """The file is merged several times on the way."""
    path, done = tmp_path / "1.jsonl", tmp_path / "done"

    def look_on() -> None:
        history, before = History.open(path, most_bytes=1000), 0
        for k in range(8):
            history.add(counts(800, k), until=10.0 * (k + 1), before=before)
            before += 800
            done.write_text(str(before))

    killed, line = 1, 1
    while killed:
        path.unlink(missing_ok=True)
        done.write_text("0")
        killed = in_child(look_on, die_at_line=line, within="/watching/history|/base/files")
        span = History.read(path).span()
        known = 0 if span is None else span.requests
        assert known - int(done.read_text()) in (0, 800)
        line += 7
    assert known == 6400
    assert line > 200, "it was killed at many lines"


def test_the_end_of_a_block_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    history = History.open(path)
    fill(history, [300, 300])
    history.end_block()
    size = path.stat().st_size
    history.end_block()
    assert path.stat().st_size == size, "it has ended"
    again = History.open(path)
    again.add(counts(300, 3), until=30.0, before=600)
    for each in (again, History.read(path)):
        assert each.when(600) == (10.0, 20.0)
        assert each.when(601) == (20.0, 30.0)
        part = each.span(since=20.0)
        assert part is not None
        assert part.requests == 300


@pytest.mark.parametrize("rows", [300, 900])
def test_a_look_that_comes_after_a_period_takes_nothing_from_it(tmp_path: Path, rows: int) -> None:
    """Somebody accepts the period until now while a look is under way."""
    history = History.open(tmp_path / "1.jsonl")
    fill(history, [600, 500, 400])
    before, cells = history.span(0, 35.0), history.add_up(0, 35.0, CELLS)
    assert before is not None
    assert before.requests == 1500
    history.add(counts(rows, 7), until=40.0, before=1500)
    for each in (history, History.read(history.path)):
        assert each.span(0, 35.0) == before
        assert {k: v.tolist() for k, v in each.add_up(0, 35.0, CELLS).items()} == {
            k: v.tolist() for k, v in cells.items()
        }
        whole = each.span()
        assert whole is not None
        assert whole.requests == 1500 + rows
