"""How often the answers are right, estimated without labels.

    accuracy = mean over recent requests of  g(x) = (sigmoid(w0 + w . s(x)) + [H(x) <= h]) / 2
    s = (log-odds of the top probability, entropy H of the probabilities, log p-value)

w is a logistic regression of "the answer was right" on held-out rows, clean and benignly
corrupted, made when a version is made (`monitoring.accuracy_fit`). h is the entropy below which
as large a share of the clean held-out rows lies as was answered rightly (ATC: Garg et al. 2022).
w0 is moved so that g's mean over those rows is their accuracy. The two err in different ways, and
their mean errs less than either (benchmarks/drift_accuracy.py). Under a shift unlike the
corruptions the estimate is too high, and nothing in it shows that: so the lower end of the
interval counts requests of p < .01 as wrong, and an estimate is not trustworthy while a score
channel has an alarm. It is for people to read: no trigger looks at it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import expit, xlogy

from models.runner import Answer
from models.schema import FloatArray
from models.stats import Bools

__all__ = ["AccuracyEstimate", "Facts", "Group", "estimate", "evidence", "fit"]

Floats = npt.NDArray[np.float64]
LEAST = 1e-6  # probabilities and p-values are kept this far from 0 and 1
ENTROPY, HAIR = 1, 1e-9  # column of the evidence; what lies so close to the threshold is on it
STRANGE = 0.01  # p-value below which the lower end counts a request as wrong
MOST_LOST = 0.15  # of the accuracy: a corruption that costs more is not fitted
REPLICAS = 40
PENALTY = 1.0  # of the standardised weights
STEPS, CLOSE = 50, 1e-8
SPAN = 1.96
WEIGHTS, SPREAD = "accuracy/weights", "accuracy/spread"


class AccuracyEstimate(msgspec.Struct, frozen=True):
    """An estimate with its interval, the requests it rests on, and whether to believe it."""

    value: float
    low: float
    high: float
    n: int
    trustworthy: bool
    why: str  # it is not; empty where it is


@dataclass(frozen=True)
class Group:
    """Held-out rows under one kind of corruption at one severity."""

    kind: str
    evidence: Floats  # (N, 3)
    right: Bools  # (N,)


@dataclass(frozen=True)
class Facts:
    """What was fitted: row 0 of `weights` the estimate, the others redrawn for the interval.

    Args:
        weights: `(1 + B, 1 + 3 + 1)`: w0, w, h.
        spread: error under a new kind of corruption, as a share of the estimated error rate.
    """

    weights: Floats
    spread: float

    @classmethod
    def of(cls, reference: Mapping[str, FloatArray]) -> "Facts | None":
        """From a bundle's arrays; None for a version that was made without them."""
        if WEIGHTS not in reference or SPREAD not in reference:
            return None
        weights = np.asarray(reference[WEIGHTS], np.float64)
        return cls(weights, float(reference[SPREAD][0]))

    def right(self, scores: Floats) -> Floats:
        """g: probability that each answer is right, `(N,)`, of evidence `(N, 3)`."""
        return _right(self.weights[0], scores)


def evidence(answer: Answer) -> Floats:
    """Scores `(N, 3)` of answered rows: log-odds of the top probability, entropy, log p-value."""
    p = np.asarray(answer.probabilities, np.float64)
    top = np.clip(p.max(axis=1), LEAST, 1 - LEAST)
    entropy = -xlogy(p, p).sum(axis=1)
    rare = np.log(np.maximum(np.asarray(answer.drift_p_value, np.float64), LEAST))
    return np.column_stack([np.log(top / (1 - top)), entropy, rare])


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


def estimate(
    facts: Facts, scores: Floats, p_value: npt.NDArray[np.floating], alarmed: Sequence[str] = ()
) -> AccuracyEstimate | None:
    """The accuracy of answered requests with its 95 % interval; None without requests.

    The interval holds chance among the requests, the doubt of the fit, and `spread`.

    Args:
        facts: of the version that answered.
        scores: `(N, 3)` evidence.
        p_value: `(N,)` drift p-values.
        alarmed: names of the score channels that have an alarm.
    """
    n = len(scores)
    if n == 0:
        return None
    right = facts.right(scores)
    value = float(right.mean())
    known = float(np.where(p_value < STRANGE, 0.0, right).mean())
    redrawn = [float(_right(weights, scores).mean()) for weights in facts.weights[1:]]
    doubt = float(np.std(redrawn)) if redrawn else 0.0

    def reach(mean: float) -> float:
        chance = (mean * (1 - mean) * n + 0.25) / (n + 1) / n
        return SPAN * float(np.sqrt(chance + doubt**2 + (facts.spread * (1 - value)) ** 2))

    why = f"drift alarm of {', '.join(alarmed)}: the inputs are not those it was fitted on"
    return AccuracyEstimate(
        value=round(value, 4),
        low=round(max(0.0, known - reach(known)), 4),
        high=round(min(1.0, value + reach(value)), 4),
        n=n,
        trustworthy=not alarmed,
        why=why if alarmed else "",
    )


def _right(weights: Floats, scores: Floats) -> Floats:
    """g `(N,)` for weights `(5,)` and evidence `(N, 3)`."""
    sure = scores[:, ENTROPY] <= weights[-1] + HAIR
    probability: Floats = (expit(weights[0] + scores @ weights[1:-1]) + sure) / 2
    return probability


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
    right = np.concatenate([g.right for g in parts]).astype(np.float64)
    pairs = zip(parts, shares, strict=True)
    w = np.concatenate([np.full(len(g.right), share / len(g.right)) for g, share in pairs])
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    weights = _logistic((x - centre) / scale, right, w * len(right) / w.sum())
    slopes = weights[1:] / scale
    at = own.evidence if at is None else at
    entropy = np.sort(at[:, ENTROPY])
    limit = entropy[min(len(entropy) - 1, int(target * len(entropy)))]
    sure = float((entropy <= limit + HAIR).mean())
    if sure > 2 * target:  # nearly all entropies are tied, and fewer than half are right
        limit, sure = -1.0, 0.0
    goal = float(np.clip(2 * target - sure, LEAST, 1 - LEAST))
    return np.array([_intercept(slopes, at, goal), *slopes, limit])


def _logistic(x: Floats, y: Floats, w: Floats) -> Floats:
    """Ridge logistic regression `(1 + D,)` by Newton's method; the intercept is not penalised."""
    design = np.column_stack([np.ones(len(x)), x])
    penalty = PENALTY * np.diag([1e-6, *[1.0] * x.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = expit(design @ weights)
        slope = design.T @ (w * (y - p)) - penalty @ weights
        curve = (design * (w * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve, slope)
        size = float(np.abs(step).max())
        weights = weights + step * min(1.0, 2.0 / max(size, 1e-300))  # so that none leaps too far
        if size < CLOSE:
            break
    return weights


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
        g = _right(weights, group.evidence)
        wrong = max(1 - float(g.mean()), 1 / len(g))
        chance = float((g * (1 - g)).sum()) / len(g) ** 2
        error = float(g.mean()) - float(group.right.mean())
        excess.append((error**2 - chance) / wrong**2)
    return float(np.sqrt(max(0.0, float(np.mean(excess)))))
