"""How often the answers are right, estimated without labels.

    accuracy = mean over recent requests of  g(x) = (sigmoid(w0 + w . s(x)) + [H(x) <= h]) / 2
    s = (log-odds of the top probability, entropy H of the probabilities, log p-value)

w is a logistic regression of "the answer was right" on held-out rows, clean and benignly
corrupted, made when a version is made (`monitoring.scoring.accuracy_fit`). h is the entropy below
which as large a share of the clean held-out rows lies as was answered rightly (ATC: Garg et al.
2022). w0 is moved so that g's mean over those rows is their accuracy. The two err in different
ways, and their mean errs less than either (benchmarks/drift_accuracy.py). Under a shift unlike the
corruptions the estimate is too high, and nothing in it shows that: so the lower end of the interval
counts requests of p < .01 as wrong, and an estimate is not trustworthy while a score channel has an
alarm. It is for people to read: no trigger looks at it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import expit, xlogy

from models.statistics.arrays import FloatArray
from models.versions.runner import Answer

Floats = npt.NDArray[np.float64]
LEAST = 1e-6  # probabilities and p-values are kept this far from 0 and 1
ENTROPY, HAIR = 1, 1e-9  # column of the evidence; what lies so close to the threshold is on it
STRANGE = 0.01  # p-value below which the lower end counts a request as wrong
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
        """From a bundle's arrays; None for a version that was made without labels."""
        if WEIGHTS not in reference or SPREAD not in reference:
            return None
        weights = np.asarray(reference[WEIGHTS], np.float64)
        return cls(weights, float(reference[SPREAD][0]))

    def right(self, scores: Floats) -> Floats:
        """g: probability that each answer is right, `(N,)`, of evidence `(N, 3)`."""
        return right_probability(self.weights[0], scores)


def evidence(answer: Answer) -> Floats:
    """Scores `(N, 3)` of answered rows: log-odds of the top probability, entropy, log p-value."""
    p = np.asarray(answer.probabilities, np.float64)
    p_value = np.asarray(answer.drift_p_value, np.float64)
    return evidence_of(p.max(axis=1), -xlogy(p, p).sum(axis=1), p_value)


def evidence_of(confidence: Floats, entropy: Floats, p_value: Floats) -> Floats:
    """Scores `(N, 3)` of recorded answers: the same from what was recorded of them.

    Args:
        confidence: `(N,)` probability of the answer.
        entropy: `(N,)` of the probabilities, in nats.
        p_value: `(N,)` drift p-values.
    """
    top = np.clip(confidence, LEAST, 1 - LEAST)
    return np.column_stack([np.log(top / (1 - top)), entropy, np.log(np.maximum(p_value, LEAST))])


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
    pessimistic = float(np.where(p_value < STRANGE, 0.0, right).mean())
    redrawn = [float(right_probability(weights, scores).mean()) for weights in facts.weights[1:]]
    doubt = float(np.std(redrawn)) if redrawn else 0.0

    def reach(mean: float) -> float:
        chance = (mean * (1 - mean) * n + 0.25) / (n + 1) / n
        return SPAN * float(np.sqrt(chance + doubt**2 + (facts.spread * (1 - value)) ** 2))

    why = f"drift alarm of {', '.join(alarmed)}: the inputs are not those it was fitted on"
    return AccuracyEstimate(
        value=round(value, 4),
        low=round(max(0.0, pessimistic - reach(pessimistic)), 4),
        high=round(min(1.0, value + reach(value)), 4),
        n=n,
        trustworthy=not alarmed,
        why=why if alarmed else "",
    )


def right_probability(weights: Floats, scores: Floats) -> Floats:
    """g `(N,)` for weights `(5,)` and evidence `(N, 3)`."""
    sure = scores[:, ENTROPY] <= weights[-1] + HAIR
    probability: Floats = (expit(weights[0] + scores @ weights[1:-1]) + sure) / 2
    return probability
