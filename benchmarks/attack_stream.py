"""When the streams of suspicion and likelihood see attacks, and whether noise moves the slow one.

    python -m benchmarks.attack_stream [DATA] --load FILE [--requests 4000] [--streams 3]

Fits the heads on the net, scores test rows that are clean, corrupted and attacked, and draws
streams of them: a thousand clean requests, then a mix. Prints the median number of requests after
which the quick and the slow stream alarm at c = 1e6 ("-": not within the stream), and every stream
of benign rows in which the slow one did. Rows are drawn from few test rows with replacement, so
that what is wrong about the reference shows as it would in a long stream.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.perturbation_data import judged
from models import data
from models.base.allocation import keep_freed_memory
from models.nets import export, factories
from models.statistics.arrays import FloatArray, IntArray
from models.training.presets import preset
from models.versions.judging import ThreatModel
from monitoring.counting.likelihood_cells import likelihood_cells
from monitoring.evidence.perturbation.watch import SPEEDS, PerturbationWatch
from monitoring.scoring.instrument import Instrumented, instrument, run_graph
from monitoring.scoring.material import Victim, head_material

C, LOOK, BURN_IN = 1e6, 60, 1020
SHARES = (0.02, 0.05, 0.1, 0.3)
ATTACKED = (
    ("pgd", 1.0),
    ("apgd-dlr", 1.0),
    ("square", 1.0),
    ("3 pixels", 0.0),
    ("patch of 3", 0.0),
)
Delays = list[int | None]


class Streams:
    """Streams drawn from the cells of test rows."""

    def __init__(self, made: Instrumented, schema: data.DataSet, seed: int) -> None:
        self._made, self._schema = made, schema.schema
        self._rng = np.random.default_rng(seed)

    def cells(self, x_unit: FloatArray) -> IntArray:
        """The cells `(N,)` of unit-range images."""
        x = self._schema.from_unit(x_unit)
        outputs = ("suspicion", "perturbation_likelihood")
        suspicion, likelihood = run_graph(self._made.model, self._schema, x, *outputs)
        return likelihood_cells(suspicion, likelihood, self._made.calibration.suspicion_edges)

    def run(
        self, usual: IntArray, other: IntArray, share: float, requests: int, burn_in: int
    ) -> dict[str, int | None]:
        """After how many requests of the mix each stream alarms; negative: before it began."""
        watch = PerturbationWatch(self._made.reference, c=C)
        found: dict[str, int | None] = dict.fromkeys(SPEEDS)
        for start in range(0, burn_in + requests, LOOK):
            mixed = self._rng.random(LOOK) < (share if start >= burn_in else 0.0)
            drawn = np.where(mixed, self._rng.choice(other, LOOK), self._rng.choice(usual, LOOK))
            watch.update(np.bincount(drawn, minlength=watch.cells), 0.0)
            alarms = {"quick": watch.quick.alarm is not None, "slow": watch.slow.alarm}
            for speed, alarm in alarms.items():
                if alarm and found[speed] is None:
                    found[speed] = start + LOOK - burn_in
            if found["slow"] is not None:
                break
        return found


def median(delays: Delays) -> str:
    """The median, where a stream that saw nothing counts as endless."""
    value = float(np.median([np.inf if d is None else d for d in delays]))
    return "-" if np.isinf(value) else f"{value:.0f}"


def made_of(
    asked: argparse.Namespace, rows: data.DataSet, eps: float
) -> tuple[torch.nn.Module, Instrumented]:
    """The net of `--load`, and its graph with the heads."""
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes)))
    net = export.load_weights(net, asked.load.read_bytes()).eval()
    plain = export.to_onnx(net, rows.schema)
    victim = Victim(rows.schema, ThreatModel(eps=eps), net, plain)
    material, source = head_material(victim, rows, None, asked.seed)
    made = instrument(plain, rows.schema, rows.classes, material, source=source, seed=asked.seed)
    return net, made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--load", type=Path, required=True, help="weights of the preset's net")
    parser.add_argument("--rows", type=int, default=200, help="test rows that are attacked")
    parser.add_argument("--requests", type=int, default=4000, help="of a stream")
    parser.add_argument("--streams", type=int, default=3, help="per setting")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = data.load(asked.data)
    eps = preset(rows.schema, len(rows.train)).threat.eps
    net, made = made_of(asked, rows, eps)
    test, streams = judged(net, rows, eps, asked.rows), Streams(made, rows, asked.seed)
    usual = streams.cells(rows.schema.to_unit(rows.test.x))
    attacks_table(streams, usual, {key: test.attacked[key] for key in ATTACKED}, asked)
    benign_table(streams, usual, test.corrupted, asked)


def attacks_table(
    streams: Streams,
    usual: IntArray,
    attacked: dict[tuple[str, float], FloatArray],
    asked: argparse.Namespace,
) -> None:
    print("| attack | share | quick | slow |\n|---|---|---|---|")
    for (name, _), x in attacked.items():
        cells = streams.cells(x)
        for share in SHARES:
            found = [
                streams.run(usual, cells, share, asked.requests, BURN_IN)
                for _ in range(asked.streams)
            ]
            quick, slow = (median([each[speed] for each in found]) for speed in SPEEDS)
            print(f"| {name} | {share:.0%} | {quick} | {slow} |", flush=True)


def benign_table(
    streams: Streams,
    usual: IntArray,
    corrupted: dict[tuple[str, int], npt.NDArray[np.float32]],
    asked: argparse.Namespace,
) -> None:
    clean = [streams.run(usual, usual, 0.0, asked.requests, 0) for _ in range(4 * asked.streams)]
    alarms = {speed: sum(each[speed] is not None for each in clean) for speed in SPEEDS}
    print(f"\nclean: {len(clean)} streams of {asked.requests}; alarms: {alarms}")
    tried = loud = 0
    for (kind, severity), x in corrupted.items():
        cells = streams.cells(x)
        for share in (0.1, 1.0):
            found = streams.run(usual, cells, share, asked.requests, 0)
            tried += 1
            if found["slow"] is not None:
                loud += 1
                print(f"slow alarm under {kind} at {severity}, {share:.0%} of the requests")
    print(f"benign: {tried} streams of {asked.requests}, slow alarms in {loud}")


if __name__ == "__main__":
    main()
