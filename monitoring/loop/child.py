"""The heavy steps of the loop, each in a process of its own.

It is started as `python -m monitoring.loop.child STEP DIR`. DIR holds `<step>.task.json`, a
`monitoring.loop.jobs.Task`; the step writes `<step>.json` there, whole or not at all. Running out
of memory or being killed here harms neither watcher nor service.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from models.attacks.threat import geometry_of
from models.base.errors import HoldfastError, out_of_memory
from models.base.files import write_atomic
from models.data import DataSet, Rows
from models.data.source import data_of
from models.data.window import Window
from models.evaluation.adversarial import robust
from models.evaluation.comparison import Comparison, attacked_rows
from models.evaluation.gates import judge_all
from models.evaluation.subject import Subject, right
from models.nets import factories
from models.statistics.arrays import IntArray
from models.statistics.intervals import proportion
from models.training.loop import Recipe
from models.versions.bundle import Bundle
from models.versions.facts import EventFacts, TrainingFacts
from models.versions.figures import AttackFigure, Evaluation
from models.versions.registry import Registry
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.jobs import Task
from monitoring.loop.looks import judge_look
from monitoring.loop.results import Collected, Gated, Look, Trained
from monitoring.loop.steps import PASSING_STATUS
from monitoring.loop.terms import quota_of, terms_of
from monitoring.making.opening import open_subject
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from monitoring.records.store import RecordStore
from monitoring.scoring.perturbation.benign import again

WINDOW_LIMIT = 5000
OUT_OF_MEMORY = (
    "there was not enough memory; nothing was published. Give the watcher's machine or container "
    "more, or make the data, the net or the batch smaller, and ask again"
)


def collect(task: Task, folder: Path) -> Collected:
    """Freeze the usable labelled traffic since the cause began: all steps see the same rows."""
    job, quota = task.job, quota_of(terms_of(task.job))
    manifest, store = (
        _registry(task).manifest(job.model, job.champion),
        RecordStore(task.database_url),
    )
    usable = store.usable(job.model, since=job.since, version=job.champion, quota=quota)
    if unused := usable.words():
        print(unused, flush=True)
    rows = store.labelled(
        job.model, manifest.input, since=job.since, limit=WINDOW_LIMIT, version=job.champion,
        quota=quota,
    )  # fmt: skip
    temporary = folder / ".window.npz"
    with temporary.open("wb") as stream:
        np.savez(
            stream, allow_pickle=False, x=rows.x, y=rows.y, predicted=rows.predicted,
            clients=np.array(rows.clients, dtype=np.str_), trusted=rows.trusted, at=rows.at,
        )  # fmt: skip
    temporary.replace(folder / "window.npz")
    return Collected(len(rows.y), unused)


def evaluate(task: Task, folder: Path) -> Look:
    """Judge the champion: on held-out data, under attack, and on the labelled window."""
    champion, dataset, subject = _open(task, task.job.champion)
    window, predicted = _window(folder)
    live = proportion(np.asarray(predicted == window.y))
    clean, card = proportion(right(subject.runner, dataset.test)), _evaluation(champion)
    survived = robust(subject, attacked_rows(dataset), geometry_of(card.threat, dataset.schema))
    attack = "square" if subject.black_box else "pgd-40"
    verdict, words = judge_look(task.job, live, clean, card)
    return Look(
        verdict=verdict,
        words=words,
        window=live,
        clean=clean,
        robust=AttackFigure(*proportion(survived).parts, attack=attack, eps=card.threat.eps),
        at=time.time(),
    )


def train(task: Task, folder: Path) -> Trained:
    """Fine-tune the champion on its own data and the window's training part; publish."""
    job = task.job
    task.keys.require_signing()
    champion, dataset, subject = _open(task, job.champion)
    training = champion.manifest.training
    if subject.black_box or training is None:
        raise HoldfastError(
            f"{champion.name} is a wrapped model, which cannot be retrained here: train it where "
            "it was made and wrap it again (holdfast wrap)"
        )
    rows, _ = _window(folder)
    window = Window.of(rows, dataset)
    spoiled = bool(job.options.get("shuffle_labels", False))
    order = Order(
        model=job.model,
        recipe=_fine_tuning(training, task),
        net=msgspec.convert(training.net, factories.NetSpec),
        event=EventFacts(job.id, job.reason, job.kind, job.source),
        actor="lifecycle",
        parent=None if spoiled else champion,
        window=window,
        shuffle_labels=spoiled,
        threat=_evaluation(champion).threat,
        benign=again(training.benign, dataset.schema),
    )
    version = make_version(
        _registry(task),
        dataset,
        order,
        progress=_print_progress,
        checkpoint=folder / "checkpoint.safetensors",
    )
    return Trained(version)


