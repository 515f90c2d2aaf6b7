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
from models.data.lineage import FILE as LINEAGE
from models.data.lineage import Lineage
from models.data.source import data_of, relabelled_data
from models.evaluation.adversarial import robust
from models.evaluation.gates.catalogue import judge_all
from models.evaluation.gates.comparison import Comparison, attacked_rows
from models.evaluation.subject import Subject, right
from models.nets import factories
from models.statistics.comparing import fallback_alpha
from models.statistics.intervals import proportion
from models.training.fine_tuning import fine_tuning_recipe
from models.training.recipe import Recipe
from models.versions.bundle import Bundle
from models.versions.examples import EXAMPLES
from models.versions.facts import EventFacts, FollowedFacts
from models.versions.figures import AttackFigure, Evaluation
from models.versions.registry import Anchor, Registry
from models.versions.schema import Manifest
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.jobs import Job, Task
from monitoring.loop.looks import judge_look
from monitoring.loop.refereeing import (
    earlier_rows,
    judge_window,
    read_window,
    usable_window,
    write_window,
)
from monitoring.loop.results import WINDOW_LIMIT, Collected, Gated, Look, Refereed, Trained
from monitoring.loop.steps import PASSING_STATUS
from monitoring.loop.terms import quota_of, terms_of
from monitoring.making.opening import open_subject
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from monitoring.records.lease import fence_of
from monitoring.records.store import RecordStore
from monitoring.scoring.perturbation.benign import again

EARLIER_LIMIT = 2000
OUT_OF_MEMORY = (
    "there was not enough memory; nothing was published. Give the watcher's machine or container "
    "more, or make the data, the net or the batch smaller, and ask again"
)


def collect(task: Task, folder: Path) -> Collected:
    """Freeze the usable labelled traffic since the cause began: all steps see the same rows.

    Labelled traffic of the same champion from before that counts as old data.

    Files that name clients are for the owner's eyes: `window.npz`, and `quota.json` with the rows
    of each client that its quota left out.
    """
    job, quota = task.job, quota_of(terms_of(task.job))
    manifest, store = (
        _registry(task).manifest(job.model, job.champion),
        RecordStore(task.database_url),
    )
    usable = store.usable(
        job.model, since=job.since, version=job.champion, quota=quota, limit=WINDOW_LIMIT
    )
    write_atomic(folder / "quota.json", msgspec.json.encode(dict(usable.beyond)), 0o600)
    if unused := usable.words():
        print(unused, flush=True)
    rows = store.labelled(
        job.model, manifest.input, since=job.since, limit=WINDOW_LIMIT, version=job.champion,
        quota=quota,
    )  # fmt: skip
    earlier = store.labelled(
        job.model, manifest.input, since=job.reign, until=job.since, limit=EARLIER_LIMIT,
        version=job.champion, quota=quota,
    )  # fmt: skip
    write_window(folder, rows, earlier)
    return Collected(len(rows.y), unused, len(earlier.y))


def evaluate(task: Task, folder: Path) -> Look:
    """Judge the champion: on held-out data, under attack, and on the labelled window."""
    champion, subject = _open(task, task.job.champion)
    dataset, window = relabelled_data(champion), read_window(folder)
    live = proportion(np.asarray(window.predicted == window.rows.y))
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


def referee(task: Task, folder: Path) -> Refereed:
    """Judge the labels of the window before anything is trained on them."""
    champion = _registry(task).open(task.job.model, str(task.job.champion))
    anchor = open_subject(_registry(task).open(task.job.model, str(_anchor(task).version)))
    trusted, lineage = terms_of(task.job).trusted_labellers, Lineage.of(champion)
    data = data_of(champion.manifest)
    return judge_window(anchor, data, folder, lineage, trusted, champion)


def train(task: Task, folder: Path) -> Trained:
    """Fine-tune the champion on its own data and the window's training part; publish."""
    job = task.job
    task.keys.require_signing()
    champion, subject = _open(task, job.champion)
    training = champion.manifest.training
    if subject.black_box or training is None:
        raise HoldfastError(
            f"{champion.name} is a wrapped model, which cannot be retrained here: train it where "
            "it was made and wrap it again (holdfast wrap)"
        )
    spoiled = bool(job.options.get("shuffle_labels", False))
    dataset, lineage = data_of(champion.manifest), _lineage(task, folder, champion)
    window = usable_window(folder, dataset, lineage)
    earlier = earlier_rows(folder, dataset, window, lineage)
    order = Order(
        model=job.model,
        recipe=_fine_tuning(champion.manifest, task),
        net=msgspec.convert(training.net, factories.NetSpec),
        event=EventFacts(job.id, job.reason, job.kind, job.source),
        actor="lifecycle",
        parent=None if spoiled else champion,
        window=window,
        shuffle_labels=spoiled,
        threat=_evaluation(champion).threat,
        benign=again(training.benign, dataset.schema),
        examples=EXAMPLES in champion.manifest.files,
        lineage=lineage.with_window({"train": earlier} if len(earlier.at) else {}),
        followed=(*training.followed, *_followed(job)),
    )
    version = make_version(
        _registry(task),
        dataset,
        order,
        progress=_print_progress,
        checkpoint=folder / "checkpoint.safetensors",
    )
    return Trained(version, _material_words(_registry(task).manifest(job.model, version)))


