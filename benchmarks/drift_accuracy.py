"""`python -m benchmarks.drift_accuracy [DATA ...]`: live accuracy without labels, and the truth.

For each data set (digits, and those named) a net is trained by its preset or taken from `--load`,
instrumented, and asked for held-out test rows: clean, under every benign corruption at every
severity, and with other class mixes. Tables: the error of the product's estimate beside ATC (Garg
et al. 2022, on the entropy) and CBPE (the mean top probability) on the same rows; how often the
interval covers and an alarm takes the trust away; the error of the class shares (BBSE), and which
channels such a shift alarms. The ten corruptions of the quick suite are those that the estimate was
fitted under (on other rows); all others are new to it.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import xlogy

from models import data
from models.base.allocation import keep_freed_memory
from models.corruptions import SEVERITIES, suite
from models.data import DataSet, Rows
from models.evaluation.subject import answer as answer_of
from models.nets import export, factories
from models.training.loop import train
from models.training.presets import preset
from models.versions.bundle import Bundle
from models.versions.runner import Answer, Runner
from models.versions.schema import InputArray
from monitoring.evidence.accuracy_estimate import Facts, Floats, estimate, evidence
from monitoring.evidence.accuracy_watch import list_alarmed_channels
from monitoring.evidence.channels import StreamEvidence
from monitoring.evidence.label_shift import label_shift
from monitoring.evidence.stream import references
from monitoring.scoring.instrument import Material, instrument

C = 1e6
HELD, FIT = 5000, 1500
MIXES = 20
METHODS = ("Holdfast", "ATC", "CBPE")
BANDS = (("95 % and more", 0.95, 1.01), ("80 to 95 %", 0.8, 0.95), ("50 to 80 %", 0.5, 0.8),
         ("below 50 %", -0.01, 0.5))  # fmt: skip


class Batch(NamedTuple):
    """One shift: what was true of it and what was estimated."""

    group: str
    truth: float
    told: tuple[float, float, float]  # as METHODS
    low: float
    high: float
    alarms: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", help="paths besides the bundled digits")
    parser.add_argument("--net", default="auto", help="of the last data set")
    parser.add_argument("--load", type=Path, help="weights of the last data set")
    parser.add_argument("--rows", type=int, default=500, help="requests of one shift")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    names = ["digits", *asked.data]
    for name in names:
        began, last = time.process_time(), name == names[-1] and len(names) > 1
        found = data.load(name)
        bundle = made(found, asked.load if last else None, asked.net if last else "auto")
        print(f"\n## {found.name}: {len(found.test)} test rows, {asked.rows} of each shift\n")
        report(found, bundle, asked.rows)
        print(f"\n{time.process_time() - began:.0f} CPU-s with training", flush=True)


def made(found: DataSet, load: Path | None, name: str) -> Bundle:
    """An instrumented net. Its perturbation head is a stand-in: nothing here looks at it."""
    start = preset(found.schema, len(found.train))
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(found.schema, len(found.classes), name))
    if load is not None:
        export.load_weights(net, load.read_bytes()).eval()
    else:
        net = train(net, found.train, found.schema, start.recipe).net
    plain = export.to_onnx(net, found.schema)
    rng = np.random.default_rng(0)
    training = found.train.take(rng.permutation(len(found.train)))
    held = found.calibration.take(rng.permutation(len(found.calibration))[:HELD])
    half = len(training) // 2
    fit, few = training.x[half : half + FIT], held.x[:FIT]

    def noisy(x: InputArray, size: float) -> InputArray:
        unit = found.schema.to_unit(x)
        return found.schema.from_unit(np.clip(unit + rng.normal(0, size, unit.shape), 0, 1))

    material = Material(
        references=training.x[: min(half, 2048)],
        fit_clean=fit,
        fit_corrupted=noisy(fit, 0.05),
        fit_adversarial=noisy(fit, 0.2),
        held_clean=held.x,
        held_corrupted=noisy(few, 0.05),
        held_adversarial=noisy(few, 0.2),
        reference=held.x,
        held_labels=held.y,
    )
    done = instrument(plain, found.schema, found.classes, material, source="held-out rows")
    manifest = done.manifest(found.name, found.schema, found.classes, version=1)
    return done.bundle(manifest)


def report(found: DataSet, bundle: Bundle, rows: int) -> None:
    """Print the tables of one data set."""
    runner = Runner(bundle)
    held = found.calibration.take(np.arange(min(len(found.calibration), HELD)))
    judge = Judge(bundle, answer_of(runner, held.x), held)
    batches = [
        judge.batch(group, answer_of(runner, part.x), part) for group, part in shifts(found, rows)
    ]
    print("| shifts | n | " + " | ".join(f"{m}: MAE (bias)" for m in METHODS)
          + " | interval covers | below it | above it | not trustworthy |")  # fmt: skip
    print("|---" * 9 + "|")
    mild = [b for b in batches if b.truth >= 0.8]
    for group in ("clean", "kinds it knows", "new kinds"):
        line(f"{group}, accuracy 80 % and more", [b for b in mild if b.group == group])
    shifted = [b for b in batches if b.group != "clean"]
    for words, low, high in BANDS:
        line(f"all kinds, accuracy {words}", [b for b in shifted if low <= b.truth < high])
    classes(found, bundle, runner, judge)


def line(words: str, batches: list[Batch]) -> None:
    """One row of the first table."""
    if not batches:
        return
    truth = np.array([b.truth for b in batches])
    error = np.array([b.told for b in batches]) - truth[:, None]
    mean, bias = np.abs(error).mean(axis=0), error.mean(axis=0)
    cells = [f"{m:.4f} ({b:+.4f})" for m, b in zip(mean, bias, strict=True)]
    below = np.mean([b.truth < b.low for b in batches])
    above = np.mean([b.truth > b.high for b in batches])
    cells += [f"{share:.1%}" for share in (1 - below - above, below, above)]
    cells.append(f"{np.mean([set(b.alarms) - {'class'} != set() for b in batches]):.1%}")
    print(f"| {words} | {len(batches)} | " + " | ".join(cells) + " |", flush=True)


def shifts(found: DataSet, rows: int) -> Iterator[tuple[str, Rows]]:
    """Clean samples of the test rows, then every corruption at every severity."""
    rng, known = np.random.default_rng(1), {k.name for k in suite(found.schema, "quick")}

    def some() -> Rows:
        return found.test.take(rng.permutation(len(found.test))[:rows])

    for _ in range(20):
        part = found.test.take(rng.integers(len(found.test), size=rows))
        yield "clean", part
    for kind in suite(found.schema):
        for severity in SEVERITIES:
            part = some()
            x = kind.corrupt(found.schema.to_unit(part.x), severity, rng)
            group = "kinds it knows" if kind.group == "holdfast" and kind.name in known else ""
            yield group or "new kinds", Rows(found.schema.from_unit(x), part.y)


class Judge:
    """All three methods on the same answers; ATC's threshold is set on held-out rows."""

    def __init__(self, bundle: Bundle, held: Answer, rows: Rows) -> None:
        facts = Facts.of(bundle.reference)
        assert facts is not None
        self.facts, self.bundle = facts, bundle
        right = held.probabilities.argmax(axis=1) == rows.y
        self.threshold = float(np.quantile(sureness(held), 1 - right.mean()))

    def alarms(self, answer: Answer) -> tuple[str, ...]:
        """Channels in alarm after these requests."""
        stream = StreamEvidence(references(self.bundle), c=C)
        stream.update(cells(self.bundle, answer))
        return tuple(list_alarmed_channels(stream))

    def batch(self, group: str, answer: Answer, rows: Rows) -> Batch:
        """What the methods say of answered rows."""
        alarms = self.alarms(answer)
        told = estimate(self.facts, evidence(answer), answer.drift_p_value, alarms)
        assert told is not None
        atc = float((sureness(answer) >= self.threshold).mean())
        sure = float(answer.probabilities.max(axis=1).mean())
        truth = float((answer.probabilities.argmax(axis=1) == rows.y).mean())
        return Batch(group, truth, (told.value, atc, sure), told.low, told.high, alarms)


