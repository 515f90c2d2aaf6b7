"""CPU time of the corruption suites: python benchmarks/corruptions.py [images]

Prints the CPU seconds of all five severities per group, for random images of the sizes of digits,
MNIST and CIFAR-10 (1000 images unless told otherwise) and for a fiftieth as many of 224x224 colour.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from models.corruptions import SEVERITIES, suite
from models.versions.schema import InputSchema


def seconds(shape: tuple[int, int, int], count: int) -> dict[str, float]:
    """CPU seconds of every corruption of the full suite."""
    x = np.random.default_rng(0).random((count, *shape)).astype(np.float32)
    taken = {}
    for kind in suite(InputSchema("x", shape, "uint8", 0, 255, "image")):
        start, rng = time.process_time(), np.random.default_rng(0)
        for severity in SEVERITIES:
            kind.apply(x, severity, rng)
        taken[f"{kind.group}/{kind.name}"] = time.process_time() - start
    return taken


def main() -> None:
    """Print one line per size and group, and the slowest kind of each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{'shape':14}{'images':>7}  {'group':18}{'kinds':>6}{'CPU s':>8}  slowest")
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 224, 224)):
        images = max(1, count // 50) if shape[1] == 224 else count
        groups: dict[str, dict[str, float]] = defaultdict(dict)
        for kind, taken in seconds(shape, images).items():
            group, _, name = kind.partition("/")
            groups[group][name] = taken
        for group, kinds in groups.items():
            slowest = max(kinds, key=lambda name: kinds[name])
            told = f"{slowest} {kinds[slowest]:.2f}"
            label = "x".join(map(str, shape))
            total = sum(kinds.values())
            print(f"{label:14}{images:>7}  {group:18}{len(kinds):>6}{total:>8.2f}  {told}")


if __name__ == "__main__":
    main()
