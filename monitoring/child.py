"""The heavy steps of the loop, each in a process of its own: `python -m monitoring.child STEP DIR`.

DIR holds `<step>.task.json`, a `monitoring.jobs.Task`; the step writes `<step>.json` there,
whole or not at all. Running out of memory or being killed here harms neither watcher nor service.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from models import data, gates, nets, stats
from models.bundle import Bundle
from models.data import DataSet, Rows
from models.errors import DataError, HoldfastError
from models.evaluate import Subject, answer, curve, noise_right, right, robust
from models.files import write_atomic
from models.registry import Registry
from models.runner import Runner
from models.stats import Bools
from models.train import Recipe
from monitoring import assemble, performance
from monitoring.jobs import Task
from monitoring.records import RecordStore

WINDOW_LIMIT = 5000
MASKING_EPS = (0.05, 0.15, 0.3, 0.5)


def collect(task: Task, folder: Path) -> dict[str, Any]:
    """Freeze the labelled traffic since the cause began, so that all steps see the same rows."""
    job = task.job
    manifest = Registry(Path(task.registry)).manifest(job.model, job.champion)
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
    live = stats.proportion(np.asarray(predicted == window.y))
    clean = right(subject.runner, dataset.test)
    eps = champion.manifest.evaluation["eps"]
    survived = robust(subject, dataset.test, eps)
    verdict, words = _verdict(
        task.job.kind, live, stats.proportion(clean), champion.manifest.evaluation
    )
    return {
        "verdict": verdict,
        "words": words,
        "window": live.plain(),
        "clean": stats.proportion(clean).plain(),
        "robust": stats.proportion(survived).plain() | {"attack": "pgd-40", "eps": eps},
        "at": time.time(),
    }


def train(task: Task, folder: Path) -> dict[str, Any]:
    """Fine-tune the champion on its own data and the window's training part; publish."""
    job = task.job
    champion, dataset, _ = _open(task, job.champion)
    rows, _ = _window(folder)
    window = assemble.Window.of(rows, dataset)
    recipe = msgspec.convert(champion.manifest.training["recipe"], Recipe)
    changes = {
        "epochs": task.retrain_epochs,
        "eps_warm_up": 0.0,  # the champion's weights are robust already
        "corrupted_copies": 1,
        "seed": recipe.seed + 1,
    }
    recipe = msgspec.convert(
        msgspec.to_builtins(recipe) | changes | job.options.get("recipe", {}), Recipe
    )
    spoiled = bool(job.options.get("shuffle_labels", False))
    order = assemble.Order(
        model=job.model,
        recipe=recipe,
        net=msgspec.convert(champion.manifest.training["net"], nets.NetSpec),
        event={"id": job.id, "reason": job.reason, "kind": job.kind, "source": job.source},
        actor="lifecycle",
        parent=None if spoiled else champion,
        window=window,
        shuffle_labels=spoiled,
    )
    version = assemble.make_version(
        Registry(Path(task.registry)), dataset, order, progress=_print_progress
    )
    return {"version": version}


def gate(task: Task, folder: Path) -> dict[str, Any]:
    """Compare challenger and champion; every check is a record."""
    challenger_version = task.job.challenger
    assert challenger_version is not None
    champion, dataset, before = _open(task, task.job.champion)
    challenger, _, after = _open(task, challenger_version)
    rows, _ = _window(folder)
    window = assemble.Window.of(rows, dataset)
    margin = task.bounds.clean_margin if task.job.kind == "retrain" else 0.0
    checks = [
        gates.input_contract(champion.manifest, challenger.manifest),
        *_accuracy_checks(task.bounds, before, after, dataset),
        *_window_checks(before, after, window, margin),
        *_score_checks(after.runner, dataset),
        *_cost_checks(task.bounds, before, after, dataset),
    ]
    return {"checks": msgspec.to_builtins(checks)}


def _accuracy_checks(
    bounds: gates.Bounds, before: Subject, after: Subject, dataset: DataSet
) -> list[gates.Check]:
    test, eps = dataset.test, before.runner.manifest.evaluation["eps"]
    now = robust(after, test, eps)
    return [
        gates.clean_accuracy(right(before.runner, test), right(after.runner, test), bounds),
        gates.robust_accuracy(robust(before, test, eps), now, bounds),
        gates.robust_floor(now, bounds),
        gates.gradient_masking(
            MASKING_EPS,
            curve(after, test, MASKING_EPS),
            float(noise_right(after.runner, test, MASKING_EPS[0]).mean()),
            1 / len(dataset.classes),
        ),
    ]


def _window_checks(
    before: Subject, after: Subject, window: assemble.Window, margin: float
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
    model = _plain_graph_parity(after, dataset)
    sizes = [float(len(s.runner.bundle.model_bytes)) for s in (after, before)]
    times = _run_seconds([after.runner, before.runner], dataset.test.x[:1])
    return [
        gates.parity(model, bounds),
        gates.ratio("latency", times[0] * 1e6, times[1] * 1e6, bounds.latency_ratio, "us a run"),
        gates.ratio("size", sizes[0], sizes[1], bounds.size_ratio, "bytes"),
    ]


def _plain_graph_parity(subject: Subject, dataset: DataSet) -> float:
    """Largest difference of the served probabilities from torch's on the test rows."""
    x = dataset.test.x
    with torch.no_grad():
        logits = subject.net(torch.from_numpy(dataset.schema.to_unit(x)))[0]
    return float(np.abs(answer(subject.runner, x).probabilities - logits.softmax(1).numpy()).max())


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
    kind: str, live: stats.Proportion, clean: stats.Proportion, card: dict[str, Any]
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


def _open(task: Task, version: int) -> tuple[Bundle, DataSet, Subject]:
    bundle = Registry(Path(task.registry)).open(task.job.model, str(version))
    facts = bundle.manifest.training["data"]
    dataset = data.load(facts["name"])
    if dataset.fingerprint != facts["fingerprint"]:
        raise DataError(f"data {facts['name']!r} changed since {bundle.name} was trained on it")
    return bundle, dataset, assemble.open_subject(bundle)


def _window(folder: Path) -> tuple[Rows, Any]:
    with np.load(folder / "window.npz", allow_pickle=False) as archive:
        return Rows(archive["x"], archive["y"]), archive["predicted"]


def _right_or_none(runner: Runner, rows: Rows) -> Bools:
    return right(runner, rows) if len(rows) else np.zeros(0, dtype=bool)


def _print_progress(step: int, steps: int, loss: float) -> None:
    print(f"step {step}/{steps} loss {loss:.3f}", flush=True)


STEPS = {f.__name__: f for f in (collect, evaluate, train, gate)}


def main(step: str, folder: Path) -> int:
    """Run a step; 0 and `<step>.json`, or 1 and `<step>.error` with a sentence."""
    os.nice(5)
    task = msgspec.json.decode((folder / f"{step}.task.json").read_bytes(), type=Task)
    try:
        result = STEPS[step](task, folder)
    except HoldfastError as error:
        write_atomic(folder / f"{step}.error", str(error).encode())
        return 1
    write_atomic(folder / f"{step}.json", json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
