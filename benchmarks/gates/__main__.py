"""Gates against poison, small steps and honest shifts (docs/benchmarks.md).

    OMP_NUM_THREADS=1 python -m benchmarks.gates [--part simulated|windows|trained|tables|mnist ...]
        [--seeds 3] [--draws 4] [--trained 2] [--on wine]

Windows are drawn from held-out rows and moved; a poison is put in, or not. Seeds are others than
those that thresholds and moves were set on (0 to 5).
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.gates.refereed import judge_windows
from benchmarks.gates.simulated import simulate_attempts, simulate_canary, simulate_classes
from benchmarks.gates.sources import (
    DIGITS_RECIPE,
    MNIST_RECIPE,
    TABLE_RECIPE,
    load_mnist,
    load_tables,
)
from benchmarks.gates.trained import train_on_poison
from benchmarks.gates.windows import FAR, NEAR, POISONS, TABLE_NEAR, TABLE_POISONS
from models import data
from models.data import DataSet

FIRST_SEED = 6


def main() -> None:
    """Measure the parts that are asked for, and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="all of them if not given")
    parser.add_argument("--on", action="append", help="a data set by name; all if not given")
    parser.add_argument("--seeds", type=int, default=3, help="anchors")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--draws", type=int, default=4, help="windows of each kind and anchor")
    parser.add_argument("--trained", type=int, default=2, help="anchors that are trained on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.part or list(PARTS):
        started = time.process_time()
        PARTS[part](options)
        print(f"{part}: {time.process_time() - started:.0f} CPU-s", flush=True)


def _simulated(options: argparse.Namespace) -> None:
    simulate_attempts()
    simulate_classes()
    simulate_canary()


def _tables_of(options: argparse.Namespace) -> list[DataSet]:
    return [t for t in load_tables() if not options.on or t.name in options.on]


def _windows(options: argparse.Namespace) -> None:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if not options.on or "digits" in options.on:
        digits = data.load("digits")
        judge_windows(digits, DIGITS_RECIPE, seeds, options.draws, NEAR, FAR, POISONS)
    for table in _tables_of(options):
        judge_windows(table, TABLE_RECIPE, seeds, options.draws, TABLE_NEAR, (), TABLE_POISONS)


def _trained(options: argparse.Namespace) -> None:
    seeds = range(options.first_seed, options.first_seed + options.trained)
    train_on_poison(data.load("digits"), DIGITS_RECIPE, seeds, "rotate 25")


def _tables(options: argparse.Namespace) -> None:
    seeds = range(options.first_seed, options.first_seed + options.trained)
    for table in _tables_of(options):
        train_on_poison(table, TABLE_RECIPE, seeds, "noise .05", honest=4)


def _mnist(options: argparse.Namespace) -> None:
    source, seeds = load_mnist(), range(options.first_seed, options.first_seed + 1)
    if source is not None:
        judge_windows(source, MNIST_RECIPE, seeds, options.draws, NEAR[:3], (), POISONS)
        train_on_poison(source, MNIST_RECIPE, seeds, "rotate 15")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "simulated": _simulated, "windows": _windows, "trained": _trained, "tables": _tables,
    "mnist": _mnist,
}  # fmt: skip


if __name__ == "__main__":
    main()
