"""`python -m benchmarks.table_scores [PART ...] [--data NAME ...]`: what one row's p-value sees.

Parts: `power` (shuffled columns, rows from the box), `law` (clean rows flagged over 50 splits),
`small` (100 to 500 rows in all), `classes` (rates by predicted class) and `cost` (microseconds of
each channel). DATA are bundled tables or files of statsmodels (fair, randhie, anes96), which are
left out where that package is not installed. "Before" is the score of version 2 of the manifest:
energy or uncertainty, features, `inside` and `row_distance`, whitened.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier

from models import data
from models.data import DataSet, Rows
from models.statistics.arrays import FloatArray, IntArray
from models.statistics.intervals import false_positive_interval
from models.versions.runner import session
from models.versions.schema import InputArray, InputSchema
from monitoring.scoring.channels import base as ch
from monitoring.scoring.channels.catalogue import Fitting, score_channels
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import conformal_table, fit_strangeness
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.inputs import ScoreChannel
from monitoring.scoring.small_sets import cross_fit
from monitoring.scoring.strangeness import ClassStrangeness, Strangeness

ALPHA, SPLITS, MOST = 0.01, 50, 5000
LEAST_OF_CLASS = 20  # test rows that are predicted as a class
OURS = ("chow_liu", "shuffled_row")
# The answer of a file of statsmodels: its column, and what is asked of it.
ANSWERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "fair": ("affairs", lambda v: v > 0),
    "randhie": ("mdvis", lambda v: v > 1),
    "anes96": ("vote", lambda v: v > 0),
}


@cache
def load(name: str) -> DataSet | None:
    """A bundled table, or one of statsmodels'; None where that is not installed."""
    if name not in ANSWERS:
        return data.load(name)
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "datasets" / name
    head, *lines = (folder / f"{name}.csv").read_text().splitlines()
    mark = "," if "," in head else None
    names = [cell.strip().strip("\"'") for cell in head.split(mark)]
    cells = [line.split(mark) for line in lines if line.strip()]
    column, asked = ANSWERS[name]
    place = names.index(column)
    rows = [",".join([*names[:place], *names[place + 1 :], "label"])]
    for row in cells:
        label = "yes" if asked(float(row[place])) else "no"
        rows.append(",".join([*row[:place], *row[place + 1 :], label]))
    with TemporaryDirectory() as work:
        path = Path(work) / f"{name}.csv"
        path.write_text("\n".join(rows))
        return data.load(str(path))


class Scored:
    """A forest of some table, and channels fitted on half of its training rows."""

    def __init__(self, rows: DataSet, names: tuple[str, ...] | None = None, seed: int = 0) -> None:
        self.rows, self.schema = rows, rows.schema
        self.forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
        self.forest.fit(self._known(rows.train.x), rows.train.y)
        order = np.random.default_rng(seed).permutation(len(rows.train))
        half = len(order) // 2
        reference = self.plain(rows.train.x[order[: min(half, 2048)]])
        table = TableStatistics.fit(self.schema, reference.x_unit)
        fitting = Fitting(reference.logits, None, reference.x_unit, table, self.schema, seed)
        self.channels = score_channels("tabular", fitting)
        self.names = [c.name for c in self.channels]
        self.fit = self.of(rows.train.x[order[half : half + 1500]])

    def _known(self, x: InputArray) -> FloatArray:
        return np.nan_to_num(self.schema.to_unit(x))

    def plain(self, x: InputArray) -> ch.PlainAnswers:
        """What the channels read, with the logarithms of the forest's shares as logits."""
        shares = self.forest.predict_proba(self._known(x))
        logits = np.log(np.clip(shares, 1e-6, 1)).astype(np.float32)
        return ch.PlainAnswers(self.schema.to_unit(x), logits, logits)

    def of(self, x: InputArray) -> tuple[FloatArray, IntArray]:
        """Scores `(N, S)` and classes `(N,)` of raw rows."""
        rows = self.plain(x)
        scores = np.stack([c.scores(rows) for c in self.channels], axis=1)
        return scores.astype(np.float32), rows.logits.argmax(axis=1)

    def measure(self) -> ClassStrangeness:
        """As it is served."""
        sizes = len(self.rows.classes), len(self.schema.columns)
        return fit_strangeness("tabular", self.names, *self.fit, *sizes)

    def before(self) -> Callable[[FloatArray, IntArray], FloatArray]:
        """As version 2 of the manifest had it."""
        old = [k for k, name in enumerate(self.names) if name not in OURS]
        measure = Strangeness.fit(self.fit[0][:, old])
        return lambda scores, _: measure.of(scores[:, old])


