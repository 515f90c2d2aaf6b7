"""CPU time of a certificate: python benchmarks/certify.py

Prints, for a 28x28 network of four convolutions with random weights in the instrumented graph, the
CPU milliseconds of one certificate at several numbers of samples, beside those of the model alone
on as many rows in the same batches, and the largest radius that so many samples can give.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from models.evaluation.certify import BATCH, certify, largest_radius
from models.versions.registry import Registry
from models.versions.runner import Runner
from tests import bundles

SIGMA, ALPHA, ROUNDS = 0.25, 0.001, 5


def milliseconds(call: Callable[[], object]) -> float:
    """The best CPU time of some calls."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times) * 1e3


def main() -> None:
    """Print one line per number of samples."""
    with tempfile.TemporaryDirectory() as folder:
        version = bundles.publish(Path(folder), name="timing")
        runner = Runner(Registry(Path(folder)).open("digits", str(version)))
    schema, x = runner.manifest.input, bundles.large_digits().test.x
    print(f"{'samples':>8}{'ms':>9}{'model ms':>10}{'ratio':>7}{'largest radius':>16}")
    for samples in (100, 1000, 10_000):
        total = samples + 100
        rows = np.resize(x, (total, *schema.shape))
        ours = milliseconds(
            lambda n=samples: certify(runner, schema, x[0], sigma=SIGMA, samples=n, alpha=ALPHA)
        )
        model = milliseconds(
            lambda r=rows: [runner.run(r[a : a + BATCH]) for a in range(0, len(r), BATCH)]
        )
        radius = largest_radius(SIGMA, samples, ALPHA)
        print(f"{samples:>8}{ours:>9.1f}{model:>10.1f}{ours / model:>7.2f}{radius:>16.3f}")


if __name__ == "__main__":
    main()
