"""One scenario for real: `holdfast up` in a state of its own, ten clients, and what it does."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.lifecycle.figures import Cycle, Judge, Robust
from benchmarks.lifecycle.scenarios import HARM_POINTS, Phase, Scenario, render
from benchmarks.lifecycle.traffic import Books, Clients, World
from models.data import DataSet, Rows
from tests.e2e.stack import Stack, get, running

SHARES = 3  # one third of the held-out rows is measured on, two thirds are traffic
GAIN = 0.03  # of each traffic row, so that none is a row of the data set; sent again, it is equal
CLEAN_SECONDS, SETTLE_SECONDS, LOOK_SECONDS = 30.0, 60.0, 0.5
COOL_DOWN_SECONDS = 30.0
QUICK = {
    "HOLDFAST_RETRAIN_EPOCHS": "6",
    "HOLDFAST_SHADOW_SECONDS": "5",
    "HOLDFAST_PROBATION_SECONDS": "5",
}
AS_SHIPPED = {
    "HOLDFAST_WATCH_INTERVAL_SECONDS": "2",
    "HOLDFAST_RELOAD_INTERVAL_SECONDS": "0.5",
    "HOLDFAST_SHADOW_SECONDS": "30",
    "HOLDFAST_PROBATION_SECONDS": "30",
    "HOLDFAST_RETRAIN_EPOCHS": "20",
    "HOLDFAST_COOL_DOWN_SECONDS": f"{COOL_DOWN_SECONDS:g}",
}


class Result(msgspec.Struct, frozen=True):
    """What became of a scenario; `seconds` by the clock, of a machine that others use as well."""

    name: str
    rate: float
    asked_rate: float
    cycles: list[Cycle]
    robust: Robust
    requests: int
    failed: dict[str, int]
    labels: int
    labels_refused: int
    labels_failed: dict[str, int]
    seconds: float


@dataclass
class Seen:
    """What the watcher's port said during a phase; times are this process's clock."""

    started: float
    champion: int
    harm_at: float | None = None
    promoted_at: float | None = None
    new: int | None = None
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def answered(self) -> bool:
        """Whether a job of the phase has promoted a version and is over."""
        return any(job["outcome"] == "promoted" for job in self.jobs)


def run(
    scenario: Scenario, base: Path, folder: Path, source: DataSet, *, quick: bool, seed: int = 1
) -> Result:
    """Run it to its end.

    Args:
        scenario: what happens.
        base: a state directory with a first version; it is copied.
        folder: for the copy; made anew.
        source: the data of the model.
        quick: shorter waits and less training.
        seed: of rows, clients and noise.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / "registry", folder / "registry")
    traffic, apart = _deal(source, seed)
    stack = Stack(folder, AS_SHIPPED | (QUICK if quick else {}))
    began = time.monotonic()
    with running(stack):
        clients = Clients(stack.port, source.name, _world(source, traffic, "clean", scenario, seed),
                          scenario.rate, seed)  # fmt: skip
        try:
            time.sleep(CLEAN_SECONDS)
            seen = []
            for number, phase in enumerate(scenario.phases, seed + 1):
                world = _world(source, traffic, phase.shift, scenario, number)
                seen.append(_live_through(stack, clients, phase, world))
        finally:
            books = clients.stop()
    judge = Judge(folder, source, apart)
    seconds = time.monotonic() - began
    return Result(
        name=scenario.name,
        rate=scenario.rate,
        asked_rate=len(books.at) / (books.at[-1] - books.at[0]),
        cycles=[
            _sum_up(judge, phase, each, books)
            for phase, each in zip(scenario.phases, seen, strict=True)
        ],
        robust=judge.robust(seen[0].champion, _last(seen[-1])),
        requests=len(books.at) + books.failed.total(),
        failed=dict(books.failed),
        labels=books.labels,
        labels_refused=books.labels_refused,
        labels_failed=dict(books.labels_failed),
        seconds=seconds,
    )


def _deal(source: DataSet, seed: int) -> tuple[Rows, Rows]:
    """Held-out rows for traffic, and others to measure on."""
    held = source.calibration.joined(source.test)
    order = np.random.default_rng(seed).permutation(len(held))
    cut = len(held) // SHARES
    return held.take(order[cut:]), held.take(order[:cut])


def _world(source: DataSet, rows: Rows, shift: str, scenario: Scenario, seed: int) -> World:
    moved = render(source, rows, shift, seed)
    gain = 1 - GAIN * np.random.default_rng(seed).random((len(moved), 1, 1, 1))
    return World.of(
        Rows((moved.x * gain).round(3).astype(moved.x.dtype), moved.y), source.classes,
        delay_seconds=scenario.delay_seconds, labelled=scenario.labelled, only=scenario.only,
    )  # fmt: skip


def _live_through(stack: Stack, clients: Clients, phase: Phase, world: World) -> Seen:
    """A phase to its end: until a promotion has settled, or patience is over."""
    seen = Seen(time.time(), stack.watched()["aliases"]["champion"])
    old_harm = (stack.watched().get("harm") or {}).get("alarm") is not None
    clients.world = world
    settled: float | None = None
    while time.time() < (settled or seen.started + phase.seconds):
        time.sleep(LOOK_SECONDS)
        try:
            model, jobs = stack.watched(), get(f"{stack.watch_url}/jobs")
        except OSError:
            continue  # the machine is busy; the next look tells the same
        harm = (model.get("harm") or {}).get("alarm") is not None
        if harm and not old_harm and seen.harm_at is None:
            seen.harm_at = time.time()
        old_harm = old_harm and harm
        champion = model["aliases"]["champion"]
        if champion != seen.champion and seen.promoted_at is None:
            seen.promoted_at, seen.new = time.time(), champion
        seen.jobs = [job for job in jobs if job["created_at"] >= seen.started]
        if settled is None and seen.answered():
            settled = time.time() + SETTLE_SECONDS
    seen.new = stack.watched()["aliases"]["champion"]
    return seen


def _last(seen: Seen) -> int:
    return seen.champion if seen.new is None else seen.new


def _sum_up(judge: Judge, phase: Phase, seen: Seen, books: Books) -> Cycle:
    first, old, new = 1, seen.champion, _last(seen)
    before = float(judge.right(first, "clean").mean())
    at_shift = float(judge.right(old, phase.shift).mean())
    trained = sum(job["challenger"] is not None for job in seen.jobs)
    needed = phase.mendable and before - at_shift >= HARM_POINTS
    turned = seen.promoted_at or time.time()
    return Cycle(
        shift=phase.shift,
        before=before,
        at_shift=at_shift,
        after=float(judge.right(new, phase.shift).mean()),
        regained=judge.regained(first, old, new, phase.shift),
        original_lost=judge.lost(first, new),
        live=(
            books.accuracy(seen.started, turned),
            books.accuracy(turned + 1.0, turned + SETTLE_SECONDS) if seen.promoted_at else None,
        ),
        harm_seconds=None if seen.harm_at is None else seen.harm_at - seen.started,
        promoted_seconds=(
            seen.promoted_at - seen.harm_at if seen.promoted_at and seen.harm_at else None
        ),
        trained=trained,
        needless=max(0, trained - needed),
        said=[_say(job) for job in reversed(seen.jobs)],
    )


def _say(job: dict[str, Any]) -> str:
    outcome = job["outcome"] or f"at {job['stage']!r} when the scenario ended"
    return f"{job['kind']} ({job['source']}): {outcome}: {job['detail']}"
