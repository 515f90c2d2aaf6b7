import signal
import subprocess
import sys
from pathlib import Path

from models.base.locks import acquire, clear, try_exclusive

HOLD = """
import sys, time, pathlib
from models.base.locks import acquire
slot = acquire(pathlib.Path(sys.argv[1]))
print(slot.number, flush=True)
time.sleep(600)
"""


def hold(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that holds a slot, and its number."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_live_processes_never_share_a_slot_and_a_killed_one_frees_its_own(tmp_path: Path) -> None:
    held = [hold(tmp_path) for _ in range(3)]
    try:
        assert sorted(number for _, number in held) == [0, 1, 2]
        victim, number = held.pop(1)
        end(victim)
        held.append(hold(tmp_path))
        assert held[-1][1] == number
    finally:
        for process, _ in held:
            end(process)


def test_slots_of_one_process_differ_until_released(tmp_path: Path) -> None:
    first, second = acquire(tmp_path), acquire(tmp_path)
    assert (first.number, second.number) == (0, 1)
    first.release()
    third = acquire(tmp_path)
    assert third.number == 0
    second.release()
    third.release()


def test_clear_removes_counters_and_leaves_locks(tmp_path: Path) -> None:
    slot = acquire(tmp_path)
    (tmp_path / "counter_0.db").write_bytes(b"x")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["slot-0.lock"]
    slot.release()


def test_an_exclusive_file_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "run" / "service.lock"
    first = try_exclusive(path)
    assert first is not None
    assert try_exclusive(path) is None
    first.close()
    again = try_exclusive(path)
    assert again is not None
    again.close()