def gate(task: Task, folder: Path) -> Gated:
    """Compare challenger and champion; every check is a record."""
    challenger_version = task.job.challenger
    assert challenger_version is not None
    champion, dataset, before = _open(task, task.job.champion)
    _, _, after = _open(task, challenger_version)
    rows, _ = _window(folder)
    window = Window.of(rows, dataset)
    labelled = any(len(part) for part in (window.train, window.calibration, window.test))
    compared = Comparison(
        bounds=task.bounds,
        before=before,
        after=after,
        data=dataset,
        threat=_evaluation(champion).threat,
        window_rows=window.test if labelled else None,
        window_margin=task.bounds.clean_margin if task.job.kind == "retrain" else 0.0,
    )
    return Gated(judge_all(compared, compared.has))


def _fine_tuning(training: TrainingFacts, task: Task) -> Recipe:
    """The champion's recipe for a start from its own weights, which are robust already."""
    recipe = msgspec.convert(training.recipe, Recipe)
    changes = {
        "epochs": task.retrain_epochs,
        "eps_warm_up": 0.0,
        "attack_steps": recipe.steps_at(1.0),
        "attack_ramp": (),
        "corrupted_copies": 1,
        "seed": recipe.seed + 1,
    }
    asked = task.job.options.get("recipe", {})
    return msgspec.convert(msgspec.to_builtins(recipe) | changes | asked, Recipe)


def _evaluation(bundle: Bundle) -> Evaluation:
    """What a version was judged by, and how it did. Raises HoldfastError without an evaluation."""
    if bundle.manifest.evaluation is None:
        raise HoldfastError(f"{bundle.name} was never evaluated: there is nothing to compare with")
    return bundle.manifest.evaluation


def _registry(task: Task) -> Registry:
    return Registry(Path(task.registry), task.keys)


def _open(task: Task, version: int) -> tuple[Bundle, DataSet, Subject]:
    bundle = _registry(task).open(task.job.model, str(version))
    return bundle, data_of(bundle.manifest), open_subject(bundle)


def _window(folder: Path) -> tuple[Rows, IntArray]:
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        return Rows(archive["x"], archive["y"]), archive["predicted"]


def _print_progress(stage: str, done: int, total: int, words: str) -> None:
    print(f"{stage} {done}/{total}: {words}", flush=True)


Step = Callable[[Task, Path], msgspec.Struct]
STEPS: dict[str, Step] = {f.__name__: f for f in (collect, evaluate, train, gate)}


def main(step: str, folder: Path) -> int:
    """Run a step: 0 and `<step>.json`; else `<step>.error` with a sentence.

    The status is then 1, or `steps.PASSING_STATUS` where the fault passes and a new try is worth
    while.
    """
    os.nice(5)
    try:
        task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
        result = STEPS[step](task, folder)
        write_atomic(folder / f"{step}.json", msgspec.json.encode(result))
    except Exception as error:
        passing = passing_words(error) is not None
        if not isinstance(error, HoldfastError):
            traceback.print_exc()
        with suppress(OSError):  # the status alone says enough
            write_atomic(folder / f"{step}.error", _sentence(error).encode())
        return PASSING_STATUS if passing else 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, HoldfastError):
        return str(error)
    return OUT_OF_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
