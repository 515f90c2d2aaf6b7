"""`python -m benchmarks.benign_shifts`: how often drift that does no harm starts a re-evaluation.

A net for the digits is trained and published (or taken from `--state`). Then for each change of the
traffic a watcher with stores of its own looks at 900 clean requests and 3600 changed ones, 150 a
look, 14 seconds between looks, half of the requests labelled within a look. Evidence, labels,
triggers, registry and databases are the product's; HTTP is left out, the clock is simulated, and a
job that is started judges the champion by its labelled rows at once, as a look of the loop does.

Ten changes move inputs and leave accuracy above the floor; the other ones do harm, and have to be
seen. "alarms" is also how many re-evaluations there were when each alarm of drift started one.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models import corruptions, data
from models.nets import factories
from models.statistics.intervals import proportion
from models.training.recipe import Recipe
from models.versions.bundle import Bundle
from models.versions.facts import EventFacts
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.counting.counters import Counts, Page
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.looks import judge_look
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.results import Look
from monitoring.loop.triggers import Policy
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from monitoring.records import store
from monitoring.records.store import Key, Record, RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan

MODEL = "digits"
NET = factories.NetSpec("small_conv", {"shape": [1, 8, 8], "classes": 10})
LOOK, SECONDS = 150, 14.0
CLEAN, CHANGED = 900, 3600  # longer than a cool-down: what labels do not settle starts a look
LABELLED = 0.5
C = 1e6
BEGIN = 1.8e9  # seconds since 1970
SEED = 20261201

Images = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Change = Callable[[Images, np.random.Generator], Images]
Draw = Callable[[npt.NDArray[np.int64], int, np.random.Generator], Index]  # labels, rows


def draw(y: Index, rows: int, rng: np.random.Generator) -> Index:
    """Rows at random."""
    return rng.integers(0, len(y), rows)


def draw_mix(y: Index, rows: int, rng: np.random.Generator) -> Index:
    """Three classes three times as often."""
    weight = np.where(y < 3, 3.0, 1.0)
    return rng.choice(len(y), rows, p=weight / weight.sum())


def draw_days(y: Index, rows: int, rng: np.random.Generator) -> Index:
    """The classes come and go, by a third, in days of 1200 requests."""
    phase = 2 * np.pi * (np.arange(rows) / 1200)[:, None] + 2 * np.pi * np.arange(10) / 10
    weight = 1 + np.sin(phase) / 3
    wanted = (rng.random((rows, 1)) > (weight / weight.sum(1, keepdims=True)).cumsum(1)).sum(1)
    return np.array([rng.choice(np.flatnonzero(y == min(k, 9))) for k in wanted])


def draw_retries(y: Index, rows: int, rng: np.random.Generator) -> Index:
    """One request in five is sent five times more."""
    once = draw(y, rows, rng)
    return np.repeat(once, np.where(rng.random(rows) < 0.2, 6, 1))[:rows]


def draw_bursts(y: Index, rows: int, rng: np.random.Generator) -> Index:
    """A tenth of the traffic comes in bursts of 30 of one class."""
    index = draw(y, rows, rng)
    for start in np.flatnonzero(rng.random(rows) < 0.1 / 30):
        one = np.flatnonzero(y == rng.integers(10))
        end = min(rows, start + 30)
        index[start:end] = rng.choice(one, end - start)
    return index


def keep(x: Images, rng: np.random.Generator) -> Images:
    """No change of the images."""
    return x


class Shift(NamedTuple):
    """A change of the traffic, on images in [0, 1]."""

    name: str
    change: Change = keep
    draw: Draw = draw


BENIGN = (
    Shift("brightness +.04", lambda x, rng: x + 0.04),
    Shift("contrast .85", lambda x, rng: 0.5 + 0.85 * (x - 0.5)),
    Shift("noise .05", lambda x, rng: corruptions.noisy(x, 0.05, rng)),
    Shift("blur .35", lambda x, rng: corruptions.blurred(x, 0.35)),
    Shift("turned 4 degrees", lambda x, rng: corruptions.rotated(x, 4.0)),
    Shift("dark corner", lambda x, rng: x * np.where(np.arange(64).reshape(8, 8) < 1, 0.5, 0.97)),
    Shift("three classes x3", draw=draw_mix),
    Shift("days of the classes", draw=draw_days),
    Shift("retries", draw=draw_retries),
    Shift("bursts", draw=draw_bursts),
)
HARMFUL = (
    Shift("turned 25 degrees", lambda x, rng: corruptions.rotated(x, 25.0)),
    Shift("inverted", lambda x, rng: 1 - x),
    Shift("blur 1.2", lambda x, rng: corruptions.blurred(x, 1.2)),
)


class Outcome(NamedTuple):
    """What came of a change."""

    accuracy: float
    alarms: int
    alarm_after: int | None  # requests since the change
    verdict_after: int | None  # labelled rows since the alarm, until it was called harmless
    jobs: list[Job]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, help="a folder whose registry has the model")
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        registry = Registry((asked.state or root) / "registry")
        if not registry.versions(MODEL):
            order = Order(
                MODEL, Recipe(epochs=asked.epochs), NET, EventFacts("first", "benchmark"), "x"
            )
            version = make_version(registry, data.load_digits(), order)
            registry.promote(MODEL, version, expected=None, actor="x", reason="first")
        bundle = registry.open(MODEL)
        assert bundle.manifest.evaluation is not None
        print(f"accuracy promised: {bundle.manifest.evaluation.clean}\n")
        print("| traffic | accuracy | alarms | after requests | labels until told | looks |")
        print("|---|---|---|---|---|---|")
        for kind, shifts in (("benign", BENIGN), ("harmful", HARMFUL)):
            jobs = alarms = 0
            for number, shift in enumerate(shifts):
                outcome = watch(registry, bundle, shift, root / f"{kind}-{number}")
                jobs, alarms = jobs + len(outcome.jobs), alarms + outcome.alarms
                print(_row(shift, outcome), flush=True)
            print(f"| **{kind}, in all** | | {alarms} | | | {jobs} |", flush=True)


def _row(shift: Shift, outcome: Outcome) -> str:
    looks = str(len(outcome.jobs))
    if outcome.jobs:
        looks += f" ({outcome.jobs[0].source}: {outcome.jobs[0].reason[:60]})"
    after = "-" if outcome.alarm_after is None else f"{outcome.alarm_after:,}"
    told = "-" if outcome.verdict_after is None else f"{outcome.verdict_after:,}"
    accuracy = f"{outcome.accuracy:.1%}"
    return f"| {shift.name} | {accuracy} | {outcome.alarms} | {after} | {told} | {looks} |"


def watch(registry: Registry, bundle: Bundle, shift: Shift, folder: Path) -> Outcome:
    """Let a watcher look at clean traffic and then at changed traffic."""
    folder.mkdir()
    rng, runner = np.random.default_rng(SEED), Runner(bundle)
    engine = sa.create_engine(f"sqlite:///{folder}/jobs.sqlite")
    records, jobs = RecordStore(f"sqlite:///{folder}/records.sqlite"), JobStore(engine)
    card = bundle.manifest.evaluation
    assert card is not None
    clock = SimpleNamespace(now=BEGIN)
    store.time = SimpleNamespace(time=lambda: clock.now)  # type: ignore[attr-defined]
    started: list[Job] = []

    def look_at_champion(job: Job) -> None:
        right = records.observed(MODEL, job.champion, 2000, since=job.since)
        live = proportion(right)
        verdict, words = judge_look(job, live, card.clean, card)
        look = Look(verdict, words, live, card.clean, None, clock.now)
        jobs.change(job.id, evaluation=look)
        jobs.end(job.id, verdict, words)
        started.append(jobs.get(job.id))

    plan = WatchPlan((), str(folder), SECONDS, C, Policy())
    watcher = Watcher(plan, registry, records, jobs, WatchMetrics(), look_at_champion)
    totals: Counts = {}
    watcher.services.look = lambda now: {"service": Page(dict(totals))}  # type: ignore[method-assign]
    watcher.tick(clock.now)
    rows = data.load_digits().test
    order = np.concatenate([draw(rows.y, CLEAN, rng), shift.draw(rows.y, CHANGED, rng)])
    alarms, on, alarm_after, verdict_after, right_all = 0, False, None, None, []
    for start in range(0, len(order), LOOK):
        clock.now += SECONDS
        index = order[start : start + LOOK]
        unit = bundle.manifest.input.to_unit(rows.x[index])
        if start >= CLEAN:
            unit = np.clip(shift.change(unit, rng), 0, 1)
        right = _answer(bundle, runner, unit, rows.y[index], start, clock.now, records, totals, rng)
        right_all += right if start >= CLEAN else []
        watcher.tick(clock.now)
        stream = watcher.streams[MODEL]
        was, on = on, stream.evidence.alarm is not None
        if on and not was:
            alarms += 1
            alarm_after = start + LOOK - CLEAN if alarm_after is None else alarm_after
        if started and started[-1].outcome == "failed":
            break  # the loop would train now
        if stream.harmless and verdict_after is None:
            verdict_after = len(records.observed(MODEL, 1, 10**6, since=stream.alarm_since or 0.0))
    records.close()
    engine.dispose()
    return Outcome(float(np.mean(right_all)), alarms, alarm_after, verdict_after, started)


def _answer(
    bundle: Bundle, runner: Runner, unit: Images, y: Index, start: int, now: float,
    records: RecordStore, totals: Counts, rng: np.random.Generator,
) -> list[bool]:  # fmt: skip
    """Answer rows as the service does: count cells, write records, and label half of them."""
    x = bundle.manifest.input.from_unit(unit)
    answer = runner.run(x)
    p = answer.probabilities.astype(np.float64)
    predicted, entropy = p.argmax(1), -(p * np.log(np.maximum(p, 1e-12))).sum(1)
    for column, channel in enumerate(bundle.manifest.channels):
        for cell, count in enumerate(np.bincount(answer.cells[:, column])):
            key = (MODEL, "1", channel.name, cell)
            totals[key] = totals.get(key, 0.0) + float(count)
    made: list[Any] = [
        Record(
            f"r{start + k}", 0, now, MODEL, 1, b"", int(predicted[k]),
            float(answer.drift_p_value[k]), float(answer.perturbation_likelihood[k]),
            float(p[k].max()), float(entropy[k]),
        )
        for k in range(len(x))
    ]  # fmt: skip
    records.add(made)
    labelled = np.flatnonzero(rng.random(len(x)) < LABELLED)
    found = records.find([Key(f"r{start + k}", 0) for k in labelled])
    truth = {f"r{start + k}": int(y[k]) for k in labelled}
    records.add_feedback([(key, row, truth[key.id]) for key, row in found.items()])
    return (predicted == y).tolist()


if __name__ == "__main__":
    main()
