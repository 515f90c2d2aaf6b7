"""The heavy steps of the loop, each in a process of its own.

It is started as `python -m monitoring.loop.child STEP DIR`. DIR holds `<step>.task.json`, a
`monitoring.loop.jobs.Task`; the step writes `<step>.json` there, whole or not at all. Running out
of memory or being killed here harms neither watcher nor service.
"""

import json
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from models.attacks.threat import geometry_of
from models.base.errors import HoldfastError, out_of_memory
from models.base.files import write_atomic
from models.data import DataSet, Rows
from models.data.source import data_of
from models.data.window import Window
from models.evaluation import gates
from models.evaluation.adversarial import noise_right, robust
from models.evaluation.plan import hopeless
from models.evaluation.subject import Subject, answer, right
from models.nets import factories
from models.statistics import intervals
from models.statistics.intervals import Bools
from models.training.loop import Recipe
from models.versions.bundle import Bundle
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import Manifest
from monitoring.evidence import performance
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.jobs import Task
from monitoring.loop.steps import PASSING_STATUS
from monitoring.making.opening import open_subject
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from monitoring.records.store import RecordStore
from monitoring.scoring.perturbation.benign import again

WINDOW_LIMIT = 5000
ATTACKED_ROWS = 1000  # of a large test set, evenly spread
MASKING_EPS = (0.05, 0.15, 0.3, 0.5)  # for a threat of .15; others in proportion
PARITY_CHUNK = 256
OUT_OF_MEMORY = (
    "there was not enough memory; nothing was published. Give the watcher's machine or container "
    "more, or make the data, the net or the batch smaller, and ask again"
)


def collect(task: Task, folder: Path) -> dict[str, Any]:
    """Freeze the labelled traffic since the cause began, so that all steps see the same rows."""
    job = task.job
    manifest = _registry(task).manifest(job.model, job.champion)
    rows = RecordStore(task.database_url).labelled(
        job.model, manifest.input, since=job.since, limit=WINDOW_LIMIT, version=job.champion
    )
    temporary = folder / ".window.npz"
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, x=rows.x, y=rows.y, predicted=rows.predicted)
    temporary.replace(folder / "window.npz")
    return {"rows": len(rows.y)}


def evaluate(task: Task, folder: Path) -> dict[str, Any]:
    """Judge the champion: on held-out data, under attack, and on the labelled window."""
    champion, dataset, subject = _open(task, task.job.champion)
    window, predicted = _window(folder)
    live = intervals.proportion(np.asarray(predicted == window.y))
    clean = right(subject.runner, dataset.test)
    threat = _threat(champion.manifest)
    survived = robust(subject, _some(dataset.test), geometry_of(threat, dataset.schema))
    attack = {"attack": "square" if subject.black_box else "pgd-40", "eps": threat.eps}
    verdict, words = _verdict(
        task.job.kind, live, intervals.proportion(clean), champion.manifest.evaluation
    )
    return {
        "verdict": verdict,
        "words": words,
        "window": live.plain(),
        "clean": intervals.proportion(clean).plain(),
        "robust": intervals.proportion(survived).plain() | attack,
        "at": time.time(),
    }


def train(task: Task, folder: Path) -> dict[str, Any]:
    """Fine-tune the champion on its own data and the window's training part; publish."""
    job = task.job
    task.keys.require_signing()
    champion, dataset, subject = _open(task, job.champion)
    if subject.black_box:
        raise HoldfastError(
            f"{champion.name} is a wrapped model, which cannot be retrained here: train it where "
            "it was made and wrap it again (holdfast wrap)"
        )
    rows, _ = _window(folder)
    window = Window.of(rows, dataset)
    spoiled = bool(job.options.get("shuffle_labels", False))
    order = Order(
        model=job.model,
        recipe=_fine_tuning(champion.manifest, task),
        net=msgspec.convert(champion.manifest.training["net"], factories.NetSpec),
        event={"id": job.id, "reason": job.reason, "kind": job.kind, "source": job.source},
        actor="lifecycle",
        parent=None if spoiled else champion,
        window=window,
        shuffle_labels=spoiled,
        threat=_threat(champion.manifest),
        benign=again(champion.manifest.training, dataset.schema),
    )
    version = make_version(
        _registry(task),
        dataset,
        order,
        progress=_print_progress,
        checkpoint=folder / "checkpoint.safetensors",
    )
    return {"version": version}


