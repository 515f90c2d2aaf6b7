"""Certified training beside the presets of today: accuracy, attacks, proofs, scores, CPU seconds.

    python -m benchmarks.certified run [--sets NAME,...] [--methods NAME,...] [--seeds N] [--scores]
                                       [--queries N] [--nets FOLDER] [--out FILE]
    python -m benchmarks.certified table [--out FILE]
    python -m benchmarks.certified cost --model state/registry/digits/1/model.onnx

`run` trains every (set, seed, method) that the file has no line of and judges it on all test
rows: clean accuracy, under the own AutoAttack (APGD-CE and APGD-T with 100 steps, Square with
--queries), under random benign changes, rows proven right by float64 bounds. --scores also
instruments the net and says how well its drift and perturbation scores tell attacked and corrupted
rows from clean ones (areas under the ROC curve). `table` prints means over the seeds and the
verdict of the rule for defaults: 1 point clean, 2 points under attack, .02 of each area.
`cost` measures a scored run with certificates against the same graph without them, in turns, for 1
and 32 digits. One thread throughout.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import torch
from torch import nn

from models import attacks, data
from models.attacks.cascade import standard
from models.attacks.catalogue import find_attack
from models.attacks.threat import geometry_of
from models.certificates.bounds import worst_margins
from models.certificates.layers import chain_of
from models.corruptions import random_benign
from models.data import DataSet
from models.nets import export, factories
from models.statistics.intervals import auroc
from models.training.certified import start_certified
from models.training.loop import train
from models.training.presets import Preset, preset
from models.versions.promises import CERTIFICATE_OUTPUTS
from models.versions.runner import Runner, session
from monitoring.making.version import certifying_of
from monitoring.scoring.instrument import Instrumented, instrument
from monitoring.scoring.material import Victim, head_material

SETS, METHODS = "digits,breast_cancer,wine", "certified,trades"
MARGINS = {"clean": 0.01, "attacked": 0.02, "drift_auroc": 0.02, "perturbation_auroc": 0.02}
ROUNDS, RUNS = 60, 10
DRAWS = 10  # of random benign changes of all test rows


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """What is trained, so that a run that is cut off has all sets of the first seed."""
    for seed in range(options.seeds):
        for name in options.sets.split(","):
            for method in options.methods.split(","):
                yield name, seed, method


def fit(rows: DataSet, method: str, seed: int) -> tuple[nn.Module, Preset, float]:
    """The net of a preset, the preset, and CPU seconds."""
    import msgspec

    chosen = preset(
        rows.schema, len(rows.train), method="certified" if method == "certified" else None
    )
    recipe = msgspec.structs.replace(chosen.recipe, seed=seed)
    torch.manual_seed(seed)
    certified = method == "certified"
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), certifiable=certified))
    if certified:
        start_certified(net, torch.Generator().manual_seed(seed))
    result = train(net, rows.train, rows.schema, recipe)
    return result.net, Preset(recipe, chosen.threat), result.cpu_seconds


def judge(net: nn.Module, rows: DataSet, eps: float, queries: int) -> dict[str, Any]:
    """Shares of all test rows."""
    x = torch.from_numpy(rows.schema.to_unit(rows.test.x))
    y = torch.from_numpy(rows.test.y.astype(np.int64))
    threat = geometry_of(preset(rows.schema, 1).threat, rows.schema, eps)
    with torch.no_grad():
        right = net.eval()(x)[0].argmax(dim=1) == y
    images = rows.schema.kind == "image"
    which = [
        a
        for a in standard(queries=queries)
        if find_attack(a.attack).suits(len(rows.classes), images=images)
    ]
    with attacks.frozen(net):
        verdict = attacks.cascade(attacks.logits_only(net), x, y, threat, attacks=which)
    proven = {}
    for share in (1 / 3, 2 / 3, 1.0):
        box = geometry_of(preset(rows.schema, 1).threat, rows.schema, share * eps)
        proven[f"{share * eps:.4g}"] = float(
            (worst_margins(chain_of(net), x, y, box) > 0).double().mean()
        )
    broken = worst_margins(chain_of(net), x, y, threat).numpy() > 0
    return {
        "rows": len(y),
        "clean": float(right.double().mean()),
        "attacked": float(verdict.survived.double().mean()),
        "after": {k: float(v.double().mean()) for k, v in verdict.after.items()},
        "corrupted": corrupted_accuracy(net, rows),
        "proven": proven,
        "broken": int((broken & ~verdict.survived.numpy()).sum()),
    }


def corrupted_accuracy(net: nn.Module, rows: DataSet) -> float:
    """Share of test rows that are right under a random benign change each, over `DRAWS` draws."""
    rng, right = np.random.default_rng(7), []
    for _ in range(DRAWS):
        x = rows.schema.to_unit(random_benign(rows.schema, rows.test.x, rng))
        with torch.no_grad():
            answer = net.eval()(torch.from_numpy(x))[0].argmax(dim=1).numpy()
        right.append(float((answer == rows.test.y).mean()))
    return statistics.mean(right)


def instrumented(net: nn.Module, rows: DataSet, chosen: Preset, method: str) -> Instrumented:
    """The net with all heads, and certificates where it was trained for them."""
    certifying = certifying_of(net, chosen.recipe, chosen.threat)
    clip = certifying is not None and rows.schema.kind == "image"
    plain = export.to_onnx(net, rows.schema, clip=clip)
    victim = Victim(rows.schema, chosen.threat, net, plain)
    material, source = head_material(victim, rows, None, chosen.recipe.seed)
    return instrument(
        plain, rows.schema, rows.classes, material,
        source=source, seed=chosen.recipe.seed, certifying=certifying,
    )  # fmt: skip


def scores(net: nn.Module, made: Instrumented, rows: DataSet, chosen: Preset) -> dict[str, Any]:
    """Areas under the ROC curve of both scores, on test rows."""
    runner = Runner(made.bundle(made.manifest("m", rows.schema, rows.classes, 1)))
    x = torch.from_numpy(rows.schema.to_unit(rows.test.x))
    y = torch.from_numpy(rows.test.y.astype(np.int64))
    threat = geometry_of(chosen.threat, rows.schema)
    with attacks.frozen(net):
        x_adv = attacks.apgd(attacks.logits_only(net), x, y, threat, steps=50)
    attacked = runner.run(rows.schema.from_unit(x_adv.numpy()))
    benign = random_benign(rows.schema, rows.test.x, np.random.default_rng(7))
    clean, corrupted = runner.run(rows.test.x), runner.run(benign)
    return {
        "drift_auroc": auroc(-clean.drift_p_value, -corrupted.drift_p_value),
        "perturbation_auroc": auroc(
            np.concatenate([clean.perturbation_likelihood, corrupted.perturbation_likelihood]),
            attacked.perturbation_likelihood,
        ),
    }


def run(options: argparse.Namespace) -> None:
    """Every job that the file has no line of."""
    torch.set_num_threads(1)
    done = {(line["set"], line["seed"], line["method"]) for line in lines(options.out)}
    for job in jobs(options):
        if job in done:
            continue
        name, seed, method = job
        rows = data.load(name)
        net, chosen, seconds = fit(rows, method, seed)
        line = {"set": name, "seed": seed, "method": method, "cpu_seconds": round(seconds, 1)}
        if options.nets is not None:
            options.nets.mkdir(parents=True, exist_ok=True)
            (options.nets / f"{name}-{method}-{seed}.safetensors").write_bytes(
                export.weights_bytes(net)
            )
        line |= judge(net, rows, chosen.threat.eps, options.queries)
        if options.scores:
            line |= scores(net, instrumented(net, rows, chosen, method), rows, chosen)
        with options.out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def lines(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def table(options: argparse.Namespace) -> None:
    """Means over seeds, and the verdict where both methods were measured."""
    found = lines(options.out)
    for name in dict.fromkeys(line["set"] for line in found):
        means: dict[str, dict[str, float]] = {}
        for method in dict.fromkeys(line["method"] for line in found):
            own = [line for line in found if (line["set"], line["method"]) == (name, method)]
            if not own:
                continue
            keys = [
                k
                for k in ("clean", "attacked", "corrupted", "cpu_seconds", *list(MARGINS)[2:])
                if k in own[0]
            ]
            means[method] = {k: statistics.mean(line[k] for line in own) for k in keys}
            words = [f"{k} {v:.4g}" for k, v in means[method].items()]
            for eps in own[0]["proven"]:
                share = statistics.mean(line["proven"][eps] for line in own)
                words.append(f"proven {eps} {share:.4f}")
            broken = sum(line["broken"] for line in own)
            print(f"{name} {method} ({len(own)} seeds): {', '.join(words)}, broken {broken}")
        if {"certified", "trades"} <= means.keys():
            verdict(means["certified"], means["trades"])


def verdict(own: dict[str, float], today: dict[str, float]) -> None:
    """Whether certified training may be the default."""
    worse = [
        f"{key} {own[key] - today[key]:+.4f} (at least {-margin:+.2f})"
        for key, margin in MARGINS.items()
        if key in own and key in today and own[key] < today[key] - margin
    ]
    missing = [key for key in MARGINS if key not in own or key not in today]
    words = "worse: " + "; ".join(worse) if worse else "non-inferior in all that was measured"
    print("  " + words + (f"; not measured: {', '.join(missing)}" if missing else ""))


def without_certificates(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the outputs of certificates and what only they need."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    kept = [o for o in model.graph.output if o.name not in CERTIFICATE_OUTPUTS]
    assert len(kept) < len(model.graph.output), "this version does not certify its answers"
    needed, nodes = {o.name for o in kept}, []
    for node in reversed(model.graph.node):  # they stand in order
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    weights = [i for i in model.graph.initializer if i.name in needed]
    for field, values in ((graph.output, kept), (graph.node, nodes[::-1]),
                          (graph.initializer, weights)):  # fmt: skip
        del field[:]
        field.extend(values)
    return bare


def cost(options: argparse.Namespace) -> None:
    """CPU time of a run with certificates over one without; least of many rounds, in turns.

    Without: the same graph less the two outputs and the nodes that only they need.
    """
    torch.set_num_threads(1)
    rows = data.load("digits")
    whole = onnx.load(options.model)
    bare = without_certificates(whole)
    sessions = {
        name: session(model.SerializeToString())
        for name, model in (("without", bare), ("with", whole))
    }
    for count in (1, 32):
        x = rows.test.x[:count]
        best = dict.fromkeys(sessions, float("inf"))
        for _ in range(ROUNDS):
            for key, runner in sessions.items():
                began = time.process_time()
                for _ in range(RUNS):
                    runner.run(None, {rows.schema.name: x})
                best[key] = min(best[key], (time.process_time() - began) / RUNS)
        ratio = best["with"] / best["without"]
        words = ", ".join(f"{key} {1e6 * value:.0f} us" for key, value in best.items())
        print(f"{count} rows: {words}, ratio {ratio:.2f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "table", "cost"))
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5000, help="of the square attack")
    parser.add_argument("--nets", type=Path, help="folder that the weights are kept in")
    parser.add_argument("--scores", action="store_true")
    parser.add_argument("--model", type=Path, help="model.onnx of a version, for the cost")
    parser.add_argument("--out", type=Path, default=Path("certified.jsonl"))
    options = parser.parse_args(arguments)
    {"run": run, "table": table, "cost": cost}[options.what](options)


if __name__ == "__main__":
    main()