def classes(found: DataSet, bundle: Bundle, runner: Runner, judge: Judge) -> None:
    """Print the table of class shifts."""
    answers, rng = answer_of(runner, found.test.x), np.random.default_rng(2)
    count = len(found.classes)
    even = np.full(count, 1 / count)
    kinds = {
        "one class at a fifth": lambda: scaled(even, rng.integers(count), 0.2),
        "one class three times": lambda: scaled(even, rng.integers(count), 3.0),
        "one class is half of all": lambda: scaled(even, rng.integers(count), count - 1.0),
        "Dirichlet(1)": lambda: rng.dirichlet(np.ones(count)),
    }
    print(
        "\n| class mix | requests | share MAE | share intervals cover | accuracy MAE, re-weighted"
        " | interval covers | accuracy MAE, not re-weighted | class channel alone alarms |"
    )
    print("|---" * 8 + "|")
    for words, mix in kinds.items():
        for n in (500, 2000):
            figures = []
            for _ in range(MIXES):
                shares = mix()
                y = rng.choice(count, n, p=shares)
                rows = np.array([rng.choice(np.flatnonzero(found.test.y == k)) for k in y])
                part = Answer(*(column[rows] for column in answers))
                figures.append(class_figures(bundle, judge, part, found.test.take(rows)))
            mean = np.mean(figures, axis=0)
            text = (f"{mean[0]:.4f}", f"{mean[1]:.1%}", f"{mean[2]:.4f}", f"{mean[3]:.1%}",
                    f"{mean[4]:.4f}", f"{mean[5]:.0%}")  # fmt: skip
            print(f"| {words} | {n} | " + " | ".join(text) + " |", flush=True)


