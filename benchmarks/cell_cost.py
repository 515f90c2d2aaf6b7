"""`python -m benchmarks.cell_cost`: what cells per predicted class and repeats cost.

- CPU time of a run of the scored graph, with ranks over all classes and with ranks per class, and
  of the cells alone (a graph that takes scores and logits), at 1 and 32 rows.
- Bytes of `/metrics`, its share of a worker's counter file, and the watcher's time to read it.
- Time to look for repeats and to count, at 1 and 32 rows.

The variants take turns in one process; the median of the rounds is printed. Trust the ratios.
"""

import argparse
import itertools
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from models.versions.runner import session
from models.versions.schema import Calibration, ChannelInfo, InputSchema
from monitoring.counting.counters import read_page
from monitoring.counting.metrics import Metrics, ModelMetrics
from monitoring.counting.prints import row_prints
from monitoring.counting.repeat_memory import RepeatMemory
from monitoring.counting.repeats import RepeatCheck
from monitoring.counting.shared_counters import exposition, share_counters
from monitoring.scoring import class_ranks
from monitoring.scoring.cells import Cells
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.instrument import Instrumented
from tests import bundles

ROWS = (1, 32)
SCORES, CLASSES, REFERENCE = 6, 10, 5000
GROUPS: Mapping[str, int] = {"one group": 10**9, "per class": 5}  # rows that a class needs


def cells_alone(cells: Cells) -> bytes:
    """A graph that takes `(N, S + C)` scores and logits, and answers the cells."""
    width = SCORES + CLASSES
    shape = ["batch", width]
    plain = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "cells",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, shape)],
    )
    opset = helper.make_opsetid("", 18)
    graph = GraphBuilder(helper.make_model(plain, opset_imports=[opset], ir_version=9))
    scores = graph.op("Slice", "same", *(graph.const([k]) for k in (0, SCORES, 1)))
    logits = graph.op("Slice", "same", *(graph.const([k]) for k in (SCORES, width, 1)))
    found = cells.emit(graph, scores, scores, logits)
    graph.output("cells", found, "batch", len(cells.channels), kind=TensorProto.INT32)
    built: onnx.ModelProto = graph.build()
    return bytes(built.SerializeToString())


def made_cells(least: int) -> Cells:
    """Cells of random scores of ten classes."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(REFERENCE, SCORES)).astype(np.float32)
    predicted = rng.integers(0, CLASSES, REFERENCE)
    names = [f"score_{k}" for k in range(SCORES)]
    with mock.patch.object(class_ranks, "LEAST_ROWS", least):
        return Cells.fit(names, scores, predicted, tuple(map(str, range(CLASSES))))


def microseconds(call: Callable[[], object], seconds: float, at_once: int = 20) -> float:
    """CPU time of a call; the clock is read after every `at_once` calls."""
    call()
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        for _ in range(at_once):
            call()
        calls += at_once
    return 1e6 * (time.process_time() - began) / calls


def compare(calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> None:
    """Print the median time of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(microseconds(call, seconds))
    for name, each in times.items():
        print(f"| {name} | {statistics.median(each):.1f} |", flush=True)


def graph_times(rounds: int, seconds: float) -> None:
    """Runs of the scored graph (28 x 28, four convolutions) and of its cells alone."""
    data = bundles.large_digits()
    plain = bundles.convolutional(data)
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[], object]] = {}
    for name, least in GROUPS.items():
        with mock.patch.object(class_ranks, "LEAST_ROWS", least):
            scored = session(bundles.instrumented(data, plain).model.SerializeToString())
        alone = session(cells_alone(made_cells(least)))
        for rows in ROWS:
            x = data.test.x[:rows]
            z = rng.normal(size=(rows, SCORES + CLASSES)).astype(np.float32)
            calls[f"scored graph, {name}, {rows} rows"] = lambda s=scored, x=x: s.run(
                None, {data.schema.name: x}
            )
            calls[f"cells alone, {name}, {rows} rows"] = lambda s=alone, z=z: s.run(
                ["cells"], {"x": z}
            )
    print("| what | us |\n|---|---|")
    compare(dict(sorted(calls.items())), rounds, seconds)


