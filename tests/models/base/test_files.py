"""Laws of files: whole or absent, also when the writer is killed; locks exclude processes."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.base.files import lock_file, sha256_bytes, sha256_file, write_atomic

WRITER = """
import sys
from pathlib import Path
from models.base.files import write_atomic
path, k = Path(sys.argv[1]), 0
while True:
    k += 1
    write_atomic(path, bytes([65 + k % 26]) * 2_000_000)
    if k == 1:
        print("first", flush=True)
"""
HOLDER = """
import sys, time
from pathlib import Path
from models.base.files import lock_file
with lock_file(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def started(code: str, path: Path) -> subprocess.Popen[bytes]:
    """A child that has said its first word."""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline()
    return child


def killed(child: subprocess.Popen[bytes]) -> None:
    """End it at once, without a chance to tidy up."""
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_readers_see_a_whole_file_while_it_is_written_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "file"
    child, seen = started(WRITER, path), set()
    try:
        for _ in range(10**6):
            data = path.read_bytes()
            assert data == data[:1] * 2_000_000
            seen.add(data[:1])
            if len(seen) >= 5:
                break
    finally:
        killed(child)
    assert len(seen) >= 5, "nothing was written meanwhile: the test shows nothing"
    data = path.read_bytes()
    assert data == data[:1] * 2_000_000


def test_failed_write_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(target, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_write_replaces_the_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"one", b"two" * 1000):
        write_atomic(path, data)
        assert path.read_bytes() == data
        assert sha256_file(path) == sha256_bytes(data) == hashlib.sha256(data).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_lock_waits_for_another_process_and_falls_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = started(HOLDER, path)
    waiter = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(0.7)
        holder.send_signal(signal.SIGKILL)
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == b"held\n"
    finally:
        killed(holder)
        killed(waiter)
    with lock_file(path):
        pass