def gate(task: Task, folder: Path) -> Gated:
    """Compare the challenger with champion and anchor; every check is a record."""
    challenger_version = task.job.challenger
    assert challenger_version is not None
    champion, before = _open(task, task.job.champion)
    _, after = _open(task, challenger_version)
    anchor, alpha = _anchor(task), _alpha(task)
    source, lineage = data_of(champion.manifest), _lineage(task, folder, champion)
    compared = Comparison(
        bounds=task.bounds,
        anchor=before if anchor.version == task.job.champion else _open(task, anchor.version)[1],
        before=before,
        after=after,
        data=lineage.relabelled(source),
        grown_test=lineage.grown_test(source),
        threat=_evaluation(champion).threat,
        window_rows=usable_window(folder, source, lineage).test,
        window_margin=task.bounds.clean_margin if task.job.kind == "retrain" else 0.0,
        alpha=alpha,
    )
    checks = judge_all(compared)
    clean = next(check for check in checks if check.name == "clean_accuracy")
    if clean.alpha is not None:  # measured: the attempt counts
        _registry(task).note_attempt(
            task.job.model, challenger_version, alpha=alpha, passed=clean.verdict == "pass",
            event=task.job.id, actor="lifecycle",
        )  # fmt: skip
    return Gated(checks)


def _anchor(task: Task) -> Anchor:
    """What challengers are compared with: the champion where no anchor is known."""
    anchor = _registry(task).state(task.job.model).anchor
    return Anchor(task.job.champion) if anchor is None else anchor


def _alpha(task: Task) -> float:
    """The level of this job's comparison with the anchor: the same when the step runs again."""
    anchor = _anchor(task)
    if anchor.event == task.job.id:
        return anchor.alpha
    return fallback_alpha(anchor.attempts + 1, anchor.alpha, anchor.passed)


def _fine_tuning(champion: Manifest, task: Task) -> Recipe:
    """The recipe of a retraining, with what the job asks for."""
    assert champion.training is not None
    recipe = msgspec.convert(champion.training.recipe, Recipe)
    begins = champion.parent is None
    made = fine_tuning_recipe(recipe, task.retrain_epochs, begins=begins)
    asked = task.job.options.get("recipe", {})
    return msgspec.convert(msgspec.to_builtins(made) | asked, Recipe)


def _evaluation(bundle: Bundle) -> Evaluation:
    """What a version was judged by, and how it did. Raises HoldfastError without an evaluation."""
    if bundle.manifest.evaluation is None:
        raise HoldfastError(f"{bundle.name} was never evaluated: there is nothing to compare with")
    return bundle.manifest.evaluation


def _registry(task: Task) -> Registry:
    fence = fence_of(task.database_url, task.lease)
    return Registry(Path(task.registry), task.keys, fence)


def _open(task: Task, version: int) -> tuple[Bundle, Subject]:
    bundle = _registry(task).open(task.job.model, str(version))
    return bundle, open_subject(bundle)


def _lineage(task: Task, folder: Path, champion: Bundle) -> Lineage:
    """What is known of live traffic: the champion's, or with the labels that the job follows."""
    if not task.job.followed:
        return Lineage.of(champion)
    return Lineage.decode((folder / LINEAGE).read_bytes())


def _material_words(manifest: Manifest) -> str:
    """What a version learnt from besides its data set, for people."""
    facts = manifest.training
    assert facts is not None
    words = [] if facts.matched is None else [facts.matched.words]
    if (live := facts.live) is not None:
        words.append(
            f"{live.train} live rows of {live.windows} windows to train on, {live.test} to judge by"
        )
    return "; ".join(words)


def _followed(job: Job) -> tuple[FollowedFacts, ...]:
    return tuple(
        FollowedFacts(c.old, c.new, c.n, c.share, job.followed, job.id)
        for c in job.changes
        if job.followed
    )


def _print_progress(stage: str, done: int, total: int, words: str) -> None:
    print(f"{stage} {done}/{total}: {words}", flush=True)


Step = Callable[[Task, Path], msgspec.Struct]
STEPS: dict[str, Step] = {f.__name__: f for f in (collect, evaluate, referee, train, gate)}


def main(step: str, folder: Path) -> int:
    """Run a step: 0 and `<step>.json`; else `<step>.error` with a sentence.

    The status is then 1, or `steps.PASSING_STATUS` where the fault passes and a new try is worth
    while.
    """
    os.nice(5)
    try:
        task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
        result = STEPS[step](task, folder)
        fence_of(task.database_url, task.lease)()  # the next watcher runs the step again
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
