"""The whole loop for real: shifts that come, labels that lie or are late, and what became of it.

    python -m benchmarks.lifecycle --into lifecycle.json [--only rotate] [--only "late labels"]
        [--rate 40] [--patience 1800] [--quick] [--again] [--list]

Each scenario starts `holdfast up` in a state of its own and drives it over HTTP by ten clients.
Results are added to the file as they come, and a scenario that is in it is not run again, so a long
run can be interrupted. Minutes a scenario: it trains. Accuracies are of rows that neither the first
version nor the loop was trained on; seconds are by the clock, so a busy machine makes them longer.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.lifecycle.runs import Result, run
from benchmarks.lifecycle.scenarios import QUIET_SECONDS, SCENARIOS, Scenario
from benchmarks.lifecycle.table import render_table
from models import data
from models.base.files import write_atomic

QUICK = ("rotate", "swapped labels")


def main() -> None:
    """Run what is asked for and is not in the file, and print all that is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, help="may be given repeatedly")
    parser.add_argument("--rate", type=float, help="requests a second, instead of the scenario's")
    parser.add_argument(
        "--patience", type=float, help="seconds for the loop to answer a shift; a busy machine's"
    )
    parser.add_argument("--seed", type=int, default=1, help="of rows, clients and noise")
    parser.add_argument("--quick", action="store_true", help="short waits, less training, two runs")
    parser.add_argument("--again", action="store_true", help="also what is in the file already")
    parser.add_argument("--list", action="store_true", help="only the names of the scenarios")
    parser.add_argument("--into", type=Path, default=Path("lifecycle.json"), help="results so far")
    parser.add_argument("--scratch", type=Path, help="directory for states; a temporary one if not")
    options = parser.parse_args()
    if options.list:
        print("\n".join(names))
        return
    wanted = options.only or (list(QUICK) if options.quick else names)
    with TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        for scenario in SCENARIOS:
            if scenario.name not in wanted:
                continue
            scenario = adapt(scenario, options.rate, options.patience)
            done = read_results(options.into)
            key = (scenario.name, scenario.rate)
            if not options.again and any((r.name, r.rate) == key for r in done):
                continue
            print(f"{scenario.name} at {scenario.rate:g} a second ...", file=sys.stderr, flush=True)
            state = scratch / scenario.name.replace(" ", "-")
            found = run(
                scenario, make_base(scratch), state, data.load("digits"),
                quick=options.quick, seed=options.seed,
            )  # fmt: skip
            kept = [r for r in read_results(options.into) if (r.name, r.rate) != key]
            write_atomic(options.into, msgspec.json.format(msgspec.json.encode([*kept, found])))
    print(render_table(read_results(options.into)))


def adapt(scenario: Scenario, rate: float | None, patience: float | None) -> Scenario:
    """The scenario at another rate, and with other patience with what the loop should answer."""
    phases = [
        dataclasses.replace(p, seconds=patience) if patience and p.seconds > QUIET_SECONDS else p
        for p in scenario.phases
    ]
    return dataclasses.replace(scenario, rate=rate or scenario.rate, phases=tuple(phases))


def read_results(path: Path) -> list[Result]:
    """What is in the file; nothing where there is none."""
    return msgspec.json.decode(path.read_bytes(), type=list[Result]) if path.exists() else []


def make_base(scratch: Path) -> Path:
    """A state with a first version of the digits, trained once as `holdfast up` trains it."""
    base = scratch / "base"
    if not (base / "registry").exists():
        settings = {"HOLDFAST_STATE": str(base), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "service", "train", "digits"]
        subprocess.run(command, env=os.environ | settings, check=True)
    return base


if __name__ == "__main__":
    main()