def versions() -> Mapping[str, tuple[ChannelInfo, ...]]:
    """Channels of versions of six scores: without groups, of ten classes, of as many as may be."""
    made = {
        "one group": made_cells(10**9).channels,
        "10 classes": made_cells(5).channels,
    }
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(REFERENCE, SCORES)).astype(np.float32)
    predicted = rng.integers(0, 40, REFERENCE)
    names = tuple(map(str, range(1000)))
    made["1000 classes, 32 with ranks"] = Cells.fit(
        [f"score_{k}" for k in range(SCORES)], scores, predicted, names
    ).channels
    return made


def pages() -> None:
    """What the cells of a version weigh in `/metrics`, in the counter file and in the watcher."""
    print("| version | cells | bytes of /metrics | ms to render | bytes of counters | ms to read |")
    print("|---|---|---|---|---|---|")
    for name, channels in versions().items():
        with tempfile.TemporaryDirectory() as folder:
            line = subprocess.run(
                [sys.executable, "-m", "benchmarks.cell_cost", "--page", folder],
                input=msgspec.json.encode(channels), stdout=subprocess.PIPE, check=True,
            ).stdout.decode().strip()  # fmt: skip
        print(f"| {name} | {sum(len(c.labels) for c in channels)} | {line} |", flush=True)


def page(folder: Path) -> None:
    """One line of `pages`, in a process of its own: the library counts in one folder only."""
    channels = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[ChannelInfo, ...])
    share_counters(folder, 0)
    metrics, classes = Metrics(), channels[-1].labels
    schema = InputSchema("input", (1, 8, 8), "float32", 0.0, 1.0, "image")
    facts = Calibration(5000, 0.01, 0.5, 0.5, "", 1.0, 0.03, 1)
    made = Instrumented(onnx.ModelProto(), channels, {}, facts)
    ModelMetrics(metrics, made.manifest("digits", schema, classes, 1))
    render = exposition(metrics.registry, folder)
    text = render().decode()
    used = struct.unpack("i", (folder / "counter_0.db").read_bytes()[:4])[0]
    rendered, read = (
        1e-3 * microseconds(call, 1.0, 1) for call in (render, lambda: read_page(text))
    )
    print(f"{len(text)} | {rendered:.1f} | {used} | {read:.1f}")


def repeat_times(rounds: int, seconds: float) -> None:
    """Looking for repeats of 28 x 28 images, with prints that are known and with new ones."""
    check = RepeatCheck("m", 40_000, frozenset(), RepeatMemory())
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[], object]] = {}
    for rows in ROWS:
        parts = itertools.cycle([rng.random((rows, 1, 28, 28), np.float32) for _ in range(500)])
        known = itertools.cycle([row_prints(next(parts), b"") for _ in range(500)])
        x = next(parts)
        calls[f"prints, {rows} rows"] = lambda parts=parts: row_prints(next(parts), b"secret")
        calls[f"fresh, prints known, {rows} rows"] = lambda x=x, known=known: check.fresh(
            "a", x, next(known)
        )
    print("| what | us |\n|---|---|")
    compare(calls, rounds, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="CPU time of a round")
    parser.add_argument("--only", choices=("graph", "pages", "repeats"))
    parser.add_argument("--page", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.page is not None:
        page(chosen.page)
        return
    parts: dict[str, Callable[[], None]] = {
        "graph": lambda: graph_times(chosen.rounds, chosen.seconds),
        "pages": pages,
        "repeats": lambda: repeat_times(chosen.rounds, chosen.seconds),
    }
    for name, run in parts.items():
        if chosen.only in (None, name):
            run()


if __name__ == "__main__":
    main()
