"""`python -m benchmarks.cell_cost`: what cells per predicted class and repeats cost.

- CPU time of a run of the scored graph, with ranks over all classes and with ranks per class, and
  of the cells alone (a graph that takes scores and logits), at 1 and 32 rows.
- Bytes of `/metrics`, its share of a worker's counter file, and the watcher's time to read it.
- Time to look for repeats and to count, at 1 and 32 rows.

The variants take turns in one process; the median of the rounds is printed. Trust the ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.versions.runner import session
from monitoring.scoring import class_ranks
from monitoring.scoring.cells import Cells
from monitoring.scoring.graph import GraphBuilder
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
    graph.output("cells", found, "batch", len(cells.channels), integer=True)
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


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """CPU time of a call."""
    call()
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        for _ in range(20):
            call()
        calls += 20
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="CPU time of a round")
    chosen = parser.parse_args()
    graph_times(chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
