"""Inputs in segments: whatever breaks, nothing torn is read and no label is lost."""

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.schema import InputSchema
from monitoring.records import segments
from monitoring.records.requests import Request, pack_scores
from monitoring.records.segments import SegmentWriter, remove_segments, segment_path, segments_in
from monitoring.records.store import Kept, Key, RecordStore, StoreError
from tests.killing import in_child
from tests.waiting import PATIENCE_SECONDS

SCHEMA = InputSchema(name="x", shape=(10,), dtype="float32", low=0, high=9, kind="table")


def request(name: str, rows: int = 3, size: int = 10) -> Request:
    """A request whose inputs tell its name."""
    number = int(name.rpartition("-")[2])
    x = np.full((rows, size), number, np.float32) + np.arange(rows, dtype=np.float32)[:, None] / 8
    parts = [row.tobytes() for row in x]
    scores = pack_scores(
        parts, np.arange(rows), [0.5] * rows, [0.2] * rows, [0.9] * rows, [0.1] * rows
    )
    return Request(name, 0, 100.0, "m", 1, "shop", memoryview(b"".join(parts)), scores)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    yield made
    made.close()


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "r.sqlite.segments"


def test_a_request_of_many_rows_is_one_row_and_every_instance_has_its_input(
    store: RecordStore, tmp_path: Path
) -> None:
    store.write([request("r-1", rows=5), request("r-2", rows=1), request("r-3", rows=4)])
    with sqlite3.connect(tmp_path / "r.sqlite") as other:
        kept = other.execute("SELECT last, rows, x FROM requests").fetchall()
    assert kept == [(5, 5, None), (6, 1, None), (10, 4, None)]
    x = store.inputs([2, 5, 6, 10], SCHEMA)
    assert x[:, 0].tolist() == [1.125, 1.5, 2.0, 3.375]
    found = store.find([Key("r-1", 4), Key("r-1", 5), Key("r-3", 0)])
    assert {key: (row.seq, row.predicted) for key, row in found.items()} == {
        Key("r-1", 4): (5, 4),
        Key("r-3", 0): (7, 0),
    }
    answered = store.answered("m", 1, SCHEMA, after=3, most=4)
    assert answered.seq.tolist() == [7, 8, 9, 10]
    assert store.answered("m", 1, SCHEMA, after=3, most=99).seq.tolist() == list(range(4, 11))
    assert store.following("m", 1, 3, 3).seq.tolist() == [4, 5, 6]
    assert store.recent("m", 1, 6).seq.tolist() == list(range(5, 11))
    latest = store.latest("m", 1, 6, 3)
    assert [(r.id, r.row) for r in latest] == [("r-1", 4), ("r-2", 0), ("r-3", 0)]


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    labelled=st.lists(st.integers(1, 48), unique=True, max_size=12),
)
def test_what_is_read_of_requests_is_what_was_written_of_instances(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], labelled: list[int]
) -> None:
    store = RecordStore(f"sqlite:///{tmp_path_factory.mktemp('r')}/r.sqlite")
    store.write([request(f"r-{k}", rows) for k, rows in enumerate(sizes)])
    places = [(k, row) for k, rows in enumerate(sizes) for row in range(rows)]
    given_labels = [seq for seq in labelled if seq <= len(places)]
    for seq in given_labels:
        key = Key(f"r-{places[seq - 1][0]}", places[seq - 1][1])
        store.add_feedback([(key, store.find([key])[key], 1)])
    rows = store.labelled("m", SCHEMA)
    expected = [places[seq - 1] for seq in sorted(given_labels)]
    assert rows.x[:, 0].tolist() == [k + row / 8 for k, row in expected]
    assert rows.predicted.tolist() == [row for _, row in expected]
    assert store.labels_after("m", 1, 0, 99).seq.tolist() == given_labels
    assert store.counts("m") == (len(places), len(given_labels))
    recent = store.recent("m", 1, 99)
    assert recent.predicted.tolist() == [row for _, row in places]
    assert np.flatnonzero(recent.labelled).tolist() == [seq - 1 for seq in sorted(given_labels)]
    store.close()


