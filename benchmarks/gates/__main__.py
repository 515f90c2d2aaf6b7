"""Gates against poison, small steps and honest shifts (docs/benchmarks.md).

    OMP_NUM_THREADS=1 python -m benchmarks.gates [--part simulated|windows|trained|tables|mnist ...]
        [--seeds 3] [--draws 4] [--poisoned 2] [--trained 2] [--on wine] [--keep FOLDER]

Each seed deals the data set anew; windows are drawn from a part that no version has seen, and
moved; a poison is put in, or not. What is asked is the loop's own function, with a version that the
program has made. Seeds are others than those that thresholds and moves were set on (0 to 5).
`--keep` is a registry in which versions of an earlier run are found again.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.gates.poisons import (
    POISONS,
    SPOT,
    TABLE_POISONS,
    TABLE_TRAINED,
    TRAINED,
    Poison,
)
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
from benchmarks.gates.windows import FAR, NEAR, TABLE_NEAR
from models import data
from models.data import DataSet
from models.training.recipe import Recipe

FIRST_SEED = 6


def main() -> None:
    """Measure the parts that are asked for, and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="all of them if not given")
    parser.add_argument("--on", action="append", help="a data set by name; all if not given")
    parser.add_argument("--seeds", type=int, default=3, help="anchors")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument(
        "--draws", type=int, default=4, help="honest windows of each kind and anchor"
    )
    parser.add_argument("--poisoned", type=int, default=2, help="poisoned ones")
    parser.add_argument("--trained", type=int, default=2, help="anchors that are trained on")
    parser.add_argument("--epochs", type=int, default=20, help="of a retraining")
    parser.add_argument(
        "--doubtful", action="store_true", help="train where a person is asked, too"
    )
    parser.add_argument("--poison", action="append", help="of those that are trained; all if not")
    parser.add_argument("--keep", type=Path, help="a folder for the versions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        options.keep = options.keep or Path(folder)
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
    draws = (options.draws, options.poisoned)
    if not options.on or "digits" in options.on:
        digits = data.load("digits")
        judge_windows(options.keep, digits, DIGITS_RECIPE, seeds, draws, NEAR, FAR, POISONS)
    for table in _tables_of(options):
        judge_windows(
            options.keep, table, TABLE_RECIPE, seeds, draws, TABLE_NEAR, (), TABLE_POISONS
        )


def _train(
    options: argparse.Namespace,
    source: DataSet,
    recipe: Recipe,
    shift: str,
    poisons: dict[str, Poison],
    anchors: int,
) -> None:
    seeds = range(options.first_seed, options.first_seed + anchors)
    if options.poison:
        poisons = {name: put for name, put in poisons.items() if name in options.poison}
    train_on_poison(
        options.keep, source, recipe, seeds, shift, poisons, draws=options.poisoned,
        doubtful=options.doubtful, epochs=options.epochs,
    )  # fmt: skip


def _trained(options: argparse.Namespace) -> None:
    digits = data.load("digits")
    _train(options, digits, DIGITS_RECIPE, "rotate 15", TRAINED, options.trained)


def _tables(options: argparse.Namespace) -> None:
    for table in _tables_of(options):
        _train(options, table, TABLE_RECIPE, "noise .05", TABLE_TRAINED, options.trained)


def _mnist(options: argparse.Namespace) -> None:
    source, seeds = load_mnist(), range(options.first_seed, options.first_seed + 1)
    if source is not None:
        draws = (options.draws, options.poisoned)
        judge_windows(options.keep, source, MNIST_RECIPE, seeds, draws, NEAR[:3], (), POISONS)
        _train(options, source, MNIST_RECIPE, "rotate 15", SPOT, 1)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "simulated": _simulated, "windows": _windows, "trained": _trained, "tables": _tables,
    "mnist": _mnist,
}  # fmt: skip


if __name__ == "__main__":
    main()
