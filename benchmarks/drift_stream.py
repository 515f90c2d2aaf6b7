"""`python -m benchmarks.drift_stream`: false alarms of the stream's evidence, and its delays.

1. False alarms without drift, c = 1e6 and c = 1e4, over streams that are exchangeable with their
   reference: synthetic scores, and the product's own scores of held-out MNIST and digits rows,
   where reference and traffic are dealt anew for every stream. The mean number of alarms is at
   most requests / c; the number that was seen is told with its exact Poisson interval (rows of
   MNIST return in other streams, so there the interval is too narrow, the bound is not).
2. Requests until the alarm after 1000 clean ones, for twelve shifts of MNIST, in one run with the
   detectors of river and frouros on the same scores: with their defaults, and with the most
   sensitive setting that was silent over a stretch of clean traffic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import chi2

from benchmarks.drift_data import MNIST, Classifier, Images, Reference, Scored, classifier
from benchmarks.drift_peers import Peer, peers
from models import data
from models.corruptions import blurred, inverted, noisy, rotated
from models.statistics.arrays import IntArray
from monitoring.evidence.channels import StreamEvidence

C = 1e6
SMALL_C = 1e4
HELD, CLEAN = 5000, 1000
CIFAR = MNIST.parent / "cifar10" / "test.parquet"
SYNTHETIC_SCORES = 6
KNOWN = {  # medians of an earlier measurement with five channels: what is to be met
    "noise 10/255": 24, "noise 25/255": 5, "rotation 15°": 42, "contrast .7": 28, "blur": 15,
    "inverted": 3, "FGSM .1, all": 8, "FGSM .1, half": 20, "FGSM .1, 10 %": 253,
    "foreign, 5 %": 289, "class 0 halved": 1191, "class 0 almost gone": 258,
}  # fmt: skip


@dataclass
class Null:
    """Alarms and requests up to the alarm (or the end) over many streams, for one c."""

    alarms: int = 0
    requests: int = 0

    def add(self, alarmed: bool, requests: int) -> None:
        """One stream."""
        self.alarms += alarmed
        self.requests += requests

    def row(self, name: str, c: float) -> str:
        """A line of the table."""
        low = chi2.ppf(0.025, 2 * self.alarms) / 2 if self.alarms else 0.0
        high = chi2.ppf(0.975, 2 * self.alarms + 2) / 2
        bound = self.requests / c
        kept = "yes" if low <= bound else "NO"
        return (
            f"| {name} | {c:.0e} | {self.requests:,} | {self.alarms} | {low:.1f} to {high:.1f} |"
            f" {bound:.2f} | {kept} |"
        )


def watch_null(reference: Reference, cells: IntArray, size: int, nulls: dict[float, Null]) -> None:
    """One stream of cells `(N, C)` in looks of `size` requests, judged at every c at once.

    Below its threshold the evidence does not depend on c: one pass answers for all.
    """
    evidence = StreamEvidence(reference.channels, c=max(nulls))
    waiting = set(nulls)
    for start in range(0, len(cells), size):
        evidence.update(reference.counts(cells[start : start + size]))
        seen = min(start + size, len(cells))
        top = np.inf if evidence.alarm is not None else max(evidence.log10_evidence().values())
        for c in sorted(waiting):
            if top >= np.log10(len(reference.channels) * c):
                nulls[c].add(True, seen)
                waiting.discard(c)
        if not waiting:
            return
    for c in waiting:
        nulls[c].add(False, len(cells))


def synthetic(requests: int, rng: np.random.Generator) -> Iterator[tuple[Reference, IntArray]]:
    """References of 5000 and streams of 10,000: normal scores and ten classes."""
    names = [f"score {k}" for k in range(SYNTHETIC_SCORES)]
    for _ in range(-(-requests // 10_000)):
        n = HELD + 10_000
        scores = rng.standard_normal((n, SYNTHETIC_SCORES), dtype=np.float32)
        rows = Scored(scores, np.eye(10, dtype=np.float32)[rng.integers(10, size=n)])
        reference = Reference.of(names, rows.take(np.arange(HELD)), 10)
        yield reference, reference.cells(rows.take(np.arange(HELD, n)))


def dealt(
    subject: Classifier, scored: Scored, held: int, requests: int, rng: np.random.Generator
) -> Iterator[tuple[Reference, IntArray]]:
    """References and streams from the held-out rows, dealt anew for every stream."""
    each = len(subject.pool) - held
    for _ in range(-(-requests // each)):
        order = rng.permutation(len(subject.pool))
        reference = Reference.of(
            subject.names, scored.take(order[:held]), len(subject.data.classes)
        )
        yield reference, reference.cells(scored.take(order[held:]))


def false_alarms(name: str, streams: Iterator[tuple[Reference, IntArray]], size: int) -> None:
    """Print the lines of one kind of traffic."""
    began, nulls = time.process_time(), {C: Null(), SMALL_C: Null()}
    for reference, cells in streams:
        watch_null(reference, cells, size, nulls)
    for c, null in nulls.items():
        print(null.row(name, c), flush=True)
    print(f"<!-- {name}: {time.process_time() - began:.0f} CPU-s -->", flush=True)


def foreign_images(subject: Classifier, rng: np.random.Generator) -> Images:
    """As many foreign images as there are held-out rows: grey CIFAR-10, else enlarged digits."""
    if CIFAR.exists():
        x = data.load(str(CIFAR)).test.x
        x = x if x.shape[1] == 3 else x.transpose(0, 3, 1, 2)
        grey = (x.astype(np.float32) / 255).mean(axis=1)[:, 2:30, 2:30]
    else:
        x = data.load("digits").train.x[:, 0].astype(np.float32) / 16
        sizes = [Image.fromarray(image).resize((28, 28)) for image in x]
        grey = np.stack([np.asarray(image) for image in sizes])
    return grey[rng.integers(len(grey), size=len(subject.pool)), None]


Shift = tuple[str, Scored, float]  # name, changed rows, share of the traffic that they are


def shifts(subject: Classifier, rng: np.random.Generator) -> list[Shift]:
    """The shifts of rows, scored for every held-out row."""
    x, y = subject.pool_unit, subject.pool.y
    middle = x.mean(axis=(1, 2, 3), keepdims=True)
    attacked = subject.scored(subject.fgsm(x, y, 0.1))
    return [
        ("noise 10/255", subject.scored(noisy(x, 10 / 255, rng)), 1.0),
        ("noise 25/255", subject.scored(noisy(x, 25 / 255, rng)), 1.0),
        ("rotation 15°", subject.scored(rotated(x, 15)), 1.0),
        ("contrast .7", subject.scored((x - middle) * np.float32(0.7) + middle), 1.0),
        ("blur", subject.scored(blurred(x, 1.0)), 1.0),
        ("inverted", subject.scored(inverted(x)), 1.0),
        ("FGSM .1, all", attacked, 1.0),
        ("FGSM .1, half", attacked, 0.5),
        ("FGSM .1, 10 %", attacked, 0.1),
        ("foreign, 5 %", subject.scored(foreign_images(subject, rng)), 0.05),
    ]


@dataclass(frozen=True)
class Run:
    """One deal: a reference, 1000 clean requests, and the traffic after every shift."""

    held: Scored
    clean: Scored
    shifted: dict[str, Scored]

    @classmethod
    def deal(cls, subject: Classifier, scored: Scored, changes: list[Shift], seed: int) -> Run:
        """From the held-out rows."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(subject.pool))
        traffic = order[HELD + CLEAN :]
        shifted = {}
        for name, changed, share in changes:
            hit = rng.random(len(traffic)) < share
            shifted[name] = scored.take(traffic).mixed(changed.take(traffic), hit)
        zero = subject.pool.y[traffic] == 0
        for name, kept in (("class 0 halved", 0.5), ("class 0 almost gone", 0.05)):
            stays = ~zero | (rng.random(len(traffic)) < kept)
            shifted[name] = scored.take(traffic[stays])
        clean = scored.take(order[HELD : HELD + CLEAN])
        return cls(scored.take(order[:HELD]), clean, shifted)


