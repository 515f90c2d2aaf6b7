"""The shared memory: bounded, apart by client, and whole whoever is killed when."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.versions.schema import InputSchema
from monitoring.counting.queries import Detector
from monitoring.counting.query_embedding import CAPACITY, WIDTH, Embedding
from monitoring.counting.query_memory import SLOT_BYTES, QueryMemory, file_of
from tests.killing import in_child
from tests.waiting import wait_until

SCHEMA = InputSchema("x", (1, 8, 8), "float32", 0.0, 1.0, "image")


def probes(count: int) -> np.ndarray:
    x = np.full((count, 1, 8, 8), 0.5, np.float32)
    x[:, 0, 0, 0] += np.float32(1e-4) * np.arange(count)
    return x


def detector(memory: QueryMemory) -> Detector:
    return Detector("m", Embedding.of(SCHEMA), 0.1, memory)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 12), max_size=80))
def test_the_clients_that_asked_last_are_remembered_and_no_more(order: list[int]) -> None:
    memory, slots, recent = QueryMemory(4), 4, []
    for key in order:
        with memory.ring(key) as ring:
            assert ring.total == (key in recent), "remembered exactly while among the last"
            ring.count(1)
        recent = [*(k for k in recent if k != key), key][-slots:]
        assert memory.clients == len(recent)


def test_a_client_takes_what_the_settings_say() -> None:
    assert SLOT_BYTES <= 0.55 * 10**6 < SLOT_BYTES + 2**15
    assert SLOT_BYTES >= CAPACITY * 4 * (WIDTH + 1)


def test_the_file_takes_room_for_the_clients_that_came_only(tmp_path: Path) -> None:
    path = file_of(tmp_path, 64)
    memory = QueryMemory(64, path)
    assert path.stat().st_size > 64 * SLOT_BYTES
    assert path.stat().st_blocks * 512 < 2**16
    with memory.ring(5) as ring:
        ring.rows(WIDTH + 1)[:] = 1
    assert SLOT_BYTES <= path.stat().st_blocks * 512 < SLOT_BYTES + 2**16
    assert path.stat().st_mode & 0o777 == 0o600
    memory.close()


def test_keys_do_not_tell_the_client_and_differ_by_host(tmp_path: Path) -> None:
    one, other = QueryMemory(2), QueryMemory(2)
    assert one.key(b"m", b"c") == one.key(b"m", b"c") != other.key(b"m", b"c")
    assert one.key(b"ab", b"c") != one.key(b"a", b"bc")


def test_processes_see_one_state(tmp_path: Path) -> None:
    path, x = file_of(tmp_path, 4), probes(9)

    def asks(part: np.ndarray) -> None:
        detector(QueryMemory(4, path)).look("c", part)

    for k in range(8):
        assert in_child(lambda k=k: asks(x[k : k + 1]), die_at_line=10**9) == 0
    looked = detector(QueryMemory(4, path)).look("c", x[8:])
    assert (looked.near[0], looked.flagged[0]) == (8, True)


def test_threads_and_processes_at_once_lose_no_query(tmp_path: Path) -> None:
    path = file_of(tmp_path, 8)
    x = np.random.default_rng(0).random((400, 1, 8, 8), np.float32)

    def worker(part: int) -> None:
        judge = detector(QueryMemory(8, path))

        def asks(own: np.ndarray) -> None:
            for row in own:
                judge.look("c", row[None])
                judge.look(f"another {part}", row[None])

        threads = [
            threading.Thread(target=asks, args=(x[200 * part + 100 * k :][:100],)) for k in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    children = [in_child(lambda k=k: worker(k)) for k in range(2)]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    memory = QueryMemory(8, path)
    with memory.ring(detector(memory)._key("c")) as ring:
        assert ring.total == 400
        assert len(set(ring.prints[:400].tolist())) == 400
    assert memory.clients == 3


def test_a_killed_process_frees_its_locks_and_leaves_a_state_that_works(tmp_path: Path) -> None:
    x = probes(30)
    for number, line in enumerate(range(3, 1200, 17)):
        path = file_of(tmp_path / str(number), 2)

        def asks(path: Path = path) -> None:
            judge = detector(QueryMemory(2, path))
            for k in range(3):
                judge.look("c", x[k : k + 1])
                judge.look("d", x[k : k + 2])

        killed = in_child(asks, die_at_line=line, within="/monitoring/counting/quer")
        judge = detector(QueryMemory(2, path))
        judge.look("e", x[:1])  # takes a slot away
        looked = [judge.look("c", x[k : k + 1]) for k in range(10, 16)]
        assert looked[-1].flagged[0], line
        if not killed:
            return
    pytest.fail("the lines were not gone through to the end")


def test_who_waits_for_a_stopped_process_goes_on_when_it_is_killed(tmp_path: Path) -> None:
    path = file_of(tmp_path, 2)
    memory = QueryMemory(2, path)

    def holds() -> None:
        with QueryMemory(2, path).ring(7):
            (tmp_path / "held").touch()
            time.sleep(600)

    child = in_child(holds)
    wait_until((tmp_path / "held").exists, what="the child holds it")
    dies = threading.Event()

    def kill() -> None:
        dies.set()
        os.kill(child, signal.SIGKILL)

    threading.Timer(0.2, kill).start()
    with memory.ring(7) as ring:
        assert dies.is_set()
        assert ring.total == 0
    os.waitpid(child, 0)
