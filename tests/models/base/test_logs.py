import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.base.logs import LineWriter
from tests.waiting import PATIENCE_SECONDS, wait_until

SAY = """
import sys
from models.base import logs
logs.configure("info")
log = logs.logger("test")
"""


def run(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", SAY + code]
    return subprocess.run(command, timeout=PATIENCE_SECONDS, **options)  # type: ignore[call-overload, no-any-return]


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_in_ascii_and_the_last_one_is_written_at_the_end() -> None:
    code = r"""
for index in range(50):
    log.info("said", index=index, text="é\n\u202e\ud800")
import logging
logging.getLogger("driver").warning("lost %s", "a connection")
logging.getLogger("own").addHandler(logging.NullHandler())
logging.getLogger("own.part").warning("said by a handler of its own")
"""
    done = run(code, capture_output=True)
    found = lines(done)
    assert done.stderr.isascii()
    assert [line["index"] for line in found[:-1]] == list(range(50))
    assert found[0]["text"] == "é\n\u202e\ud800"
    assert (found[-1]["component"], found[-1]["event"]) == ("driver", "lost a connection")
    assert found[-1]["level"] == "warning"


def test_gunicorns_lines_have_the_same_form() -> None:
    code = """
from gunicorn.config import Config
from service.server.gunicorn_log import JsonLogger
glog = JsonLogger(Config())
glog.info("Booting worker with pid: %s", 7)
try:
    1 / 0
except ZeroDivisionError:
    glog.exception("in %s", "a worker")
glog.setup(Config())  # as a reload does
glog.error("once")
"""
    first, second, third = lines(run(code, capture_output=True))
    assert first["component"] == "gunicorn"
    assert (first["event"], first["level"]) == ("Booting worker with pid: 7", "info")
    assert "ZeroDivisionError" in str(second["exception"])
    assert third["event"] == "once"


def test_a_closed_pipe_fails_nobody_and_the_process_ends_well() -> None:
    read, write = os.pipe()
    os.close(read)
    code = """
for index in range(100):
    log.error("said", text="x" * 1000)
logs.flush()
log.error("said")
print("goes on")
"""
    done = run(code, stderr=write, stdout=subprocess.PIPE)
    os.close(write)
    assert done.stdout == b"goes on\n"
    assert done.returncode == 0


def test_no_standard_error_at_all_fails_nobody_and_its_number_is_not_given_to_a_file() -> None:
    code = """
import os
with open(os.devnull) as other:
    print(other.fileno() > 2, sys.stderr)
log.error("said")
"""
    command = f'{sys.executable} -c "$CODE" 2>&-'
    env = {**os.environ, "CODE": SAY + code}
    done = subprocess.run(
        command, shell=True, env=env, stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS
    )
    assert done.stdout == b"True None\n"
    assert done.returncode == 0


def test_a_full_disk_fails_nobody() -> None:
    code = "log.error('said')\nlogs.flush()\nprint('goes on')"
    with Path("/dev/full").open("wb") as full:
        done = run(code, stderr=full, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")


def test_a_pipe_that_nobody_reads_delays_nobody_and_what_was_lost_is_told_later() -> None:
    code = """
for index in range(logs.LINES_KEPT + 5000):
    log.info("said", index=index)
print("said", flush=True)
sys.stdin.read(1)
while not logs._writer.flush():
    pass
log.info("last")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", SAY + code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"said\n"  # a write to the full pipe would never end
    _, err = process.communicate(b"x", timeout=PATIENCE_SECONDS)
    found = [json.loads(line) for line in err.splitlines()]
    assert found[-1]["event"] == "last"
    dropped = sum(line["lines"] for line in found if line["event"] == "log_lines_dropped")
    said = sum(line["event"] == "said" for line in found)
    assert dropped > 0
    assert said + dropped == 15_000


def _write(number: int, data: bytes) -> None:
    os.write(number, data)


def test_a_forked_process_writes_its_own_lines_and_not_its_parents() -> None:
    read, write = os.pipe()
    writer = LineWriter(lambda data: _write(write, data))
    writer.put(b"parent\n")
    wait_until(writer.flush)
    assert os.read(read, 100) == b"parent\n"
    code = """
import os
log.info("parent")
child = os.fork()
log.info("child" if child == 0 else "parent again")
if child:
    os.waitpid(child, 0)
"""
    events = sorted(str(line["event"]) for line in lines(run(code, capture_output=True)))
    assert events == ["child", "parent", "parent again"]
    os.close(read)
    os.close(write)


def test_a_writer_that_fails_counts_the_lines_and_tells_when_it_works_again() -> None:
    kept: list[bytes] = []
    works = threading.Event()

    def write(data: bytes) -> None:
        if not works.is_set():
            raise OSError("no space left on device")
        kept.append(data)

    writer = LineWriter(write)
    writer.put(b"a\n")
    writer.put(b"b\n")
    assert writer.flush(PATIENCE_SECONDS)
    works.set()
    writer.put(b"c\n")
    assert writer.flush(PATIENCE_SECONDS)
    told, line = b"".join(kept).splitlines()
    assert json.loads(told) | {"timestamp": ""} == {
        "component": "log", "event": "log_lines_dropped", "level": "warning", "lines": 2,
        "timestamp": "",
    }  # fmt: skip
    assert line == b"c"


@pytest.mark.parametrize("capacity", [0, 3])
def test_no_more_lines_wait_than_the_queue_takes(capacity: int) -> None:
    stuck, kept = threading.Event(), []

    def write(data: bytes) -> None:
        stuck.wait(PATIENCE_SECONDS)
        kept.append(data)

    writer = LineWriter(write, capacity)
    for _ in range(100):
        writer.put(b"line\n")
    stuck.set()
    writer.flush(PATIENCE_SECONDS)
    assert b"".join(kept).count(b"line\n") <= capacity + 1
