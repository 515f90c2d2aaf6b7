"""What a scored request costs beside a plain one.

Server CPU (user + system, from /proc) per request for one 28x28 image as V2 JSON: Holdfast, and a
minimal Flask + gunicorn + onnxruntime app with the same workers and threads serving the same plain
model, round by round in one run. Then onnxruntime alone, scored against plain, at batch 1 and 32;
and the growth of the workers' memory under traffic.

    python -m benchmarks.serving [--requests N] [--rounds N] [--memory-requests N] [--json FILE]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.runner import session
from tests import bundles

WORKERS, THREADS, CONNECTIONS = 2, 4, 4
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(module: str, *args: str, port: int, env: dict[str, str]) -> Iterator[list[int]]:
    """Run `python -m module` with two gunicorn workers; gives their process ids."""
    process = subprocess.Popen([sys.executable, "-m", module, *args], env={**os.environ, **env})
    try:
        deadline = time.monotonic() + 30
        while len(children(process.pid)) < WORKERS or not _answers(port):
            if time.monotonic() > deadline:
                raise SystemExit(f"{module} does not answer")
            time.sleep(0.1)
        time.sleep(1.0)
        yield children(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_mib(pids: list[int]) -> list[float]:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return [round(count * PAGE / 2**20, 1) for count in pages]


def infer_request(rows: int) -> bytes:
    x = np.random.default_rng(0).random((rows, 1, 28, 28), dtype=np.float32).round(4)
    tensor = {"name": "input", "shape": [rows, 1, 28, 28], "datatype": "FP32", "data": x.tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = (
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
    )
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def send(port: int, request: bytes, count: int) -> None:
    """Send `count` requests over a few connections kept alive; every answer must be 200."""
    failures: list[str] = []

    def run(share: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = link.makefile("rb")
            for _ in range(share):
                link.sendall(request)
                status = stream.readline()
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)
                if b" 200 " not in status:
                    failures.append(status.decode())
                    return

    threads = [
        threading.Thread(target=run, args=(count // CONNECTIONS,)) for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"a request failed: {failures[0]}")


def cost_ms(port: int, pids: list[int], request: bytes, count: int) -> float:
    before = cpu_seconds(pids)
    send(port, request, count)
    time.sleep(0.2)  # the writer thread finishes its batch: its time counts too
    return (cpu_seconds(pids) - before) / count * 1000


def plain_graph(model: onnx.ModelProto) -> bytes:
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.graph.output[1:]
    return bytes(plain.SerializeToString())


def run_ratio(plain: bytes, scored: bytes, rows: int, repeats: int = 400) -> dict[str, float]:
    x = np.random.default_rng(0).random((rows, 1, 28, 28), dtype=np.float32)
    times: dict[str, list[float]] = {"plain": [], "scored": []}
    sessions = {"plain": session(plain), "scored": session(scored)}
    for _ in range(repeats):
        for name, runner in sessions.items():
            began = time.perf_counter()
            runner.run(None, {"input": x})
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) * 1e6 for name, values in times.items()}
    return {
        "plain_us": round(medians["plain"], 1),
        "scored_us": round(medians["scored"], 1),
        "ratio": round(medians["scored"] / medians["plain"], 2),
    }


def measure(options: argparse.Namespace, state: Path) -> dict[str, Any]:
    data = bundles.large_digits()
    plain = plain_graph(bundles.convolutional(data))
    scored = bundles.prepared("timing").model.SerializeToString()
    bundles.publish(state / "registry", name="timing")
    results: dict[str, Any] = {
        f"onnxruntime_batch_{rows}": run_ratio(plain, scored, rows) for rows in (1, 32)
    }
    ports = free_port(), free_port()
    env = {
        "HOLDFAST_STATE": str(state),
        "HOLDFAST_PORT": str(ports[0]),
        "HOLDFAST_WORKERS": str(WORKERS),
        "HOLDFAST_THREADS": str(THREADS),
        "HOLDFAST_LOG_LEVEL": "warning",
    }
    (state / "plain.onnx").write_bytes(plain)
    numbers = (str(ports[1]), str(WORKERS), str(THREADS))
    with (
        server("service.gunicorn_conf", port=ports[0], env=env) as ours,
        server(
            "benchmarks.plain_app", str(state / "plain.onnx"), *numbers, port=ports[1], env={}
        ) as theirs,
    ):
        for rows, count in ((1, options.requests), (32, options.requests // 10)):
            request = infer_request(rows)
            for port in ports:
                send(port, request, max(200, count // 4))
            rounds = [
                (cost_ms(ports[0], ours, request, count), cost_ms(ports[1], theirs, request, count))
                for _ in range(options.rounds)
            ]
            results[f"cpu_per_request_{rows}_rows"] = {
                "holdfast_ms": round(statistics.median(r[0] for r in rounds), 3),
                "plain_ms": round(statistics.median(r[1] for r in rounds), 3),
                "ratio": round(statistics.median(r[0] / r[1] for r in rounds), 2),
            }
        if options.memory_requests:
            request, quarter = infer_request(1), options.memory_requests // 4
            grown = [memory_mib(ours)]
            for _ in range(4):
                send(ports[0], request, quarter)
                grown.append(memory_mib(ours))
            results["worker_memory_mib"] = grown
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-requests", type=int, default=200_000, help="0: leave it out")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    for name, value in results.items():
        print(f"{name:28} {json.dumps(value)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
