"""Predictions while clients hurt: endless bodies, floods of headers, clients that vanish.

Two clients predict at a steady pace before, during and after each attack; memory and file
descriptors of the workers are read all the while.

    python -m benchmarks.reliability_http [--gigabytes N] [--only NAME ...]
"""

import argparse
import json
import os
import select
import signal
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability import Service, Steady, conditions, digit, service, table
from benchmarks.reliability_soak import files_open

MIB = 2**20
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GIGABYTE = 2**30


class Watch:
    """The largest memory that the workers had together, above that at the start."""

    def __init__(self, run: Service) -> None:
        self._run, self._stop, self.grown = run, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._before = self._memory()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _memory(self) -> float:
        return sum(each.memory_info().rss for each in self._run.workers) / MIB

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.grown = max(self.grown, self._memory() - self._before)


def exchange(port: int, parts: Iterable[bytes], *, half_close: bool = False) -> tuple[str, int]:
    """Send parts until an answer comes or the connection breaks: its status, the bytes sent."""
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        with suppress(OSError):  # the server may have said why before it closed
            for part in parts:
                link.sendall(part)
                sent += len(part)
                if select.select([link], [], [], 0)[0]:
                    break
            if half_close:
                link.shutdown(socket.SHUT_WR)
        try:
            answer = link.recv(65536)
        except OSError as error:
            return type(error).__name__, sent
    return (answer.split()[1].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"), sent


def chunks(total: int, *extra: bytes) -> Iterator[bytes]:
    """A chunked body of so many bytes."""
    yield HEAD + b"".join(extra) + b"Transfer-Encoding: chunked\r\n\r\n"
    part = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for _ in range(total // 65536):
        yield part
    yield b"0\r\n\r\n"


def measured(total: int) -> Iterator[bytes]:
    """The same with a Content-Length."""
    yield HEAD + b"Content-Length: %d\r\n\r\n" % total
    for _ in range(total // 65536):
        yield b" " * 65536


@cache
def bomb(total: int) -> tuple[bytes]:
    """A gzip stream of a megabyte that unpacks to a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(packer.compress(b" " * MIB) for _ in range(total // MIB)) + packer.flush()
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    return (head + body,)


def flood(count: int, size: int) -> Iterator[bytes]:
    """Headers, many or large."""
    yield HEAD
    for number in range(count):
        yield b"X-%d: %s\r\n" % (number, b"a" * size)
    yield b"\r\n"


def several(port: int, times: int, parts: Callable[[], Iterable[bytes]], **how: bool) -> str:
    """How so many exchanges, four at a time, ended; the bytes that they sent."""
    ends, sent = Counter[str](), [0]

    def work(share: int) -> None:
        for _ in range(share):
            end, count = exchange(port, parts(), **how)
            ends[end] += 1
            sent[0] += count

    threads = [threading.Thread(target=work, args=(times // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = ", ".join(f"{n} x {end}" for end, n in sorted(ends.items()))
    return f"{shown}; {sent[0] / MIB:.0f} MiB sent"


def sound(rows: int = 1) -> bytes:
    """A prediction as bytes."""
    body = json.dumps(digit(0, rows)).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def vanish(port: int, times: int) -> str:
    """Clients that send half a body and reset the connection."""
    whole = sound()
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(whole[: len(whole) // 2])
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return f"{times} connections"


def stop_a_worker(run: Service, seconds: float) -> str:
    """SIGSTOP a worker, and SIGCONT it a while later."""
    worker = min(run.workers, key=lambda each: each.pid)
    worker.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    worker.send_signal(signal.SIGCONT)
    time.sleep(1)
    there = worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
    return f"{seconds:.0f} s stopped; the worker {'went on' if there else 'was replaced'}"


Attack = Callable[[Service, int], str]
ATTACKS: dict[str, Attack] = {
    "body of 1 GiB in chunks": lambda run, size: several(run.port, 4, lambda: chunks(size)),
    "body of 1 GiB, announced": lambda run, size: several(run.port, 4, lambda: measured(size)),
    "gzip bomb of 1 GiB": lambda run, size: several(run.port, 4, lambda: bomb(size)),
    "10,000 headers": lambda run, _: several(run.port, 40, lambda: flood(10_000, 10)),
    "a header of 64 MiB": lambda run, _: several(run.port, 40, lambda: flood(1, 64 * MIB)),
    "half-closed clients": lambda run, _: several(
        run.port, 200, lambda: [sound()], half_close=True
    ),
    "clients that vanish in the body": lambda run, _: vanish(run.port, 2000),
    "a stopped worker": lambda run, _: stop_a_worker(run, 10),
}
HEADS = (
    "attack", "how it ended", "failed predictions", "p50 ms", "p99 ms", "slowest ms",
    "memory MiB", "files open",
)  # fmt: skip


def campaign(name: str, attack: Attack, run: Service, size: int) -> list[Any]:
    """One row: predictions before, during and after an attack."""
    workers, before = {each.pid for each in run.workers}, files_open(run)
    with Steady(run.port) as steady, Watch(run) as memory:
        steady.phase("before")
        time.sleep(3)
        steady.phase("during")
        ended = attack(run, size)
        steady.phase("after")
        time.sleep(3)
    rows = [steady.phases[phase].row() for phase in ("before", "during", "after")]
    if {each.pid for each in run.workers} != workers:
        ended += "; a worker ended"
    shown = [" / ".join(row[column] for row in rows) for column in (1, 2, 3, 4)]
    print(f"{name}: {ended}", flush=True)
    return [name, ended, *shown, f"+{memory.grown:.0f}", f"{before} / {files_open(run)}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=tuple(ATTACKS))
    options = parser.parse_args()
    print(conditions())
    size = int(options.gigabytes * GIGABYTE)
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "state") as run:
        rows = [campaign(name, ATTACKS[name], run, size) for name in options.only]
        faults = [line for line in run.log.splitlines() if "internal_error" in line]
    print(table(HEADS, rows))
    print(f"internal errors in the log: {len(faults)}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
