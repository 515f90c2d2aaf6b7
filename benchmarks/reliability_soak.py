"""An hour's worth of everything in ten minutes; then the scrape after 200 kills.

All protocols at once, right and wrong requests, labels, scrapes, a champion replaced every 20 s, a
worker killed every 30 s: always the younger one, so that the older one shows what grows. Then 200
workers are killed under a light load, and `/metrics` is timed.

    python -m benchmarks.reliability_soak [--seconds N] [--kills N]
"""

import argparse
import itertools
import json
import math
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import stats

from benchmarks.reliability import (
    MODEL,
    WORKERS,
    Answer,
    Client,
    Clients,
    Service,
    conditions,
    digit,
    service,
    table,
    wait_until,
)
from models.versions.registry import Registry
from tests import bundles

MIB = 2**20
BINS = 30
SETTLING = 0.5  # of the time, before growth is looked for
Ask = Callable[[Client, int], Answer]


def files_open(run: Service) -> int:
    """Descriptors of all workers together."""
    total = 0
    for each in run.workers:
        with suppress(psutil.Error):
            total += each.num_fds()
    return total


def v2_json(client: Client, index: int) -> Answer:
    x = bundles.digits().test.x[index % 300]
    tensor = {"name": "input", "shape": [1, *x.shape], "datatype": "FP32"}
    tensor["data"] = x.ravel().tolist()
    return client.ask("POST", f"/v2/models/{MODEL}/infer", {"inputs": [tensor]})


def v2_binary(client: Client, index: int) -> Answer:
    x = bundles.digits().test.x[index % 300 : index % 300 + 4].astype(np.float32)
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    return client.ask("POST", f"/v2/models/{MODEL}/infer", head + x.tobytes(), **length)


def labelled(client: Client, index: int) -> Answer:
    name = f"soak-{time.time_ns()}"
    asked = client.ask("POST", "/predict", digit(index), X_Request_Id=name)
    if asked.status != 200:
        return asked
    return client.ask("POST", "/feedback", {"id": name, "label": "1"})


WRONG: tuple[tuple[str, str, Any, int], ...] = (
    ("POST", "/predict", b"{", 400),
    ("POST", "/predict", {"instances": [[1, 2]]}, 400),
    ("POST", "/feedback", {"id": "a b", "label": "1"}, 400),
    ("POST", "/v2/models/nobody/infer", {"inputs": []}, 404),
    ("GET", "/nowhere", None, 404),
    ("DELETE", "/predict", None, 405),
)


def wrong(client: Client, index: int) -> Answer:
    method, path, body, status = WRONG[index % len(WRONG)]
    answer = client.ask(method, path, body)
    return replace(answer, status=200) if answer.status == status else answer


LOADS: dict[str, tuple[Ask, float]] = {
    "predict": (lambda c, k: c.ask("POST", "/predict", digit(k)), 0.02),
    "predict 32": (lambda c, k: c.ask("POST", "/predict", digit(k, 32)), 0.2),
    "v1": (lambda c, k: c.ask("POST", f"/v1/models/{MODEL}:predict", digit(k)), 0.04),
    "v2 json": (v2_json, 0.02),
    "v2 binary": (v2_binary, 0.02),
    "feedback": (labelled, 0.1),
    "wrong": (wrong, 0.05),
    "metrics": (lambda c, k: c.ask("GET", "/metrics"), 2.0),
}


class Load(Clients):
    """Every kind of request at its own pace; what came back, counted."""

    def __init__(self, port: int, kinds: Sequence[str] = tuple(LOADS)) -> None:
        self.seen = {kind: Counter[int]() for kind in kinds}
        self._port, self._stop = port, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]

    def _run(self, kind: str) -> None:
        ask, pause = LOADS[kind]
        client = Client(self._port)
        for index in itertools.count():
            if self._stop.wait(pause):
                return
            self.seen[kind][ask(client, index).status] += 1


def kill_youngest(run: Service) -> None:
    """End the younger worker with SIGKILL and wait until another is there."""
    workers = sorted(run.workers, key=lambda each: each.create_time())
    if len(workers) == WORKERS:
        workers[-1].send_signal(signal.SIGKILL)