def gate(task: Task, folder: Path) -> dict[str, Any]:
    """Compare challenger and champion; every check is a record."""
    challenger_version = task.job.challenger
    assert challenger_version is not None
    champion, dataset, before = _open(task, task.job.champion)
    challenger, _, after = _open(task, challenger_version)
    rows, _ = _window(folder)
    window = Window.of(rows, dataset)
    margin = task.bounds.clean_margin if task.job.kind == "retrain" else 0.0
    checks = [
        gates.input_contract(champion.manifest, challenger.manifest),
        *_accuracy_checks(task.bounds, before, after, dataset),
        *_window_checks(before, after, window, margin),
        *_score_checks(after.runner, dataset),
        *_cost_checks(task.bounds, before, after, dataset),
    ]
    return {"checks": msgspec.to_builtins(checks)}


def _fine_tuning(manifest: Manifest, task: Task) -> Recipe:
    """The champion's recipe for a start from its own weights, which are robust already."""
    recipe = msgspec.convert(manifest.training["recipe"], Recipe)
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


def _threat(manifest: Manifest) -> ThreatModel:
    """What a version was judged by; versions of before had L-inf of a size."""
    figures = manifest.evaluation
    return msgspec.convert(figures.get("threat", {"eps": figures["eps"]}), ThreatModel)


