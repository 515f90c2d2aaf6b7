"""`python -m benchmarks.drift_field`: drift evidence on traffic that is not independent.

1. False alarms in 100,000 requests under four nuisances (a daily cycle of the class mix, retries,
   bursts, autocorrelation), before and after one recorded cycle was accepted as normal: ranks
   within each predicted class, a band of class shares, phi, and exact repeats counted once.
2. Delays of shifts on independent traffic, and after each nuisance was accepted.
3. A, then B, accepted, then A again, undone, then B: what alarms and what stays calm.
4. Contamination that grows slowly, with and without lagged copies.
5. A flag that is rare in the reference and is not any more.
6. How often the onset's set holds the true beginning, and how wide it is.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, chi2

from benchmarks.drift_field_worlds import (
    Draw,
    Reference,
    Rows,
    World,
    autocorrelated,
    bursts,
    cancer,
    cycle,
    independent,
    mnist,
    retries,
)
from models.statistics.arrays import IntArray
from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.channels import Accepted, StreamEvidence
from monitoring.evidence.class_band import BLOCK, ClassBand
from monitoring.evidence.onset import CONFIDENCE
from monitoring.evidence.urn import LAGS

C = 1e6
HELD, RECORD, WATCHED, CALM = 5000, 30_000, 100_000, 1000  # requests
LOOK, CLOSE = 100, 5  # requests in a look; while a delay is measured
HORIZON = 20_000
CLASS_SHIFTS = {"class 0 halved": 0.5, "class 0 almost gone": 0.05}


@dataclass
class Watch:
    """A stream of evidence and the cells of its traffic."""

    reference: Reference
    stream: StreamEvidence
    seen: list[IntArray]

    @classmethod
    def of(cls, world: World, rng: np.random.Generator, *, per_class: bool = True) -> Watch:
        """On a new reference of independent rows."""
        rows = world.clean.take(rng.integers(len(world.clean.predicted), size=HELD))
        reference = Reference.of(world, rows, per_class=per_class)
        return cls(reference, StreamEvidence(reference.channels, c=C, eta="auto"), [])

    def feed(self, rows: Rows, look: int = LOOK) -> tuple[int, float]:
        """Weigh rows; returns the alarms raised and the share of looks that saw one on."""
        cells, raised, on = self.reference.cells(rows), 0, []
        for start in range(0, len(cells), look):
            was = self.stream.alarm is not None
            self.stream.update(self.reference.counts(cells[start : start + look]))
            on.append(self.stream.alarm is not None)
            raised += on[-1] and not was
        self.seen.append(cells)
        return raised, float(np.mean(on))

    def accept(self, requests: int, *, band: bool) -> None:
        """Take the latest requests as normal; with the band of class shares where asked."""
        cells = np.concatenate(self.seen)[-requests:]
        counts = {name: row.tolist() for name, row in self.reference.counts(cells).items()}
        blocks = [
            np.bincount(part[:, -1], minlength=len(counts["class"]))
            for part in np.split(cells, range(BLOCK, len(cells), BLOCK))
            if len(part) == BLOCK
        ]
        self.stream.retake(Accepted(counts, ClassBand.learn(blocks) if band else None))

    def delay(self, rows: Rows, look: int = CLOSE) -> float:
        """Requests until the alarm, infinite where there is none; the watch itself stays."""
        stream, cells = copy.deepcopy(self.stream), self.reference.cells(rows)
        for start in range(0, len(cells), look):
            stream.update(self.reference.counts(cells[start : start + look]))
            if stream.alarm is not None:
                return min(start + look, len(cells))
        return np.inf


def without_repeats(index: IntArray) -> IntArray:
    """The requests that are no exact repeat of the one before."""
    return index[np.append(True, index[1:] != index[:-1])]


def nuisances(world: World) -> dict[str, Draw]:
    """All ways in which traffic is not independent here."""
    return {
        "class mix +-.2": cycle(world, RECORD),
        "retries 20 %": retries(world),
        "bursts of 30, 10 %": bursts(world),
        "AR(.5)": autocorrelated(world),
    }


def recorded(world: World, draw: Draw, requests: int, seed: int) -> tuple[Watch, IntArray, float]:
    """A watch that has accepted one cycle, the traffic after it, and seconds of CPU."""
    rng, began = np.random.default_rng(seed), time.process_time()
    watch = Watch.of(world, rng)
    index = without_repeats(draw(RECORD + int(1.3 * requests), rng))
    watch.feed(world.clean.take(index[:RECORD]))
    watch.accept(RECORD, band=True)
    return watch, index[RECORD : RECORD + requests], time.process_time() - began


def false_alarms(world: World, streams: int) -> None:
    """Print alarms per 100,000 requests under every nuisance."""
    print(f"\n| {world.name}: nuisance | before: alarms | looks in alarm | after: alarms | 95 % |")
    print("|---|--:|--:|--:|--:|")
    for name, draw in {"none": independent(world), **nuisances(world)}.items():
        before, share, after = 0, [], 0
        for seed in range(streams):
            rng = np.random.default_rng(1000 + seed)
            plain = Watch.of(world, rng, per_class=False)
            index = draw(RECORD + WATCHED, rng)
            plain.feed(world.clean.take(index[:RECORD]))
            raised, on = plain.feed(world.clean.take(index[RECORD:]))
            before, share = before + raised, [*share, on]
            watch, index, _ = recorded(world, draw, WATCHED, 1000 + seed)
            after += watch.feed(world.clean.take(index))[0]
        high = chi2.ppf(0.975, 2 * after + 2) / 2 / streams
        print(
            f"| {name} | {before / streams:.2f} | {np.mean(share):.0%} | {after / streams:.2f} |"
            f" at most {high:.2f} |",
            flush=True,
        )


def shifted(world: World, index: IntArray, shift: str, rng: np.random.Generator) -> Rows:
    """Traffic under a shift of rows or of the class mix."""
    if shift not in CLASS_SHIFTS:
        return world.traffic(index, shift, rng)
    zero = world.clean.predicted[index] == 0
    return world.clean.take(index[~zero | (rng.random(len(index)) < CLASS_SHIFTS[shift])])


def delays(world: World, runs: int) -> None:
    """Print the median delay of every shift, without and with each nuisance accepted."""
    names = [*world.shifts, *CLASS_SHIFTS]
    table: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    plain, *rest = "pooled, independent", "independent", *nuisances(world)
    draws = {"independent": independent(world), **nuisances(world)}
    for seed in range(runs):
        for column in (plain, *rest):
            rng = np.random.default_rng(2000 + seed)
            if column in (plain, "independent"):
                watch, draw = Watch.of(world, rng, per_class=column != plain), independent(world)
                index = draw(CALM + HORIZON, rng)
            else:
                watch, index, _ = recorded(world, draws[column], CALM + HORIZON, 2000 + seed)
            watch.feed(world.clean.take(index[:CALM]))
            for name in names:
                rows = shifted(world, index[CALM:], name, np.random.default_rng(seed))
                table[name].setdefault(column, []).append(watch.delay(rows))
    print(f"\n| {world.name}: median delay |" + "".join(f" {c} |" for c in (plain, *rest)))
    print("|---|" + "--:|" * (1 + len(rest)))
    for name in names:
        cells = "".join(f" {told(table[name][column])} |" for column in (plain, *rest))
        print(f"| {name} |{cells}", flush=True)


def told(values: Sequence[float]) -> str:
    """The median, and how many were missed."""
    missed, middle = int(np.isinf(values).sum()), float(np.median(values))
    text = "missed" if np.isinf(middle) else f"{middle:.0f}"
    return f"{text} ({missed}/{len(values)} missed)" if missed else text


def there_and_back(world: World, shift: str, runs: int) -> None:
    """Print what A, B, accepted, A, undone, B does."""
    first, calm_b, back, calm_a, again = [], 0, [], 0, []
    for seed in range(runs):
        rng = np.random.default_rng(3000 + seed)
        watch, draw = Watch.of(world, rng), independent(world)

        def rows(n: int, name: str, rng: np.random.Generator = rng, draw: Draw = draw) -> Rows:
            return world.traffic(draw(n, rng), name, rng)

        watch.feed(rows(2000, ""))
        first.append(watch.delay(rows(2000, shift)))
        watch.feed(rows(RECORD, shift))
        watch.accept(RECORD, band=True)
        calm_b += watch.feed(rows(50_000, shift))[0]
        back.append(watch.delay(rows(2000, "")))
        watch.feed(rows(2000, ""))
        watch.stream.retake(None)
        calm_a += watch.feed(rows(50_000, ""))[0]
        again.append(watch.delay(rows(2000, shift)))
    n = f"{50_000 * runs:,} requests"
    print(
        f"\n{world.name}, A-B-A with B = {shift}, {runs} runs: B seen after {told(first)}; "
        f"accepted: {calm_b} alarms in {n} of B; A seen after {told(back)}; undone: {calm_a} in "
        f"{n} of A; B seen again after {told(again)}",
        flush=True,
    )


def slow(world: World, runs: int) -> None:
    """Print requests until a contamination that grows with every request is seen."""
    print(f"\n| {world.name}: foreign rows grow by | n | lags | median | range |")
    print("|---|--:|---|--:|---|")
    foreign = world.shifts["foreign, 5 %"][0]
    for growth, most in ((0.005, 10_000), (0.0002, 60_000)):
        for n in (HELD, 360):
            for lags in (LAGS, (5000,), ()):
                found = []
                for seed in range(runs):
                    rng = np.random.default_rng(4000 + seed)
                    pick = independent(world)
                    reference = Reference.of(world, world.clean.take(pick(n, rng)), per_class=True)
                    stream = StreamEvidence(reference.channels, c=C, eta="auto", lags=lags)
                    index = pick(most + CALM, rng)
                    share = np.maximum(np.arange(len(index)) - CALM, 0) * growth / 1000
                    rows = world.clean.take(index).mixed(
                        foreign.take(index), rng.random(len(index)) < share
                    )
                    watch = Watch(reference, stream, [])
                    found.append(watch.delay(rows, look=50) - CALM)
                ends = f"{min(found):.0f} to {max(found):.0f}"
                row = (f"{growth:.2%} per 1000", n, lags, told(found), ends)
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


def rare_flag(runs: int) -> None:
    """Print requests until a flag of .2 % that rises to 5 % is seen, by the reference's size."""
    for n, classes in ((500, 1), (500, 4), (2000, 1), (2000, 4)):
        found = []
        for seed in range(runs):
            rng = np.random.default_rng(5000 + seed)

            def count(
                m: int, share: float, rng: np.random.Generator = rng, classes: int = classes
            ) -> IntArray:
                cells = 2 * rng.integers(classes, size=m) + (rng.random(m) < share)
                return np.bincount(cells, minlength=2 * classes)

            groups, labels = (2,) * classes, ("0", "1") * classes
            flag = ChannelReference("flag", "category", count(n, 0.002) + 0.5, labels, groups)
            stream = StreamEvidence([flag], c=C, eta="auto")
            stream.update({"flag": count(1000, 0.002)})
            while stream.alarm is None and stream.requests < 1000 + HORIZON:
                stream.update({"flag": count(CLOSE, 0.05)})
            found.append(stream.requests - 1000 if stream.alarm else np.inf)
        told_of = f"flag, .2 % to 5 %, n = {n}, {classes} classes of cells, {runs} runs"
        print(f"\n{told_of}: seen after {told(found)}", flush=True)