def test_a_torn_tail_is_cut_off_by_who_writes_next(store: RecordStore, tmp_path: Path) -> None:
    store.write([request("r-1")])
    store.close()  # its writer ends
    (number,) = segments_in(folder_of(tmp_path))
    path = segment_path(folder_of(tmp_path), number)
    whole = path.read_bytes()
    path.write_bytes(whole + b"torn")
    store.write([request("r-2")])
    assert segments_in(folder_of(tmp_path)) == [number]
    assert path.read_bytes() == whole + bytes(request("r-2").x)
    assert store.inputs(range(1, 7), SCHEMA)[::3, 0].tolist() == [1.0, 2.0]


def test_a_segment_belongs_to_one_writer(store: RecordStore, tmp_path: Path) -> None:
    other = RecordStore(f"sqlite:///{tmp_path}/r.sqlite")
    for k in range(4):
        store.write([request(f"r-{2 * k}")])
        other.write([request(f"r-{2 * k + 1}")])
    assert len(segments_in(folder_of(tmp_path))) == 2
    assert store.inputs(range(1, 25), SCHEMA)[::3, 0].tolist() == [float(k) for k in range(8)]
    other.close()


def test_a_damaged_or_missing_input_is_left_out_and_its_label_stays(
    store: RecordStore, tmp_path: Path
) -> None:
    store.write([request("r-1"), request("r-2")])
    keys = [Key("r-1", 1), Key("r-2", 1)]
    found = store.find(keys)
    store.add_feedback([(key, found[key], 1) for key in keys])
    (number,) = segments_in(folder_of(tmp_path))
    path = segment_path(folder_of(tmp_path), number)
    with path.open("r+b") as stream:
        stream.seek(45)  # in the second instance
        stream.write(b"\xff")
    assert store.inputs(range(1, 7), SCHEMA)[:, 0].tolist() == [1.0, 1.25, 2.0, 2.125, 2.25]
    assert store.labelled("m", SCHEMA).x[:, 0].tolist() == [2.125]
    os.truncate(path, 130)  # as a copy from before would have it
    assert store.inputs(range(1, 7), SCHEMA)[:, 0].tolist() == [1.0, 1.25]
    store.close()
    store.write([request("r-3")])  # not behind bytes that are missing
    assert len(segments_in(folder_of(tmp_path))) == 2
    path.unlink()
    assert store.inputs(range(1, 10), SCHEMA)[:, 0].tolist() == [3.0, 3.125, 3.25]
    assert store.counts("m") == (9, 2)
    assert len(store.latest_labels("m", 1, 9)) == 2


def test_files_shrink_by_rows_bytes_and_age(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1000)
    now = time.time()
    for k in range(40):  # 120 bytes each: nine to a segment
        store.write([request(f"r-{k}")._replace(at=now - (40 - k) * 86400)])
        key = Key(f"r-{k}", 0)
        store.add_feedback([(key, store.find([key])[key], 1)])

    def sizes() -> tuple[int, int, int]:
        files = [segment_path(folder_of(tmp_path), n) for n in segments_in(folder_of(tmp_path))]
        counts = store.counts("m")
        return counts.requests, counts.labelled, sum(f.stat().st_size for f in files)

    assert sizes() == (120, 40, 40 * 120)
    assert store.prune(Kept(rows=90)) == 30
    assert sizes() == (90, 30, 31 * 120)
    assert store.prune(Kept(bytes=20 * 120)) == 30
    assert sizes() == (60, 20, 22 * 120)
    assert store.prune(Kept(days=9.5)) == 33
    assert sizes() == (27, 9, 13 * 120)
    assert store.prune(Kept(days=0.5)) == 27
    assert sizes() == (0, 0, 4 * 120), "the last has a writer, who goes on with it"
    store.write([request("r-41")])
    assert store.inputs([121, 122, 123], SCHEMA)[:, 0].tolist() == [41.0, 41.125, 41.25]


def test_a_segment_that_is_written_is_not_removed_and_one_of_nobody_is(tmp_path: Path) -> None:
    known: dict[int, int] = {}
    writer = SegmentWriter(tmp_path / "s", lambda number: known.get(number, 0))
    number, _ = writer.append([memoryview(b"abc")])
    assert remove_segments(tmp_path / "s", lambda each: known.get(each, 0)) == 0
    known[number] = 3
    writer.release()
    assert remove_segments(tmp_path / "s", lambda each: known.get(each, 0)) == 0
    del known[number]
    assert remove_segments(tmp_path / "s", lambda each: known.get(each, 0)) == 1
    assert segments_in(tmp_path / "s") == []


