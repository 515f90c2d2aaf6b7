"""Whether labels come only for answers that were right: "thumbs up", and never "thumbs down".

Such feedback shows an accuracy of 100 %, whatever the model does. Nothing about the labelled
inputs need look strange, so this test looks at the answers: too few of them are wrong.

    p = (1 - g) / 1.5,   g the calibrated probability that the answer is right
    null: each labelled answer is wrong with a probability of at least p
    bet f in {1.5, 2, 4, 10, inf}: the odds of p are divided by f, which gives p_f
    M_t <- (M_{t-1} + 1 / (t (t + 1))) (p_f / p if wrong else (1 - p_f) / (1 - p))
    M = mean over f;   wrong answers get no labels when M >= 1000

The 1.5 leaves room: g may overrate the errors by a half. Under drift a model is mostly surer than
it may be, so answers are wrong more often than p says, and the null holds all the more.
Under the null M reaches 1000 with a probability of at most 1 / 1000, however long it goes on.

Source: Ville (1939); Shafer (2021), "Testing by betting".
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools

Floats = npt.NDArray[np.float64]
ROOM = 1.5  # by which the calibrated confidence may overrate the errors
FACTORS = (1.5, 2.0, 4.0, 10.0, math.inf)
THRESHOLD = 1000.0
CLEAR_AFTER = 1000  # labels without renewed evidence, after which labels are believed again
MOST_CONFIDENT = 1 - 1e-6
MOST = 1e250  # evidence is cut here; less evidence never breaks the promise


class ThumbsUpEvidence(msgspec.Struct, frozen=True):
    """The whole state.

    Args:
        labels: labels weighed.
        started: labels at which M began from 0, after the last crossing.
        m: M of each bet.
        seen: whether wrong answers were seen to get no labels.
    """

    labels: int = 0
    started: int = 0
    m: tuple[float, ...] = (0.0,) * len(FACTORS)
    seen: bool = False

    @property
    def log10_m(self) -> float:
        """log10 of max(M, 1)."""
        return math.log10(max(float(np.mean(self.m)), 1.0))


def factors(right_probability: Floats) -> Floats:
    """What a label multiplies each M by: `(2, ..., 5)`, row 0 for a right answer, 1 for a wrong.

    Args:
        right_probability: `(...)` g of the answers, in [0, 1].

    >>> right, wrong = factors(np.array([0.85]))  # p = .1
    >>> right.round(3).tolist(), wrong.round(3).tolist()
    ([[1.034, 1.053, 1.081, 1.099, 1.111]], [[0.69, 0.526, 0.27, 0.11, 0.0]])
    """
    p = (1 - np.clip(right_probability, 0.0, MOST_CONFIDENT)[..., None]) / ROOM
    odds = p / (1 - p) / np.array(FACTORS)
    bet = odds / (1 + odds)
    return np.stack([(1 - bet) / (1 - p), bet / p])


def update(evidence: ThumbsUpEvidence, right: Bools, right_probability: Floats) -> ThumbsUpEvidence:
    """Weigh labels, one after the other.

    M starts again from 0 when it reaches 1000; what was seen is forgotten after 1000 labels in
    which it does not reach that again.

    Args:
        evidence: so far.
        right: `(n,)` whether the answer was right, in the order in which the labels came.
        right_probability: `(n,)` g of these answers.

    >>> often = np.full(400, 0.95)
    >>> update(ThumbsUpEvidence(), np.ones(400, bool), often).seen
    True
    >>> update(ThumbsUpEvidence(), np.arange(400) % 20 > 0, often).seen
    False
    """
    assert right.shape == right_probability.shape
    factor = factors(np.asarray(right_probability, np.float64))
    labels, started, seen = evidence.labels, evidence.started, evidence.seen
    m = np.array(evidence.m)
    for k, answer in enumerate(right.tolist()):
        labels += 1
        t = labels - started
        m = np.minimum((m + 1 / (t * (t + 1))) * factor[int(not answer), k], MOST)
        if m.mean() >= THRESHOLD:
            m, started, seen = np.zeros_like(m), labels, True
        elif t >= CLEAR_AFTER:
            seen = False
    return ThumbsUpEvidence(labels, started, tuple(m.tolist()), seen)