def onset(world: World, references: int) -> None:
    """Print how often the onset's set holds the true beginning, and its width."""
    widths: dict[str, list[float]] = {}
    held, alarms, off = 0, 0, []
    for seed in range(references):
        rng = np.random.default_rng(6000 + seed)
        watch, draw = Watch.of(world, rng), independent(world)
        true = int(rng.integers(500, 6000))
        watch.feed(world.clean.take(draw(true, rng)), look=20)
        if watch.stream.alarm is not None:
            continue
        for name in (*world.shifts, "class 0 almost gone"):
            stream = copy.deepcopy(watch.stream)
            rows = shifted(world, draw(HORIZON // 4, rng), name, rng)
            cells = watch.reference.cells(rows)
            for start in range(0, len(cells), CLOSE):
                stream.update(watch.reference.counts(cells[start : start + CLOSE]))
                if stream.alarm is not None:
                    break
            if stream.alarm is None:
                continue
            found = stream.alarm.onset
            alarms += 1
            held += found.first <= true <= found.last
            widths.setdefault(name, []).append(found.last - found.first)
            off.append(abs(found.likely - true))
    low = beta.ppf(0.025, held, alarms - held + 1)
    high = beta.ppf(0.975, held + 1, alarms - held) if held < alarms else 1.0
    print(
        f"\n{world.name}, onset: {held} of {alarms} sets hold the true beginning, "
        f"{held / alarms:.1%} ({low:.1%} to {high:.1%}; told: {CONFIDENCE:.0%}); the likely one is "
        f"off by {np.median(off):.0f} in the median"
    )
    print("median width: " + ", ".join(f"{n}: {np.median(w):.0f}" for n, w in widths.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=6, help="of 100,000 requests, per nuisance")
    parser.add_argument("--runs", type=int, default=9, help="per delay")
    parser.add_argument("--references", type=int, default=100, help="for the onset, 6 alarms each")
    parser.add_argument("--only", choices=PARTS, nargs="*", help="some parts")
    asked = parser.parse_args()
    for name, part in PARTS.items():
        if not asked.only or name in asked.only:
            began = time.process_time()
            part(asked)
            print(f"<!-- {name}: {time.process_time() - began:.0f} CPU-s -->", flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "alarms": lambda asked: false_alarms(mnist(), asked.streams),
    "delays": lambda asked: delays(mnist(), asked.runs),
    "tables": lambda asked: [
        false_alarms(cancer(columns=0), asked.streams),
        false_alarms(cancer(), asked.streams),
        delays(cancer(), asked.runs),
    ],
    "back": lambda asked: there_and_back(mnist(), "rotation 15°", asked.runs),
    "slow": lambda asked: slow(mnist(), asked.runs),
    "flag": lambda asked: rare_flag(2 * asked.runs),
    "onset": lambda asked: onset(mnist(), asked.references),
}


if __name__ == "__main__":
    main()