def p_values(held: FloatArray, fresh: FloatArray) -> FloatArray:
    """`(N,)` by the table that is served."""
    edges, table = conformal_table(held)
    falling = -np.asarray(edges, np.float64)
    told: FloatArray = table[np.searchsorted(falling, -fresh.astype(np.float32), side="right")]
    return told


def shuffle(x: InputArray, rng: np.random.Generator) -> InputArray:
    """Every column in an order of its own."""
    return np.stack([rng.permutation(column) for column in x.T], axis=1)


def box(schema: InputSchema, x: InputArray, rng: np.random.Generator) -> InputArray:
    """As many rows, numbers even over the range of training; categories in another order."""
    numeric = np.array([c.kind == "numeric" for c in schema.columns])
    even = schema.from_unit(rng.random(x.shape))
    return np.where(numeric, even, shuffle(x, rng)).astype(np.float32)


def power(rows: DataSet) -> list[str]:
    """Rows of the table of shares flagged, before and now."""
    scored, rng = Scored(rows), np.random.default_rng(5)
    held, test = rows.calibration.x[:MOST], rows.test.x[:MOST]
    sets = {"clean": test, "shuffled": shuffle(test, rng), "box": box(rows.schema, test, rng)}
    told = {name: scored.of(x) for name, x in sets.items()}
    lines = []
    for label, of in (("before", scored.before()), ("now", scored.measure().of)):
        calibrated = of(*scored.of(held))
        p = {name: p_values(calibrated, of(*scores)) for name, scores in told.items()}
        lines.append(
            f"| {rows.name} | {len(held)} | {label} | {(p['clean'] <= ALPHA).mean():.1%} |"
            f" {(p['shuffled'] <= ALPHA).mean():.0%} | {(p['shuffled'] > 0.2).mean():.0%} |"
            f" {(p['box'] <= ALPHA).mean():.0%} |"
        )
    return lines


def law(rows: DataSet) -> str:
    """A row: clean rows flagged at 1 % when held-out and test rows are dealt anew 50 times."""
    scored = Scored(rows)
    pool = scored.measure().of(*scored.of(rows.calibration.joined(rows.test).x[: 2 * MOST]))
    n = len(pool) // 2
    low, high = false_positive_interval(ALPHA, n, len(pool) - n)
    rng, counts = np.random.default_rng(1), []
    for _ in range(SPLITS):
        order = rng.permutation(len(pool))
        counts.append(int((p_values(pool[order[:n]], pool[order[n:]]) <= ALPHA).sum()))
    fresh, found = len(pool) - n, np.array(counts)
    inside = int(((found >= low) & (found <= high)).sum())
    return (
        f"| {rows.name} | {n} | {found.mean() / fresh:.2%} | {found.min() / fresh:.2%} to"
        f" {found.max() / fresh:.2%} | {low / fresh:.2%} to {high / fresh:.2%} |"
        f" {inside} of {SPLITS} |"
    )


def small(rows: DataSet, draws: int = 5) -> Iterator[str]:
    """Rows: 100 to 500 rows in all by the jackknife; fresh, shuffled and box rows flagged."""
    whole = rows.train.joined(rows.calibration).joined(rows.test)
    for count in (100, 200, 500):
        if count > 0.8 * len(whole):
            continue
        rates = np.array([_one_small(rows, whole, count, seed) for seed in range(draws)])
        mean = rates.mean(axis=0)
        yield (
            f"| {rows.name} | {count} | {mean[1]:.0f} | {mean[0]:.2%} |"
            f" {mean[2]:.0%} | {mean[3]:.0%} | {mean[4]:.2%} |"
        )