def class_figures(bundle: Bundle, judge: Judge, answer: Answer, rows: Rows) -> tuple[float, ...]:
    """Errors of one class mix: shares, cover, accuracy, cover, accuracy as it is; alone?"""
    names = bundle.manifest.classes
    predicted = answer.probabilities.argmax(axis=1)
    counts = np.bincount(predicted, minlength=len(names)).astype(np.float64)
    told = label_shift(bundle.reference, names, counts)
    assert told is not None
    truth = np.bincount(rows.y, minlength=len(names)) / len(rows)
    shares = list(told.shares.values())
    inside = np.mean([s.low <= t <= s.high for s, t in zip(shares, truth, strict=True)])
    off = np.mean([abs(s.value - t) for s, t in zip(shares, truth, strict=True)])
    batch = judge.batch("classes", answer, rows)
    return (
        float(off),
        float(inside),
        abs(told.accuracy.value - batch.truth),
        float(
            min(told.accuracy.low, batch.low) <= batch.truth <= max(told.accuracy.high, batch.high)
        ),
        abs(batch.told[0] - batch.truth),
        float(set(batch.alarms) == {"class"}),
    )


def scaled(shares: Floats, index: int, factor: float) -> Floats:
    """The shares with one of them times `factor`, brought back to 1."""
    changed = shares.copy()
    changed[index] *= factor
    return changed / changed.sum()


def cells(bundle: Bundle, answer: Answer) -> dict[str, np.ndarray]:
    """Counts per channel, as the service's counters give them."""
    return {
        c.name: np.bincount(column, minlength=len(bundle.reference[f"{c.name}/alpha"]))
        for c, column in zip(bundle.manifest.channels, answer.cells.T, strict=True)
    }


def sureness(answer: Answer) -> Floats:
    """The negative entropy `(N,)`, ATC's better score."""
    p = np.asarray(answer.probabilities, np.float64)
    total: Floats = xlogy(p, p).sum(axis=1)
    return total


if __name__ == "__main__":
    main()
