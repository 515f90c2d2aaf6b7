"""What the accuracy estimate and the class shares rest on: the graph's answers to held-out rows.

Made once, when a version is made. The clean rows are asked as they are, then under every everyday
corruption at every severity, a few rows each; only answers are kept, so memory does not grow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from models.corruptions import SEVERITIES, suite, tables
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.versions.runner import Answer, in_pieces, session
from models.versions.schema import OUTPUTS, InputArray, InputSchema
from monitoring.counting.class_names import MOST_CLASSES
from monitoring.evidence.accuracy_estimate import (  # fmt: skip
    ENTROPY,
    HAIR,
    LEAST,
    SPREAD,
    WEIGHTS,
    Floats,
    evidence,
    right_probability,
)
from monitoring.evidence.label_shift import CONFUSION, confusion

ROWS = 100  # of one corruption at one severity
MOST_LOST = 0.15  # of the accuracy: a corruption that costs more is not fitted
REPLICAS = 40
PENALTY = 1.0  # of the standardised weights
STEPS, CLOSE = 1000, 1e-8

Ask = Callable[[InputArray], Answer]
Corrupt = Callable[[InputArray, int, np.random.Generator], InputArray]


@dataclass(frozen=True)
class Group:
    """Held-out rows under one kind of corruption at one severity."""

    kind: str
    evidence: Floats  # (N, 3)
    right: Bools  # (N,)


def accuracy_facts(
    model: onnx.ModelProto,
    schema: InputSchema,
    x: InputArray,
    y: IntArray,
    *,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Arrays of the bundle: `accuracy/weights`, `accuracy/spread`, `class/confusion`.

    The last one only up to 1,000 classes.

    Args:
        model: the instrumented graph.
        schema: its input.
        x: `(n, *shape)` raw held-out rows.
        y: `(n,)` their labels.
        seed: of the corruptions and of the redrawn fits.
    """
    assert len(x) == len(y) > 0
    ask = _asking(model, schema)
    clean = ask(x)
    predicted = clean.probabilities.argmax(axis=1)
    groups = list(_groups(ask, schema, x, y, np.random.default_rng(seed)))
    found = fit(evidence(clean), predicted == y, groups, seed=seed)
    classes = clean.probabilities.shape[1]
    if classes > MOST_CLASSES:  # C^2 numbers, and hardly a row of any pair: label shift is unknown
        return found
    return found | {CONFUSION: confusion(predicted, y, classes)}


def _groups(
    ask: Ask, schema: InputSchema, x: InputArray, y: IntArray, rng: np.random.Generator
) -> Iterator[Group]:
    for kind, corrupt in _corruptions(schema).items():
        for severity in SEVERITIES:
            rows = rng.permutation(len(x))[:ROWS]
            answer = ask(corrupt(x[rows], severity, rng))
            right = answer.probabilities.argmax(axis=1) == y[rows]
            yield Group(kind, evidence(answer), right)


def _corruptions(schema: InputSchema) -> dict[str, Corrupt]:
    """By name, on raw rows: the ten of the quick suite, or what goes wrong with tables."""
    if schema.kind == "tabular":
        names = [name for name in tables.STRESS if tables.applies(name, schema)]
        return {name: partial(tables.apply, name, schema) for name in names}
    return {kind.name: partial(kind.on_raw, schema) for kind in suite(schema, "quick")}


def _asking(model: onnx.ModelProto, schema: InputSchema) -> Ask:
    runner = session(model.SerializeToString())

    def ask(x: InputArray) -> Answer:
        return Answer(*in_pieces(lambda part: runner.run(list(OUTPUTS), {schema.name: part}), x))

    return ask


