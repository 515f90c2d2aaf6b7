"""`python -m benchmarks.drift_p_value [DATA ...]`: the law and the power of the drift p-value.

Law: held-out and test rows are dealt anew 50 times; how often are clean rows flagged at 1 %, beside
the exact (beta-binomial) interval of that count? Power: AUROC of far and near data against clean
test rows, for every channel alone (both sides) and for the p-value of all together, and the share
flagged at 1 %. DATA are bundled names or paths (default: digits, breast_cancer, wine, and a table
with categories). Nets are trained plainly on at most 10,000 rows; `--load NAME=FILE` takes weights.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from models import corruptions, data
from models.corruptions import tables, ten
from models.data import DataSet, Rows, load_digits, split
from models.nets import export, factories
from models.statistics.arrays import FloatArray, IntArray
from models.statistics.intervals import auroc, false_positive_interval
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.schema import Column, InputArray, InputSchema
from monitoring.scoring.channels import base as ch
from monitoring.scoring.channels.catalogue import Fitting, score_channels
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import HAIR, conformal_table, fit_strangeness
from monitoring.scoring.strangeness import Strangeness

SPLITS, ALPHA, POOL, SHOWN, FIT_ROWS = 50, 0.01, 10_000, 600, 1500


class Scored:
    """A net of some data, and the scores of its channels fitted on training rows."""

    def __init__(self, rows: DataSet, load: Path | None) -> None:
        self.data = rows
        self.net = _net(rows, load)
        order = np.random.default_rng(0).permutation(len(rows.train))
        half = len(order) // 2
        reference = self._rows(rows.train.x[order[: min(half, 2048)]])
        table = None
        if rows.schema.kind == "tabular":
            table = TableStatistics.fit(rows.schema, reference.x_unit)
        fitting = Fitting(
            reference.logits, reference.features, reference.x_unit, table, rows.schema
        )
        self.channels = score_channels(rows.schema.kind, fitting)
        self.fit = self.of(rows.train.x[order[half : half + FIT_ROWS]])
        names, schema = [c.name for c in self.channels], rows.schema
        sizes = len(rows.classes), len(schema.columns)
        self.measure = fit_strangeness(schema.kind, names, *self.fit, *sizes)

    def of(self, x: InputArray) -> tuple[FloatArray, IntArray]:
        """`(N, S)` float32 scores of raw rows, and their predicted classes `(N,)`."""
        rows = self._rows(x)
        scores = np.stack([c.scores(rows) for c in self.channels], axis=1)
        return scores.astype(np.float32), rows.logits.argmax(axis=1)

    def strangeness(self, x: InputArray) -> FloatArray:
        """`(N,)` of raw rows."""
        return self.measure.of(*self.of(x))

    def _rows(self, x: InputArray) -> ch.PlainAnswers:
        unit = self.data.schema.to_unit(x)
        with torch.no_grad():
            parts = [self.net(part) for part in torch.from_numpy(unit).split(256)]
        logits, features = (
            torch.cat(p).nan_to_num().clamp(-1e4, 1e4).numpy() for p in zip(*parts, strict=True)
        )
        return ch.PlainAnswers(unit, logits, features)


def _net(rows: DataSet, load: Path | None) -> torch.nn.Module:
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), "auto"))
    if load is not None:
        return export.load_weights(net, load.read_bytes()).eval()
    some = rows.train.take(np.arange(min(POOL, len(rows.train))))
    epochs = max(2, min(60, 40_000 // len(some)))
    return train(net, some, rows.schema, Recipe(method="standard", epochs=epochs)).net.eval()


def p_values(held: FloatArray, fresh: FloatArray) -> FloatArray:
    """`(N,)` p-values of fresh strangeness by the table that a version serves."""
    edges, table = conformal_table(held + HAIR * (1 + np.abs(held)))
    above = edges[None, :] >= fresh.astype(np.float32)[:, None]
    told: FloatArray = table[above.sum(axis=1)]
    return told


def law(scored: Scored) -> str:
    """A row of the table of realised rates."""
    pool = scored.strangeness(scored.data.calibration.joined(scored.data.test).x[:POOL])
    n = len(pool) // 2
    low, high = false_positive_interval(ALPHA, n, len(pool) - n)
    near, far = false_positive_interval(ALPHA, n, len(pool) - n, level=0.95)
    rng, counts = np.random.default_rng(1), []
    for _ in range(SPLITS):
        order = rng.permutation(len(pool))
        told = p_values(pool[order[:n]], pool[order[n:]])
        counts.append(int((told <= ALPHA).sum()))
    found = np.array(counts)
    inside = int(((found >= low) & (found <= high)).sum())
    usual = int(((found >= near) & (found <= far)).sum())
    fresh = len(pool) - n
    return (
        f"| {scored.data.name} | {n} | {fresh} | {found.mean() / fresh:.2%} |"
        f" {found.min() / fresh:.2%} to {found.max() / fresh:.2%} |"
        f" {low / fresh:.2%} to {high / fresh:.2%} |"
        f" {inside} of {SPLITS} | {usual} of {SPLITS} |"
    )


def power(scored: Scored) -> list[str]:
    """Rows of the table of AUROCs."""
    rows = scored.data
    x = rows.test.x[np.random.default_rng(2).permutation(len(rows.test))[:SHOWN]]
    held, (clean, _) = scored.strangeness(rows.calibration.x[:5000]), scored.of(x)
    single = [Strangeness.fit(scored.fit[0][:, [k]]) for k in range(len(scored.channels))]
    usual = scored.strangeness(x)
    lines = [
        f"| {rows.name} | " + " | ".join(c.name for c in scored.channels) + " | all | at 1 % |",
        "|---" * (len(single) + 3) + "|",
    ]
    figures = []
    for name, changed in _changed(rows, x).items():
        scores, strange = scored.of(changed)[0], scored.strangeness(changed)
        row = [auroc(s.of(clean[:, [k]]), s.of(scores[:, [k]])) for k, s in enumerate(single)]
        row.append(auroc(usual, strange))
        row.append(float((p_values(held, strange) <= ALPHA).mean()))
        figures.append((name.startswith("far"), row))
        lines.append(f"| {name} | " + " | ".join(f"{v:.2f}" for v in row) + " |")
    for far in (True, False):
        mean = np.mean([row for kind, row in figures if kind == far], axis=0)
        which = "far" if far else "near"
        lines.append(f"| **mean, {which}** | " + " | ".join(f"{v:.2f}" for v in mean) + " |")
    return lines


def _changed(rows: DataSet, x: InputArray) -> dict[str, InputArray]:
    return _tables(rows, x) if rows.schema.kind == "tabular" else _images(rows, x)


def _images(rows: DataSet, x: InputArray) -> dict[str, InputArray]:
    """Far: other data, noise, inverted, blank. Near: moved, turned, noisy, blurred, ..."""
    rng, schema = np.random.default_rng(3), rows.schema
    t = schema.to_unit(x)
    side = schema.shape[-1]
    moved = np.zeros_like(t)
    step = max(1, side // 14)
    moved[..., step:] = t[..., :-step]
    mean = t.mean(axis=(1, 2, 3), keepdims=True)
    made = {f"far: {name}": image for name, image in _foreign(schema, len(x)).items()} | {
        "far: uniform noise": rng.random(t.shape),
        "far: normal noise": rng.normal(0.5, 0.25, t.shape),
        "far: inverted": 1 - t,
        "far: blank": np.broadcast_to(rng.random((len(t), 1, 1, 1)), t.shape),
        "near: turned 15 degrees": ten.rotated(t, 15),
        "near: turned 30 degrees": ten.rotated(t, 30),
        f"near: moved {step} px": moved,
        "near: noise 2/255": ten.noisy(t, 2 / 255, rng),
        "near: noise 10/255": ten.noisy(t, 10 / 255, rng),
        "near: noise 25/255": ten.noisy(t, 25 / 255, rng),
        "near: contrast .7": (t - mean) * 0.7 + mean,
        "near: blur": corruptions.blurred(t, side / 28 if side > 8 else 0.5),
        "near: brighter by .1": t + 0.1,
        "near: darker by .8": t * 0.8,
        "near: pixelated": ten.pixelate(t, 3, rng),
    }
    return {k: schema.from_unit(np.clip(v, 0, 1).astype(np.float32)) for k, v in made.items()}


def _foreign(schema: InputSchema, count: int) -> dict[str, FloatArray]:
    """Images of other sets, grey or in three channels, brought to the size."""
    found = {}
    near = Path(__file__).resolve().parents[2] / "shared" / "data"
    for name, path in (("MNIST", near / "mnist"), ("CIFAR-10", near / "cifar10"), ("digits", None)):
        if path is not None and not path.exists():
            continue
        other = load_digits() if path is None else data.load(str(path))
        if other.schema.shape == schema.shape:
            continue
        unit = other.schema.to_unit(other.test.x[:count])
        grey = unit.mean(axis=1, keepdims=True)
        size = [1, 1, *(a / b for a, b in zip(schema.shape[1:], grey.shape[2:], strict=True))]
        blurred = ndimage.uniform_filter(grey, [1, 1, *(max(1, round(1 / f)) for f in size[2:])])
        found[name] = np.repeat(ndimage.zoom(blurred, size, order=1), schema.shape[0], axis=1)
    return found


def _tables(rows: DataSet, x: InputArray) -> dict[str, InputArray]:
    """Far: no row of such a table. Near: one column is off, or all are a little."""
    rng, schema = np.random.default_rng(3), rows.schema
    numeric = np.array([c.kind == "numeric" for c in schema.columns])
    apart = np.stack([rng.permutation(column) for column in x.T], axis=1)
    uniform = np.where(numeric, schema.from_unit(rng.random(x.shape)), apart)
    one = np.arange(x.shape[1]) == rng.choice(np.flatnonzero(numeric), (len(x), 1))
    spread = np.nanstd(rows.train.x, axis=0)
    made = {
        "far: uniform in the range": uniform,
        "far: every column shuffled": apart,
        "near: one column 1 sd up": np.where(one, x + spread, x),
        "near: one column 3 sd up": np.where(one, x + 3 * spread, x),
        "near: all columns .5 sd up": np.where(numeric, x + 0.5 * spread, x),
    }
    for name in tables.STRESS:
        if tables.applies(name, schema):
            kind = "far" if name in ("out_of_range", "unit_change") else "near"
            made[f"{kind}: {name.replace('_', ' ')}"] = tables.apply(name, schema, x, 3, rng)
    return {k: v.astype(np.float32) for k, v in made.items()}


def mixed() -> DataSet:
    """A table of 6000 rows: eight numbers that hang together (two miss values), two categories."""
    rng, count = np.random.default_rng(3), 6000
    y = rng.integers(0, 3, count)
    hidden = rng.normal(size=(count, 4)) + 1.5 * np.eye(3, 4)[y]
    x = hidden @ rng.normal(size=(4, 8)) + 0.2 * rng.normal(size=(count, 8))
    x[:, 4] = np.exp(x[:, 4])
    x[:, 6:][rng.random((count, 2)) < 0.1] = np.nan
    kinds = np.where(rng.random(count) < 0.6, y, rng.integers(0, 3, count))
    towns = np.minimum(rng.geometric(0.3, count) - 1, 9)
    parts = split(Rows(np.column_stack([x, kinds, towns]).astype(np.float32), y))
    low, high = np.nanmin(parts[0].x, axis=0), np.nanmax(parts[0].x, axis=0)
    columns = [
        Column(f"n{k}", low=float(low[k]), high=float(high[k]), missing=k >= 6) for k in range(8)
    ]
    columns.append(Column("kind", "categorical", categories=("a", "b", "c")))
    columns.append(Column("town", "categorical", categories=tuple(f"t{k}" for k in range(10))))
    schema = InputSchema("row", (10,), "float32", 0.0, 1.0, "tabular", tuple(columns))
    return DataSet("mixed", schema, ("a", "b", "c"), *parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["digits", "breast_cancer", "wine", "mixed"])
    parser.add_argument("--load", nargs="*", default=[], metavar="NAME=FILE")
    asked = parser.parse_args()
    weights = dict(pair.split("=", 1) for pair in asked.load)
    torch.set_num_threads(1)
    began, laws, powers = time.process_time(), [], []
    for name in asked.data:
        rows = mixed() if name == "mixed" else data.load(name)
        load = weights.get(rows.name)
        scored = Scored(rows, None if load is None else Path(load))
        laws.append(law(scored))
        powers.append(power(scored))
    print("| data | held out | fresh | flagged | least to most | exact 99.9 % | in it | in 95 % |")
    print("|---" * 8 + "|")
    print("\n".join(laws))
    for lines in powers:
        print("\n" + "\n".join(lines))
    print(f"\n{time.process_time() - began:.0f} CPU-s")


if __name__ == "__main__":
    main()