def growth(at: Sequence[float], values: Sequence[float]) -> str:
    """Slope per hour with a 95 % interval, over means of equal parts after the settling."""
    kept = [(t, v) for t, v in zip(at, values, strict=True) if t > SETTLING * at[-1]]
    parts = [part for part in np.array_split(np.array(kept), BINS) if len(part)]
    t, v = np.array([part.mean(axis=0) for part in parts]).T
    fit = stats.linregress(t / 3600, v)
    half = fit.stderr * stats.t.ppf(0.975, len(t) - 2)
    return f"{fit.slope:+.1f} ± {half:.1f}" if math.isfinite(half) else f"{fit.slope:+.1f}"


def soak(run: Service, seconds: float) -> tuple[list[list[Any]], dict[str, Counter[int]]]:
    """Rows: process, memory and files at first, their means in each fifth, and their growth."""
    registry = Registry(run.state / "registry")
    versions = itertools.cycle([bundles.publish(registry.root, bend=0.5), 1])
    eldest = min(run.workers, key=lambda each: each.create_time())
    watched = {"master": psutil.Process(run.process.pid), "eldest worker": eldest}
    at: list[float] = []
    memory: dict[str, list[float]] = {name: [] for name in watched}
    files: dict[str, list[float]] = {name: [] for name in watched}
    began = time.monotonic()
    with Load(run.port) as load:
        for tick in itertools.count(1):
            time.sleep(1)
            if (now := time.monotonic() - began) > seconds:
                break
            at.append(now)
            for name, process in watched.items():
                memory[name].append(process.memory_info().rss / MIB)
                files[name].append(process.num_fds())
            if tick % 30 == 0:
                kill_youngest(run)
            if tick % 20 == 0:
                current = registry.aliases(MODEL).champion
                version = next(v for v in versions if v != current)
                registry.promote(MODEL, version, expected=current, actor="soak", reason="soak")
    rows = []
    for name in watched:
        for unit, values in (("memory MiB", memory[name]), ("files open", files[name])):
            fifths = " ".join(f"{part.mean():.1f}" for part in np.array_split(values, 5))
            rows.append([name, unit, f"{values[0]:.1f}", fifths, growth(at, values)])
    return rows, load.seen


def scrape_ms(run: Service, times: int = 20) -> list[str]:
    """Median and largest time of `/metrics`, and the processor time of the workers for one."""
    before = processor_seconds(run)
    taken = [run.ask("GET", "/metrics").seconds * 1000 for _ in range(times)]
    used = (processor_seconds(run) - before) / times * 1000
    return [f"{value:.0f}" for value in (statistics.median(taken), max(taken), used)]


def processor_seconds(run: Service) -> float:
    """User and system time of all workers."""
    return sum(sum(each.cpu_times()[:2]) for each in run.workers)


def restarts(run: Service, kills: int) -> list[list[Any]]:
    """Scrapes before and after so many workers were killed under a light load."""
    folder = run.state / "run" / "metrics"
    rows, broken = [], Counter[int]()
    for name in ("before", f"after {kills} kills"):
        if name != "before":
            with Load(run.port, ("predict",)) as load:
                for kill in range(kills):
                    loaded = run.log.count("model_loaded")
                    os.kill(
                        sorted(each.pid for each in run.workers)[kill % WORKERS], signal.SIGKILL
                    )
                    wait_until(lambda n=loaded: run.log.count("model_loaded") > n, 60)
            broken = load.seen["predict"]
            wait_until(run.ready, 60)
            time.sleep(3)
        taken = scrape_ms(run)
        size = len(run.ask("GET", "/metrics").body) / 1024
        files = len(list(folder.glob("*.db")))
        rows.append([name, *taken, f"{size:.0f}", files, dict(broken)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    print(conditions())
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "state") as run:
        if options.seconds:
            rows, seen = soak(run, options.seconds)
            heads = ("process", "", "first", "mean of each fifth", "growth per hour, 95 %")
            print(table(heads, rows))
            counted = [[kind, sum(c.values()), dict(sorted(c.items()))] for kind, c in seen.items()]
            print(table(("requests", "number", "by status; 0: the connection broke"), counted))
        heads = ("scrape", "median ms", "largest ms", "CPU ms", "KiB", "files", "predictions")
        print(table(heads, restarts(run, options.kills)))
        faults = [line for line in run.log.splitlines() if "internal_error" in line]
    print(f"internal errors in the log: {len(faults)}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