def _some(rows: Rows, most: int = ATTACKED_ROWS) -> Rows:
    """The rows that are attacked: always the same ones of a data set."""
    kept = min(len(rows), most)
    return rows.take(np.arange(kept) * len(rows) // max(kept, 1))


def _accuracy_checks(
    bounds: gates.Bounds, before: Subject, after: Subject, dataset: DataSet
) -> list[gates.Check]:
    test, some = dataset.test, _some(dataset.test)
    threat = _threat(before.runner.manifest)
    was, now = (
        robust(subject, some, geometry_of(threat, dataset.schema)) for subject in (before, after)
    )
    checks = [
        gates.clean_accuracy(right(before.runner, test), right(after.runner, test), bounds),
        gates.robust_accuracy(was, now, bounds),
        gates.robust_floor(now, bounds, champion=float(was.mean())),
    ]
    return checks if after.black_box else [*checks, _masking_check(after, some, threat)]


def _masking_check(subject: Subject, rows: Rows, threat: ThreatModel) -> gates.Check:
    """Where the attacker cannot change all of a row, no size need bring it down to chance."""
    schema, limit = subject.schema, hopeless(subject.schema, threat)
    sizes = masking_sizes(threat, limit or 1.0)
    accuracy = [
        float(robust(subject, rows, geometry_of(threat, schema, eps), steps=20).mean())
        for eps in sizes
    ]
    noise = float(noise_right(subject.runner, rows, geometry_of(threat, schema, sizes[0])).mean())
    chance = 1.0 if limit is None else 1 / len(subject.classes)
    return gates.gradient_masking(sizes, accuracy, noise, chance)


def masking_sizes(threat: ThreatModel, hopeless: float) -> tuple[float, ...]:
    """Rising sizes of the attack: below the threat, at it, above it, and one without hope.

    >>> masking_sizes(ThreatModel(eps=0.15), 0.5)
    (0.05, 0.15, 0.3, 0.5)
    >>> masking_sizes(ThreatModel("l2", eps=0.3), 4.0)
    (0.1, 0.3, 0.6, 4.0)
    """
    small = (round(eps * threat.eps / 0.15, 6) for eps in MASKING_EPS[:-1])
    return (*(eps for eps in small if eps < hopeless), max(hopeless, threat.eps))


def _window_checks(
    before: Subject, after: Subject, window: Window, margin: float
) -> list[gates.Check]:
    """None where there was no labelled traffic but rows of the data set itself."""
    if not any(len(part) for part in (window.train, window.calibration, window.test)):
        return []
    was, now = (_right_or_none(s.runner, window.test) for s in (before, after))
    return [gates.window_accuracy(was, now, margin)]


def _score_checks(runner: Runner, dataset: DataSet) -> list[gates.Check]:
    facts, told = runner.manifest.calibration, answer(runner, dataset.test.x)
    drift = told.drift_p_value <= facts.alpha
    tampered = told.perturbation_likelihood > facts.perturbation_threshold
    return [
        gates.false_positives("drift", drift, facts.alpha, facts.n),
        gates.false_positives("perturbation", tampered, facts.alpha, facts.n),
    ]


def _cost_checks(
    bounds: gates.Bounds, before: Subject, after: Subject, dataset: DataSet
) -> list[gates.Check]:
    sizes = [float(len(s.runner.bundle.model_bytes)) for s in (after, before)]
    times = _run_seconds([after.runner, before.runner], dataset.test.x[:1])
    checks = [
        gates.ratio("latency", times[0] * 1e6, times[1] * 1e6, bounds.latency_ratio, "us a run"),
        gates.ratio("size", sizes[0], sizes[1], bounds.size_ratio, "bytes"),
    ]
    if after.black_box:
        return checks
    return [gates.parity(_plain_graph_parity(after, dataset), bounds), *checks]


def _plain_graph_parity(subject: Subject, dataset: DataSet) -> float:
    """Largest difference of the served probabilities from torch's on the test rows."""
    assert subject.net is not None
    x, differences = _some(dataset.test).x, []
    heat = subject.runner.manifest.calibration.temperature
    for start in range(0, len(x), PARITY_CHUNK):
        part = x[start : start + PARITY_CHUNK]
        with torch.no_grad():
            logits = subject.net(torch.from_numpy(dataset.schema.to_unit(part)))[0]
        served = answer(subject.runner, part).probabilities
        differences.append(np.abs(served - (logits / heat).softmax(1).numpy()).max())
    return float(np.max(differences))


def _run_seconds(runners: list[Runner], x: Any, rounds: int = 40, runs: int = 25) -> list[float]:
    """Least CPU seconds of one run each, measured in turns (noise only adds)."""
    best = [float("inf")] * len(runners)
    for _ in range(rounds):
        for k, runner in enumerate(runners):
            started = time.process_time()
            for _ in range(runs):
                runner.run(x)
            best[k] = min(best[k], (time.process_time() - started) / runs)
    return best


def _verdict(
    kind: str, live: intervals.Proportion, clean: intervals.Proportion, card: dict[str, Any]
) -> tuple[str, str]:
    if performance.has_fallen(clean, {"clean": card["clean"]}):
        claim = card["clean"]["value"]
        return "failed", f"held-out accuracy {clean.value:.1%}, the card says {claim:.1%}"
    held = f"held-out accuracy {clean.value:.1%} as expected"
    if kind == "evaluate_robustness":
        return "passed", held
    if live.n < performance.MIN_ROWS:
        words = f"only {live.n} labelled live rows ({performance.MIN_ROWS} needed)"
        return "inconclusive", f"{held}; {words}"
    expected, floor = performance.expected_accuracy(card), performance.accuracy_floor(card)
    words = f"live accuracy {live.value:.1%} ({live.low:.1%} to {live.high:.1%}, n = {live.n})"
    verdict = performance.judge(live, card).replace("undecided", "inconclusive")
    return verdict, f"{words}, expected {expected:.1%}, floor {floor:.1%}"


def _registry(task: Task) -> Registry:
    return Registry(Path(task.registry), task.keys)


def _open(task: Task, version: int) -> tuple[Bundle, DataSet, Subject]:
    bundle = _registry(task).open(task.job.model, str(version))
    return bundle, data_of(bundle.manifest), open_subject(bundle)


def _window(folder: Path) -> tuple[Rows, Any]:
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        return Rows(archive["x"], archive["y"]), archive["predicted"]


def _right_or_none(runner: Runner, rows: Rows) -> Bools:
    return right(runner, rows) if len(rows) else np.zeros(0, dtype=bool)


def _print_progress(stage: str, done: int, total: int, words: str) -> None:
    print(f"{stage} {done}/{total}: {words}", flush=True)


STEPS = {f.__name__: f for f in (collect, evaluate, train, gate)}


def main(step: str, folder: Path) -> int:
    """Run a step: 0 and `<step>.json`; else `<step>.error` with a sentence.

    The status is then 1, or `steps.PASSING_STATUS` where the fault passes and a new try is worth
    while.
    """
    os.nice(5)
    try:
        task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
        result = STEPS[step](task, folder)
        write_atomic(folder / f"{step}.json", json.dumps(result).encode())
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