Delays = dict[str, list[float]]  # by shift, one per run; infinite where it was missed


def our_delays(runs: list[Run], names: list[str], classes: int) -> tuple[Delays, int]:
    """Delays of the stream's evidence, looked at after every request; false alarms before."""
    delays: Delays = {}
    early = 0
    for run in runs:
        reference = Reference.of(names, run.held, classes)
        clean = reference.cells(run.clean)
        for count, (name, rows) in enumerate(run.shifted.items()):
            evidence = StreamEvidence(reference.channels, c=C)
            for start in range(0, CLEAN, 50):
                evidence.update(reference.counts(clean[start : start + 50]))
            early += evidence.alarm is not None and count == 0
            delay = np.inf
            for index, cell in enumerate(reference.cells(rows), start=1):
                evidence.update(reference.counts(cell[None]))
                if evidence.alarm is not None:
                    delay = index
                    break
            delays.setdefault(name, []).append(delay)
    return delays, early


def clean_stretches(
    subject: Classifier, scored: Scored, requests: int, length: int, seed: int
) -> list[tuple[Scored, Scored]]:
    """References and clean traffic `(length,)` after each, until there are so many requests."""
    rng, parts = np.random.default_rng(seed), []
    for _ in range(-(-requests // length)):
        order = rng.permutation(len(subject.pool))
        parts.append((scored.take(order[:HELD]), scored.take(order[HELD : HELD + length])))
    return parts


def count_alarms(peer: Peer, setting: float, stretches: list[tuple[Scored, Scored]]) -> int:
    """Its alarms over clean traffic."""
    return sum(len(peer.alarms(*peer.inputs(h, rows), setting)) for h, rows in stretches)


def tuned(peer: Peer, stretches: list[tuple[Scored, Scored]]) -> float:
    """The most sensitive setting of its ladder that is silent on clean traffic, else the last."""
    for setting in peer.ladder[:-1]:
        silent = (not peer.alarms(*peer.inputs(h, x), setting, until=0) for h, x in stretches)
        if all(silent):
            return setting
    return peer.ladder[-1]


def peer_delays(peer: Peer, setting: float, runs: list[Run], horizon: int) -> tuple[Delays, int]:
    """Delays of a peer within `horizon` requests; runs with a false alarm in the clean ones.

    The windows of the dear ones hold 100 requests, so only the last 200 clean ones are replayed.
    """
    delays: Delays = {}
    early = 0
    for run in runs:
        held, clean = peer.inputs(run.held, run.clean)
        early += bool(peer.alarms(held, clean, setting, until=0))
        before = clean[-200:] if peer.dear else clean
        for name, rows in run.shifted.items():
            after = peer.inputs(run.held, rows.take(np.arange(min(horizon, len(rows.scores)))))[1]
            found = peer.alarms(held, np.concatenate([before, after]), setting, until=len(before))
            late = [at - len(before) for at in found if at > len(before)]
            delays.setdefault(name, []).append(late[0] if late else np.inf)
    return delays, early


def told(delays: list[float]) -> str:
    """The median, and how many were missed."""
    missed = int(np.isinf(delays).sum())
    middle = float(np.median(delays))
    text = "missed" if np.isinf(middle) else f"{middle:.0f}"
    return f"{text} ({missed}/{len(delays)})" if missed and not np.isinf(middle) else text


@dataclass(frozen=True)
class Budget:
    """How much is run: ours, cheap peers, dear peers."""

    runs: int
    peer_runs: int
    dear_runs: int
    horizon: int  # requests after the change, of cheap peers
    dear_horizon: int
    clean: int  # requests without drift that peers are tuned on, and as many to judge them
    dear_clean: int


SOME = Budget(15, 3, 2, 3000, 300, 100_000, 2000)
MORE = Budget(40, 10, 4, 8000, 1000, 300_000, 5000)


def compare(subject: Classifier, budget: Budget, others: list[Peer]) -> None:
    """Print delays of all detectors, shift by shift, and their false alarms."""
    rng = np.random.default_rng(0)
    scored, changes = subject.scored(subject.pool_unit), shifts(subject, rng)
    runs = [Run.deal(subject, scored, changes, seed) for seed in range(budget.runs)]
    began = time.process_time()
    delays, early = our_delays(runs, subject.names, len(subject.data.classes))
    columns = {"Holdfast": delays}
    print(f"<!-- own delays: {time.process_time() - began:.0f} CPU-s -->", flush=True)
    notes = [f"| Holdfast | c = {C:.0e} | {early} of {len(runs)} | see above | {len(runs)} runs |"]
    for peer in others:
        few = runs[: budget.dear_runs] if peer.dear else runs[: budget.peer_runs]
        horizon = budget.dear_horizon if peer.dear else budget.horizon
        length = 1000 if peer.dear else 10_000
        clean = budget.dear_clean if peer.dear else budget.clean
        tune_on = clean_stretches(subject, scored, clean, length, 1)
        judge_on = clean_stretches(subject, scored, clean, length, 2)
        for word, setting in (("default", peer.default), ("tuned", tuned(peer, tune_on))):
            began = time.process_time()
            title = f"{peer.name}, {word}"
            columns[title], early = peer_delays(peer, setting, few, horizon)
            rate = 10_000 * count_alarms(peer, setting, judge_on) / clean
            used = time.process_time() - began
            notes.append(
                f"| {title} | {setting:g} | {early} of {len(few)} | {rate:.1f} |"
                f" {len(few)} runs, {horizon} requests, {clean:,} clean ones |"
            )
            print(f"<!-- {title}: {used:.0f} CPU-s -->", flush=True)
    print("\n| delay in requests |" + "".join(f" {name} |" for name in columns) + " known |")
    print("|---|" + "--:|" * (len(columns) + 1))
    for shift, known in KNOWN.items():
        print(
            f"| {shift} |"
            + "".join(f" {told(d[shift])} |" for d in columns.values())
            + f" {known} |"
        )
    print("\n| detector | setting | alarm within 1000 clean | false alarms in 10,000 | over |")
    print("|---|--:|--:|--:|---|")
    print("\n".join(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=Path, help="weights of the MNIST preset's net")
    parser.add_argument("--data", choices=("all", "mnist", "digits", "synthetic"), default="all")
    parser.add_argument("--requests", type=int, default=1_000_000, help="without drift, of each")
    parser.add_argument("--look", type=int, default=50, help="requests between two looks")
    parser.add_argument("--full", action="store_true", help="more and longer runs")
    parser.add_argument("--alone", action="store_true", help="without river and frouros")
    parser.add_argument("--no-null", action="store_true", help="only the delays")
    asked = parser.parse_args()
    budget = MORE if asked.full else SOME
    torch.set_num_threads(1)
    mnist = classifier("mnist", asked.load) if asked.data in ("all", "mnist") else None
    if not asked.no_null:
        null_tables(asked, mnist)
    if mnist is not None:
        print(f"\n{mnist.about}; channels: {', '.join(mnist.names)}, class", flush=True)
        compare(mnist, budget, [] if asked.alone else peers())


def null_tables(asked: argparse.Namespace, mnist: Classifier | None) -> None:
    """Print false alarms of synthetic, MNIST and digits traffic."""
    rng = np.random.default_rng(0)
    print("| without drift | c | requests | alarms | 95 % | at most, in the mean | kept |")
    print("|---|--:|--:|--:|--:|--:|---|")
    if asked.data in ("all", "synthetic"):
        false_alarms("synthetic", synthetic(asked.requests, rng), asked.look)
    if mnist is not None:
        scored = mnist.scored(mnist.pool_unit)
        false_alarms("MNIST", dealt(mnist, scored, HELD, asked.requests, rng), asked.look)
    if asked.data in ("all", "digits"):
        digits = classifier("digits")
        scored, held = digits.scored(digits.pool_unit), len(digits.data.calibration)
        requests = asked.requests if asked.full else asked.requests // 10
        false_alarms("digits", dealt(digits, scored, held, requests, rng), held // 20)


if __name__ == "__main__":
    main()
