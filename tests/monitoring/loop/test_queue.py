"""Trainings of several models take turns: one at a time, first come first served, nobody twice."""

import itertools
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from monitoring.loop.durable.patience import Interrupted
from monitoring.loop.durable.turns import Turns
from tests.monitoring.loop.lab import Lab, job_of
from tests.waiting import wait_until

THREE = ("digits", "letters", "table")


class Training(threading.Thread):
    """Asks for a turn, holds it until it is let go, and notes where it stood."""

    def __init__(self, turns: Turns, model: str, since: float, done: list[str]) -> None:
        super().__init__(daemon=True)
        self.turns, self.model, self.since, self.finished = turns, model, since, done
        self.places: list[int] = []
        self.go, self.stop = threading.Event(), threading.Event()

    def run(self) -> None:
        """Wait, train, end."""
        try:
            with self.turns.turn(self.model, self.since, self.places.append, self.stop):
                self.go.wait(60)
                self.finished.append(self.model)
        except Interrupted:
            self.finished.append(f"{self.model} left")

    @property
    def place(self) -> int | None:
        """The last place it was told."""
        return self.places[-1] if self.places else None


def begin(turns: Turns, done: list[str], *wanted: tuple[str, float]) -> list[Training]:
    """Trainings that have asked, one after the other."""
    found = []
    for model, since in wanted:
        found.append(Training(turns, model, since, done))
        found[-1].start()
        wait_until(lambda: found[-1].place is not None, what="it was told its place", every=0.01)
    return found


def _has_turn(training: Training) -> bool:
    return training.place == 0


def finish(*trainings: Training) -> None:
    """Let them end, one after the other."""
    for training in trainings:
        wait_until(partial(_has_turn, training), what="its turn", every=0.01)
        training.go.set()
        training.join(60)


def test_who_asked_first_comes_first_and_is_told_the_place() -> None:
    turns, done = Turns(1), list[str]()
    a, b, c = begin(turns, done, ("a", 1.0), ("b", 3.0), ("c", 2.0))
    wait_until(lambda: (a.place, b.place, c.place) == (0, 2, 1), what="places", every=0.01)
    finish(a, c, b)
    assert done == ["a", "c", "b"]


def test_the_model_that_had_the_last_turn_lets_the_others_go_first() -> None:
    turns, done = Turns(1), list[str]()
    first, again, other = begin(turns, done, ("a", 1.0), ("a", 2.0), ("b", 3.0))
    finish(first, other, again)
    assert done == ["a", "b", "a"]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_so_many_train_at_once(most: int) -> None:
    turns, done = Turns(most), list[str]()
    all_of_them = begin(turns, done, *((f"m{k}", float(k)) for k in range(5)))
    assert sum(t.place == 0 for t in all_of_them) == most
    finish(*all_of_them)
    assert len(done) == 5


def test_who_is_told_to_stop_leaves_the_queue_to_the_others() -> None:
    turns, done = Turns(1), list[str]()
    a, b, c = begin(turns, done, ("a", 1.0), ("b", 2.0), ("c", 3.0))
    b.stop.set()
    b.join(60)
    finish(a, c)
    assert done == ["b left", "a", "c"]


def test_a_training_that_raises_gives_its_turn_back() -> None:
    turns = Turns(1)
    for _ in range(3):
        with (
            pytest.raises(KeyError),
            turns.turn("a", 1.0, lambda place: None, threading.Event()),
        ):
            raise KeyError("x")
    (last,) = begin(turns, [], ("b", 2.0))
    finish(last)


def spans(lab: Lab, model: str) -> tuple[float, float]:
    """When a model's training began and when its result was written."""
    folder = lab.folder / "jobs" / f"job-{model}"
    return (folder / "train.runs").stat().st_mtime, (folder / "train.json").stat().st_mtime


def test_trainings_of_three_models_follow_each_other_while_evaluations_go_on(
    tmp_path: Path,
) -> None:
    lab, now = Lab(tmp_path, THREE), time.time()
    for model in THREE:
        lab.put(job_of(f"job-{model}", model, held=["train"]))
    process = lab.begin()

    def queued() -> set[str]:
        stages = {job.stage for job in lab.jobs().values()}
        return stages & {"queued for training (1st)", "queued for training (2nd)"}

    wait_until(lambda: len(queued()) == 2, what="two wait in the queue", every=0.05)
    waiting = [j for j in lab.jobs().values() if j.stage.startswith("queued")]
    assert all(job.evaluation for job in waiting), "they were evaluated meanwhile"
    for model in THREE:
        lab.let_go(f"job-{model}", "train")
    assert lab.wait(process) == 0
    assert {job.outcome for job in lab.jobs().values()} == {"promoted"}
    ordered = sorted(spans(lab, model) for model in THREE)
    for (_, ended), (began, _) in itertools.pairwise(ordered):
        assert ended <= began + 0.05
    assert ordered[0][0] >= now - 1
