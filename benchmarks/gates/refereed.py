"""The step before the training: what the referee says of honest and of poisoned windows."""

import time
from collections import Counter, defaultdict
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.gates.windows import Drawn, Poison, draw
from models.data import DataSet
from models.evaluation.gates import referee
from models.evaluation.gates.changed_labels import find_changes
from models.evaluation.gates.contradictions import (
    Refereed,
    judge_labels,
    judge_precision,
    number_contents,
)
from models.evaluation.gates.near import Nearness, fit_nearness
from models.nets import factories
from models.statistics.arrays import FloatArray, IntArray
from models.training.loop import Recipe, train


def judge_windows(
    source: DataSet,
    recipe: Recipe,
    seeds: range,
    draws: int,
    near: tuple[str, ...],
    far: tuple[str, ...],
    poisons: dict[str, Poison],
) -> None:
    """Honest and poisoned windows before the referee: verdicts, and poison that is left."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    left: dict[str, list[float]] = defaultdict(list)
    honest_near: Counter[str] = Counter()
    for seed in seeds:
        anchor = make_anchor(source, recipe, seed)
        begun = time.process_time()
        tuned = referee.fine_tune(anchor, source.schema, source.train, seed)
        held = source.calibration.joined(source.test)
        usual = referee.count_usual(tuned, source.schema, held, seed)
        nearness = fit_nearness(partial(referee.features_of, tuned, source.schema), held)
        seconds = time.process_time() - begun
        rng, judging = np.random.default_rng(seed), 0.0
        for name in (*near, *far, *poisons):
            for _ in range(draws):
                drawn = draw(source, name if name in near + far else near[2], rng)
                if name in poisons:
                    poisons[name](source, drawn, rng)
                p = referee.probabilities_of(tuned, source.schema, drawn.rows.x)
                begun = time.process_time()
                verdict = judge(p, drawn, source, usual, nearness)
                judging = max(judging, time.process_time() - begun)
                word = whole_verdict(p, drawn, verdict, source, usual)
                said[name][word] += 1
                if name in near:
                    honest_near[word] += 1
                if drawn.bad.any():
                    left[name].append(float((drawn.bad & verdict.kept).sum() / drawn.bad.sum()))
        print(
            f"{source.name} seed {seed}: the referee took {seconds:.1f} CPU-s, a window at most "
            f"{judging:.1f} more",
            flush=True,
        )
    print(f"\n{source.name}: windows of {len(drawn.rows)} rows, {len(seeds)} anchors")
    for name, words in said.items():
        rest = f"; poison left after the filter {np.mean(left[name]):.1%}" if name in left else ""
        kind = "honest" if name in near else "far shift" if name in far else "poison"
        print(f"  {kind:9} {name:28} {dict(words)}{rest}")
    print(f"  honest near windows: {dict(honest_near)} of {honest_near.total()}")


def whole_verdict(
    p: FloatArray, drawn: Drawn, verdict: Refereed, source: DataSet, usual: IntArray
) -> str:
    """What the step before the training says in all: the worst of its three checks."""
    known = verdict.counted
    changes = find_changes(p[known], drawn.rows.y[known], tuple(drawn.clients[known]))
    precision = judge_precision(
        p[known], drawn.rows.y[known], source.classes, usual, [c.old for c in changes]
    )
    if verdict.check.verdict == "fail":
        return "fail"
    if verdict.check.verdict == "unknown" or changes:
        return "unknown"
    if precision.verdict == "fail":
        return "fail (precision)"
    return "pass, client set aside" if verdict.aside else "pass"


def make_anchor(source: DataSet, recipe: Recipe, seed: int) -> nn.Module:
    """A version that a person approved."""
    torch.manual_seed(seed)
    net = factories.build(factories.spec_for(source.schema, len(source.classes)))
    made = Recipe(eps=recipe.eps, beta=recipe.beta, epochs=recipe.epochs, seed=seed)
    return train(net, source.train, source.schema, made).net


def judge(
    p: FloatArray, drawn: Drawn, source: DataSet, usual: IntArray, near: Nearness
) -> Refereed:
    """The referee's verdict, counting a row and its near-copies once as the loop does."""
    numbers = near.number if near.radius else number_contents
    contents = numbers(drawn.rows.x, drawn.rows.y)
    return judge_labels(
        p, drawn.rows.y, source.classes, usual, tuple(drawn.clients.tolist()), contents
    )