def test_a_full_disk_refuses_records_and_what_was_kept_stays_whole(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write([request("r-1")])
    real = os.pwritev

    def full(file: int, parts: Sequence[memoryview], place: int) -> int:
        if place >= 240:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, [parts[0][:50]], place)  # a disk that takes less than it is given

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        store.write([request("r-2")])
        for k in range(3):
            with pytest.raises(StoreError, match="No space left"):
                store.write([request(f"r-{k + 3}")])
        assert store.counts("m").requests == 6
    store.write([request("r-9")])
    assert store.inputs(range(1, 20), SCHEMA)[::3, 0].tolist() == [1.0, 2.0, 9.0]
    (number,) = segments_in(folder_of(tmp_path))
    assert segment_path(folder_of(tmp_path), number).stat().st_size == 3 * 120


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_line_leaves_a_request_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    url, line, seen = f"sqlite:///{tmp_path}/r.sqlite", 0, set()
    while True:
        line += 7  # and so are all kinds of lines
        store = RecordStore(url)
        before = store.newest()
        store.close()

        def write(name: str = f"r-{line}") -> None:
            RecordStore(url).write([request(name)])

        killed = in_child(write, die_at_line=line, within="/monitoring/records/")
        store = RecordStore(url)
        assert store.newest() - before in (0, 3)
        seen.add(store.newest() - before)
        x = store.inputs(range(before + 1, before + 4), SCHEMA)
        assert x[:, 0].tolist() == [line + k / 8 for k in range(store.newest() - before)]
        store.close()
        if not killed:
            break
    assert line > 60
    assert seen == {0, 3}
    assert len(segments_in(folder_of(tmp_path))) == 1


WRITE = """
import sys
from tests.monitoring.records.test_segments import *
segments.SEGMENT_BYTES = 20_000
store = RecordStore(sys.argv[1])
for k in range(10**6):
    name = f"{sys.argv[2]}-{k % 2000}"
    store.write([request(name, rows=1 + k % 40)])
    key = Key(name, 0)
    store.add_feedback([(key, store.find([key])[key], 1)])
    print(name, flush=True)
    if k % 20 == 19:
        store.prune(Kept(rows=2000))
"""


@pytest.mark.slow
def test_writers_that_are_killed_lose_no_label_and_leave_nothing_torn(tmp_path: Path) -> None:
    url, rng = f"sqlite:///{tmp_path}/r.sqlite", random.Random(3)
    kept: set[str] = set()
    for turn in range(8):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", WRITE, url, f"{turn}.{k}"], stdout=subprocess.PIPE, text=True
            )
            for k in range(2)
        ]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # it writes
        time.sleep(rng.uniform(0.05, 0.6))
        for process in started:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
            kept |= {line for line in out.splitlines(keepends=True) if line.endswith("\n")}
        store = RecordStore(url)
        recent = store.recent("m", 1, 10**6)
        oldest = int(recent.seq[0])
        inputs = store.inputs(recent.seq.tolist(), SCHEMA)
        assert len(inputs) == len(recent), "every input is there, and whole"
        rows = store.latest("m", 1, 10**6, 10**6)
        for row in rows:
            number = int(row.id.rpartition("-")[2])
            assert np.frombuffer(row.x, np.float32).tolist() == [number + row.row / 8] * 10
        names = {line.strip() for line in kept}
        there = store.find([Key(name, 0) for name in names])
        labels = set(store.labels_after("m", 1, 0, 10**6).seq.tolist())
        assert {record.seq for record in there.values()} <= labels
        assert len(there) == len(names) or oldest > 1, "none is missing but what was pruned"
        store.close()
    store = RecordStore(url)
    store.write([request("r-1")])
    store.prune(Kept(rows=3))
    assert store.counts("m").requests == 3
    assert len(segments_in(folder_of(tmp_path))) <= 2
    store.close()
