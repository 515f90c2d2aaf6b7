"""`python -m benchmarks.drift_tables`: false alarms on clean traffic of small tables with repeats.

Each table is drawn from a law of its own, goes through `models.data.build` (labels, parts, schema),
gets a model and the score heads of the product, and then sees 20,000 fresh requests of the same
law: the served graph says the cells of every request, and the watcher's evidence weighs their
counts, look by look, without a discount for bursts (eta = 1). The promise is P(an alarm within T
requests) <= T / c, here 2 %; the number of alarms that was seen is judged by the exact binomial
tail at 1 %.

The model is a logistic regression on fixed random features (30 ms to fit): training 300 nets would
take hours, and the promise does not depend on what the scores are of. The perturbation head, which
the stream does not read, is fitted in one step.

`--law content` keeps equal rows in one part, as a split by the hash of the content does.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from models.data import DataSet, Source
from models.data.build import build
from models.data.raw import Raw, RawColumn, RawPart, spans
from models.statistics.arrays import FloatArray, IntArray
from models.versions.bundle import Bundle
from models.versions.schema import InputArray
from monitoring.evidence.channels import StreamEvidence
from monitoring.evidence.stream import references
from monitoring.scoring.instrument import Material, instrument, run_graph
from monitoring.scoring.perturbation import fit as head_fit

C, REQUESTS, LOOK = 1e6, 20_000, 200
LEVEL = 0.01
SIZES = (500, 5000)
HIDDEN = 16
CONTENT = "content"

Rows = tuple[FloatArray, IntArray]
Draw = Callable[[int, np.random.Generator], Rows]


def answers(rng: np.random.Generator) -> Draw:
    """Three answers of 1 to 5, as in a survey; the label follows from their sum, or nearly so."""
    shares = rng.dirichlet(np.full(5, 3.0), size=3)
    noise = rng.choice((0.0, 0.5, 1.5))

    def draw(count: int, rng: np.random.Generator) -> Rows:
        x = np.stack([rng.choice(5, size=count, p=share) + 1.0 for share in shares], axis=1)
        return x, (x.sum(axis=1) + noise * rng.normal(size=count) > 9).astype(np.int64)

    return draw


def of_few(rng: np.random.Generator, count: int, weights: FloatArray) -> Draw:
    """Some different rows, each with its own share of the traffic and its own share of labels."""
    different = rng.normal(size=(count, 4))
    positive = 1 / (1 + np.exp(-2 * different @ rng.normal(size=4)))

    def draw(rows: int, rng: np.random.Generator) -> Rows:
        place = rng.choice(count, size=rows, p=weights / weights.sum())
        return different[place], (rng.random(rows) < positive[place]).astype(np.int64)

    return draw


def equal_shares(rng: np.random.Generator) -> Draw:
    """125 different rows."""
    return of_few(rng, 125, np.ones(125))


def zipf(rng: np.random.Generator) -> Draw:
    """2000 different rows; the k-th is as frequent as 1 / k."""
    return of_few(rng, 2000, 1 / np.arange(1, 2001))


def all_different(rng: np.random.Generator) -> Draw:
    """No row twice."""
    turn = rng.normal(size=4)

    def draw(rows: int, rng: np.random.Generator) -> Rows:
        x = rng.normal(size=(rows, 4))
        return x, (rng.random(rows) < 1 / (1 + np.exp(-2 * x @ turn))).astype(np.int64)

    return draw


def half_repeats(rng: np.random.Generator) -> Draw:
    """Half of the traffic is one of 60 rows, the other half is new."""
    few, fresh = of_few(rng, 60, np.ones(60)), all_different(rng)

    def draw(rows: int, rng: np.random.Generator) -> Rows:
        (x, y), (others, labels) = few(rows, rng), fresh(rows, rng)
        new = rng.random(rows) < 0.5
        return np.where(new[:, None], others, x), np.where(new, labels, y)

    return draw


KINDS: dict[str, Callable[[np.random.Generator], Draw]] = {
    "survey": answers,
    "125 different rows": equal_shares,
    "Zipf": zipf,
    "half repeats": half_repeats,
    "all different": all_different,
}


@dataclass
class Tally:
    """Alarms among tables of one kind."""

    tables: int = 0
    alarms: int = 0
    first: list[int] | None = None

    def row(self, kind: str) -> str:
        """A line of the table."""
        promised = REQUESTS / C
        tail = float(binom.sf(self.alarms - 1, self.tables, promised))
        verdict = "yes" if tail > LEVEL else "NO"
        median = f"{int(np.median(self.first))}" if self.first else "-"
        return (
            f"| {kind} | {self.tables} | {self.alarms} | {median} | "
            f"{promised * self.tables:.1f} | {tail:.3g} | {verdict} |"
        )


def data_set(rows: Rows, law: str) -> DataSet:
    """The rows as the product divides them, or with equal rows in one part."""
    x, y = rows
    columns = tuple(
        RawColumn(f"x{place}", column.astype(np.float32)) for place, column in enumerate(x.T)
    )
    groups = None
    if law == CONTENT:
        groups = np.array([row.tobytes().hex() for row in x.astype(np.float32)])
    part = RawPart(y, spans([("table", len(y))]), columns=columns, groups=groups)
    return build(Raw("table", part), Source("", group=CONTENT if law == CONTENT else ""), "table")


def model_of(data: DataSet, seed: int) -> onnx.ModelProto:
    """Logistic regression on random features, as a graph with `logits` and `features`."""
    rng = np.random.default_rng(seed)
    width = data.schema.size
    turn = rng.normal(size=(width, HIDDEN)).astype(np.float32)
    shift = rng.normal(size=HIDDEN).astype(np.float32)
    unit = data.schema.to_unit(data.train.x)
    fitted = LogisticRegression(max_iter=300).fit(np.maximum(unit @ turn + shift, 0), data.train.y)
    weights = np.concatenate([-fitted.coef_ / 2, fitted.coef_ / 2]).T.astype(np.float32)
    bias = np.concatenate([-fitted.intercept_ / 2, fitted.intercept_ / 2]).astype(np.float32)
    arrays = {
        "offset": data.schema.offset, "span": data.schema.span, "turn": turn, "shift": shift,
        "weights": weights, "bias": bias,
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["input", "offset"], ["centred"]),
        helper.make_node("Div", ["centred", "span"], ["unit"]),
        helper.make_node("Gemm", ["unit", "turn", "shift"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("input", floats, ["batch", width])],
        [
            helper.make_tensor_value_info("logits", floats, ["batch", 2]),
            helper.make_tensor_value_info("features", floats, ["batch", HIDDEN]),
        ],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def bundle_of(data: DataSet, seed: int) -> Bundle:
    """The model with the product's heads, calibrated on the calibration part."""
    rng = np.random.default_rng(seed)
    some = data.train.x[:60]

    def moved(x: InputArray, size: float) -> InputArray:
        noise = rng.normal(size=x.shape) * size * data.schema.span
        return np.asarray(x + noise, dtype=np.float32)

    held = data.calibration.x
    material = Material(
        references=data.train.x[: len(data.train) // 2][:2048],
        fit_clean=some,
        fit_corrupted=moved(some, 0.1),
        fit_adversarial=moved(some, 0.3),
        held_clean=held,
        held_corrupted=moved(held[:60], 0.1),
        held_adversarial=moved(held[:60], 0.3),
        reference=held,
    )
    made = instrument(
        model_of(data, seed), data.schema, data.classes, material, source="held-out rows"
    )
    return made.bundle(made.manifest("table", data.schema, data.classes, 1))


def requests_until_alarm(bundle: Bundle, x: InputArray) -> int | None:
    """Requests until the first alarm of the stream `x` `(N, D)`; None without one."""
    model = onnx.load_from_string(bundle.model_bytes)
    (cells,) = run_graph(model, bundle.manifest.input, x, "cells")
    evidence = StreamEvidence(references(bundle), c=C, eta=1.0)
    channels = bundle.manifest.channels
    for start in range(0, len(cells), LOOK):
        look = cells[start : start + LOOK]
        evidence.update(
            {
                channel.name: np.bincount(look[:, k], minlength=len(channel.labels))
                for k, channel in enumerate(channels)
            }
        )
        if evidence.alarm is not None:
            return start + LOOK
    return None


def watch_table(kind: str, law: str, seed: int) -> int | None:
    """One table and its traffic: requests until the alarm, None without one."""
    rng = np.random.default_rng(seed)
    draw = KINDS[kind](rng)
    count = int(np.exp(rng.uniform(*np.log(SIZES))))
    data = data_set(draw(count, rng), law)
    x, _ = draw(REQUESTS, rng)
    return requests_until_alarm(bundle_of(data, seed), x.astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=60, help="of each kind")
    parser.add_argument("--law", choices=("occurrence", CONTENT), default="occurrence")
    parser.add_argument("--kinds", nargs="*", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    head_fit.STEPS = 1
    print("| rows | tables | alarms | median request | promised at most | tail | within |")
    print("|---|---|---|---|---|---|---|")
    whole, began = Tally(), time.process_time()
    for place, kind in enumerate(KINDS):
        if kind not in chosen.kinds:
            continue
        tally = Tally(first=[])
        for k in range(chosen.tables):
            seed = chosen.seed + 1_000_003 * place + k
            alarm = watch_table(kind, chosen.law, seed)
            tally.tables += 1
            if alarm is not None and tally.first is not None:
                tally.alarms += 1
                tally.first.append(alarm)
        print(tally.row(kind), flush=True)
        whole.tables += tally.tables
        whole.alarms += tally.alarms
    print(whole.row("all"))
    print(f"{time.process_time() - began:.0f} CPU-s")


if __name__ == "__main__":
    main()