def _one_small(rows: DataSet, whole: Rows, count: int, seed: int) -> tuple[float, ...]:
    """Flagged: clean; rows calibrated on; flagged: shuffled, box; clean rows out of range."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(whole))
    used = count if count * 0.8 < 99 else int(count * 0.8)  # without the test rows
    known, fresh = whole.x[order[:used]], whole.x[order[count:]][:2000]
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    columns = tuple(
        type(c)(c.name, c.kind, float(a), float(b), c.categories, c.missing, c.notation)
        if c.kind == "numeric" and np.isfinite(a)
        else c
        for c, a, b in zip(rows.schema.columns, low, high, strict=True)
    )
    schema = InputSchema("row", rows.schema.shape, "float32", 0.0, 1.0, "tabular", columns)
    fitted, apart = cross_fit(schema, schema.to_unit(known), seed)
    nobody = np.zeros(used, dtype=np.int64)  # no model: one class
    measure = fit_strangeness("tabular", fitted.names, apart, nobody, 1, len(columns))
    held, flagged = measure.of(apart, nobody), []
    for x in (fresh, shuffle(fresh, rng), box(schema, fresh, rng)):
        told = measure.of(fitted.scores(schema.to_unit(x)), np.zeros(len(x), dtype=np.int64))
        flagged.append(float((p_values(held, told) <= ALPHA).mean()))
    unit = schema.to_unit(fresh)
    numeric = np.array([c.kind == "numeric" for c in columns])
    outside = float(((unit < -1) | (unit > 2))[:, numeric].any(axis=1).mean())
    return flagged[0], float(used), flagged[1], flagged[2], outside


def classes(rows: DataSet) -> str:
    """A row: the lowest and highest rate at .10 of a predicted class, pooled and by class."""
    scored = Scored(rows)
    held, test = (scored.of(part.x[:MOST]) for part in (rows.calibration, rows.test))
    counts = np.bincount(test[1])
    if counts.min() < LEAST_OF_CLASS:
        return f"| {rows.name} | {len(counts)} | too few rows of a class | |"
    measure, told = scored.measure(), []
    for of in (lambda s, _: measure.measure.of(s), measure.of):
        p = p_values(of(*held), of(*test))
        rates = [(p[test[1] == k] <= 0.1).mean() for k in range(len(counts))]
        told.append(f"{min(rates):.2f} to {max(rates):.2f}")
    return f"| {rows.name} | {len(counts)} | {told[0]} | {told[1]} |"


def cost(rows: DataSet) -> list[str]:
    """Rows: microseconds of CPU a row that a channel, or the p-value, adds to a graph."""
    scored = Scored(rows)
    statistics = next(c for c in scored.channels if isinstance(c, ch.TableStatistic)).statistics
    width = rows.schema.size
    base = _time(_graph(width, lambda graph: graph.op("Identity", "x")), rows.test.x)
    lines = []

    def tensors(graph: GraphBuilder) -> ch.Tensors:
        return ch.Tensors("x", "", "", "", statistics.emit(graph, "x"))

    made: dict[str, Callable[[GraphBuilder], str]] = {
        "inside, row_distance": lambda graph: tensors(graph).statistics
    }
    for channel in scored.channels:
        if channel.name in OURS:
            made[channel.name] = _emit_of(channel)
    for name, emit in made.items():
        one, many = (
            after - before
            for after, before in zip(_time(_graph(width, emit), rows.test.x), base, strict=True)
        )
        lines.append(f"| {rows.name} | {name} | {one:.1f} | {many:.1f} ({many / 32:.2f} a row) |")
    return lines


def _emit_of(channel: ScoreChannel) -> Callable[[GraphBuilder], str]:
    return lambda graph: channel.emit(graph, ch.Tensors("x", "", "", "", ""))


def _graph(width: int, emit: Callable[[GraphBuilder], str]) -> onnx.ModelProto:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])
    opset = helper.make_opsetid("", 18)
    empty = helper.make_graph([], "part", [info], [])
    graph = GraphBuilder(helper.make_model(empty, opset_imports=[opset], ir_version=9))
    graph.output("told", emit(graph), "batch", None)
    return graph.build()


def _time(model: onnx.ModelProto, x: InputArray) -> tuple[float, float]:
    """Least CPU microseconds of a run with 1 and with 32 rows."""
    runner, told = session(model.SerializeToString()), []
    for count in (1, 32):
        part = np.resize(x, (count, x.shape[1])).astype(np.float32)
        best = np.inf
        for _ in range(40):
            began = time.process_time()
            for _ in range(100):
                runner.run(None, {"x": part})
            best = min(best, (time.process_time() - began) / 100)
        told.append(best * 1e6)
    return told[0], told[1]


HEADS = {
    "power": "| data | held out | | clean at 1 % | shuffled at 1 % | shuffled p > .2 |"
    " box at 1 % |",
    "law": "| data | held out | flagged | least to most | exact 99.9 % | in it |",
    "small": "| data | rows in all | calibrated on | fresh | shuffled | box | fresh out of range |",
    "classes": "| data | classes | pooled, rate at .10 | by class |",
    "cost": "| data | what | 1 row, us | 32 rows, us |",
}


def main() -> None:
    told: dict[str, Callable[[DataSet], str | Iterable[str]]] = {
        "power": power, "law": law, "small": small, "classes": classes, "cost": cost,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(HEADS), metavar="PART")
    parser.add_argument(
        "--data", nargs="*", default=["breast_cancer", "wine", *ANSWERS], metavar="NAME"
    )
    asked = parser.parse_args()
    began = time.process_time()
    for part in asked.parts:
        print(f"\n{HEADS[part]}\n{'|---' * (HEADS[part].count('|') - 1)}|")
        for name in asked.data:
            rows = load(name)
            if rows is None:
                print(f"| {name} | not installed: statsmodels |")
                continue
            lines = told[part](rows)
            for line in [lines] if isinstance(lines, str) else lines:
                print(line, flush=True)
    print(f"\n{time.process_time() - began:.0f} CPU-s")


if __name__ == "__main__":
    main()