def fit(
    clean: Floats, right: Bools, groups: Sequence[Group], *, seed: int = 0
) -> dict[str, FloatArray]:
    """Fit the estimate; the arrays that go into the bundle.

    Corruptions that cost more than 15 points of accuracy are left out: an estimate that shall be
    right there, too, is worse where it can be trusted. The spread is the root mean square of
    (error of the estimate) / (1 - estimate) over the corruptions, each estimated from the *other*
    kinds, less what chance explains.

    Args:
        clean: `(n, 3)` evidence of clean held-out rows.
        right: `(n,)` whether they were answered rightly.
        groups: held-out rows under corruptions.
        seed: of the redrawn weights: kinds and rows by bootstrap, the accuracy on clean rows from
            Beta(k + 1/2, n - k + 1/2), so that few rows without a mistake are not certain.
    """
    rng, n = np.random.default_rng(seed), len(right)
    clean_accuracy = (float(right.sum()) + 0.5) / (n + 1)
    kept = [g for g in groups if float(g.right.mean()) >= clean_accuracy - MOST_LOST]
    kinds = sorted({g.kind for g in kept})
    own = Group("clean", clean, right)
    rows = [_fit(own, kept, clean_accuracy)]
    for _ in range(REPLICAS):
        drawn = [kinds[k] for k in rng.integers(len(kinds), size=len(kinds))] if kinds else []
        some = [_redrawn(g, rng) for kind in drawn for g in kept if g.kind == kind]
        target = float(rng.beta(right.sum() + 0.5, n - right.sum() + 0.5))
        rows.append(_fit(_redrawn(own, rng), some, target, at=clean))
    others = {
        kind: _fit(own, [g for g in kept if g.kind != kind], clean_accuracy) for kind in kinds
    }
    spread = _spread([(g, others[g.kind]) for g in kept])
    return {WEIGHTS: np.stack(rows), SPREAD: np.array([spread])}


def _redrawn(group: Group, rng: np.random.Generator) -> Group:
    rows = rng.integers(len(group.right), size=len(group.right))
    return Group(group.kind, group.evidence[rows], group.right[rows])


def _fit(own: Group, groups: Sequence[Group], target: float, at: Floats | None = None) -> Floats:
    """Weights `(5,)`; the clean rows weigh as much as all groups, each group the same.

    The intercept is moved so that the mean of g over `at` (the clean rows) is `target`; entropies
    may be tied, and then it makes up for what the threshold misses.
    """
    parts = [own, *groups]
    shares = [1.0, *[1 / max(len(groups), 1)] * len(groups)]
    x = np.concatenate([g.evidence for g in parts])
    right = np.concatenate([g.right for g in parts])
    pairs = zip(parts, shares, strict=True)
    w = np.concatenate([np.full(len(g.right), share / len(g.right)) for g, share in pairs])
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    slopes = _slopes((x - centre) / scale, right, w * len(right) / w.sum()) / scale
    at = own.evidence if at is None else at
    entropy = np.sort(at[:, ENTROPY])
    limit = entropy[min(len(entropy) - 1, int(target * len(entropy)))]
    sure = float((entropy <= limit + HAIR).mean())
    if sure > 2 * target:  # nearly all entropies are tied, and fewer than half are right
        limit, sure = -1.0, 0.0
    goal = float(np.clip(2 * target - sure, LEAST, 1 - LEAST))
    return np.array([_intercept(slopes, at, goal), *slopes, limit])


def _slopes(x: Floats, y: Bools, w: Floats) -> Floats:
    """Slopes `(D,)` of a ridge logistic regression on standardised `(N, D)`; the intercept is free.

    Rows that are all right, or all wrong, tell of no slope.
    """
    if y.all() or not y.any():
        return np.zeros(x.shape[1])
    fitted = LogisticRegression(C=1 / PENALTY, tol=CLOSE, max_iter=STEPS).fit(x, y, w)
    return np.asarray(fitted.coef_[0], np.float64)


def _intercept(slopes: Floats, x: Floats, target: float) -> float:
    """w0 such that the sigmoid's mean over `(n, 3)` rows is `target`: bisection, it rises."""
    base = x @ slopes
    low, high = -float(base.max()) - 40, -float(base.min()) + 40
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(middle + base).mean() < target else (low, middle)
    return (low + high) / 2


def _spread(judged: Sequence[tuple[Group, Floats]]) -> float:
    """Root mean square of (estimate - accuracy) / (1 - estimate), less what chance explains."""
    if not judged:
        return 0.0
    excess = []
    for group, weights in judged:
        g = right_probability(weights, group.evidence)
        wrong = max(1 - float(g.mean()), 1 / len(g))
        chance = float((g * (1 - g)).sum()) / len(g) ** 2
        error = float(g.mean()) - float(group.right.mean())
        excess.append((error**2 - chance) / wrong**2)
    return float(np.sqrt(max(0.0, float(np.mean(excess)))))
