"""Which requests get labels: a random sample, or the hard ones, the easy ones, some classes only.

Requests are taken in closed intervals of 100, in the order in which they came. In an interval, n
requests have a label and K lie in a cell: the lowest 2, 5, 25 or 50 % of confidence or of drift
p-values among these 100, or a predicted class. Given all that, the number a that has both is
hypergeometric if labels are a random sample. Each bet omega in {1.25, 1.5, 2, 3, 5}^+-1 (the odds
of a label in the cell over those outside) is Fisher's noncentral likelihood ratio, whose mean is
exactly 1:

    e = omega^a / sum_k h(k) omega^k,        M_t <- (M_{t-1} + 1 / (t (t + 1))) e_t
    M = mean of M over cells and bets;       labels are no random sample when M >= 1000

Because it conditions on the traffic of the interval, drift does not fool it. The weights
1 / (t (t + 1)) add up to 1: they let the choice begin at any interval t, and keep the promise that
a random sample reaches 1000 with a probability of at most 1 / 1000, however long it goes on.

Source: Fog (2008), "Calculation methods for Wallenius' noncentral hypergeometric distribution"
(Fisher's law there); Ville (1939) for the promise.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from models.statistics.arrays import Bools, IntArray

Floats = npt.NDArray[np.float64]
INTERVAL = 100  # requests
LOWEST = (2, 5, 25, 50)  # of the 100 requests of an interval, those of the lowest scores
SCORES = ("confidence", "drift p-values")
RANK_CELLS = len(SCORES) * len(LOWEST)
OMEGA = (1.25, 1.5, 2.0, 3.0, 5.0, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 3, 1 / 5)
LN_OMEGA = np.log(np.array(OMEGA))
THRESHOLD = 1000.0
CLEAR_AFTER = 50  # intervals without renewed evidence, after which labels count as a sample again
CLASS_CELLS = 64  # classes beyond share a cell with others
MOST = 1e250  # evidence is cut here; less evidence never breaks the promise


class Choice(msgspec.Struct, frozen=True):
    """How labels were seen to be chosen: the leading cell and bet.

    `cell` counts those of confidence, of drift p-values, then the classes; `omega` is the bet on
    the odds of a label.
    """

    cell: int
    omega: float
    intervals: int  # that were weighed in all when it was seen

    def words(self, classes: Sequence[str]) -> str:
        """The choice as a sentence.

        >>> Choice(2, 3.0, 9).words(("cat", "dog"))
        'the 25 % of requests with the lowest confidence get labels more often (odds x3)'
        >>> Choice(9, 0.2, 9).words(("cat", "dog"))
        "requests answered 'dog' get labels less often (odds x0.2)"
        """
        often = "more" if self.omega > 1 else "less"
        if self.cell < RANK_CELLS:
            score, size = divmod(self.cell, len(LOWEST))
            who = f"the {LOWEST[size]} % of requests with the lowest {SCORES[score]}"
        else:
            first = self.cell - RANK_CELLS
            names = ", ".join(repr(name) for name in classes[first::CLASS_CELLS])
            who = f"requests answered {names}"
        return f"{who} get labels {often} often (odds x{self.omega:.2g})"


class LabellingEvidence(msgspec.Struct, frozen=True):
    """The whole state.

    Args:
        intervals: that said something: with some labels and some requests without.
        started: intervals at which M began from 0, after the last crossing.
        m: one tuple of M per cell, one value per bet; empty before the first interval.
        choice: how labels are chosen, where that was seen; None: they pass for a random sample.
    """

    intervals: int = 0
    started: int = 0
    m: tuple[tuple[float, ...], ...] = ()
    choice: Choice | None = None

    @property
    def log10_m(self) -> float:
        """log10 of max(M, 1)."""
        return math.log10(max(float(np.mean(self.m)), 1.0)) if self.m else 0.0


@lru_cache(maxsize=20_000)
def ln_normaliser(in_cell: int, labelled: int) -> Floats:
    """ln sum_k h(k) omega^k, one value per bet `(10,)`, h hypergeometric in 100 requests.

    Args:
        in_cell: K, requests in the cell, 0 to 100.
        labelled: n, requests with a label, 0 to 100.

    >>> np.exp(ln_normaliser(50, 1)).round(3)[:3].tolist()  # half of (1 + omega)
    [1.125, 1.25, 1.5]
    """
    k = np.arange(max(0, in_cell + labelled - INTERVAL), min(in_cell, labelled) + 1)
    ln_h = (
        _ln_choose(in_cell, k)
        + _ln_choose(INTERVAL - in_cell, labelled - k)
        - _ln_choose(INTERVAL, labelled)
    )
    terms = ln_h + LN_OMEGA[:, None] * k
    top = terms.max(axis=1, keepdims=True)
    total: Floats = (top + np.log(np.exp(terms - top).sum(axis=1, keepdims=True)))[:, 0]
    return total


def _ln_choose(n: int, k: npt.ArrayLike) -> Floats:
    taken = np.asarray(k, np.float64)
    value: Floats = gammaln(n + 1.0) - gammaln(taken + 1) - gammaln(n - taken + 1)
    return value


def cells_of(confidence: Floats, p_value: Floats, predicted: IntArray, classes: int) -> Bools:
    """Which of the 100 requests lie in which cell, `(100, cells)`.

    Args:
        confidence: `(100,)` probability of the answer; equal ones are ranked as they came.
        p_value: `(100,)` drift p-values.
        predicted: `(100,)` class answered.
        classes: how many there are.
    """
    assert confidence.shape == p_value.shape == predicted.shape == (INTERVAL,)
    ranks = (np.argsort(np.argsort(each, kind="stable")) for each in (confidence, p_value))
    low = np.concatenate([rank[:, None] < np.array(LOWEST) for rank in ranks], axis=1)
    answered = predicted[:, None] % CLASS_CELLS == np.arange(min(classes, CLASS_CELLS))
    return np.concatenate([low, answered], axis=1)


def ln_e_values(cells: Bools, labelled: Bools) -> Floats:
    """ln e of an interval, `(cells, 10)`.

    Args:
        cells: `(100, cells)` as of `cells_of`.
        labelled: `(100,)` whether a label came.
    """
    assert len(cells) == len(labelled) == INTERVAL
    n = int(labelled.sum())
    both = cells[labelled].sum(axis=0)
    norms = np.stack([ln_normaliser(int(count), n) for count in cells.sum(axis=0)])
    ln_e: Floats = both[:, None] * LN_OMEGA - norms
    return ln_e


def accumulate(m: Floats, ln_e: Floats, t: int) -> Floats:
    """M after interval t = 1, 2, ... for any shape `(..., cells, 10)`."""
    ahead: Floats = np.minimum((m + 1 / (t * (t + 1))) * np.exp(ln_e), MOST)
    return ahead


def update(
    evidence: LabellingEvidence,
    confidence: Floats,
    p_value: Floats,
    predicted: IntArray,
    labelled: Bools,
    *,
    classes: int,
) -> LabellingEvidence:
    """Weigh one closed interval.

    M starts again from 0 when it reaches 1000; a choice that is not seen again for 50 intervals is
    forgotten. An interval in which all or none have a label says nothing.

    Args:
        evidence: so far.
        confidence: `(100,)` probability of the answer.
        p_value: `(100,)` drift p-values.
        predicted: `(100,)` class answered.
        labelled: `(100,)` whether a label came, before the interval was closed.
        classes: how many classes there are; the same number in every call.

    >>> evidence, rng = LabellingEvidence(), np.random.default_rng(0)
    >>> for _ in range(6):
    ...     scores, predicted = rng.random((2, 100)), rng.integers(0, 2, 100)
    ...     evidence = update(evidence, *scores, predicted, scores[0] < 0.25, classes=2)
    >>> evidence.choice.words(("cat", "dog"))
    'the 25 % of requests with the lowest confidence get labels more often (odds x5)'
    """
    if labelled.all() or not labelled.any():
        return evidence
    cells = cells_of(confidence, p_value, predicted, classes)
    before = np.array(evidence.m) if evidence.m else np.zeros((cells.shape[1], len(OMEGA)))
    intervals, started, choice = evidence.intervals + 1, evidence.started, evidence.choice
    m = accumulate(before, ln_e_values(cells, labelled), intervals - started)
    if m.mean() >= THRESHOLD:
        cell, bet = np.unravel_index(int(m.argmax()), m.shape)
        choice = Choice(int(cell), OMEGA[int(bet)], intervals)
        m, started = np.zeros_like(m), intervals
    elif intervals - started >= CLEAR_AFTER:
        choice = None
    rows = tuple(tuple(float(v) for v in row) for row in m)
    return LabellingEvidence(intervals, started, rows, choice)
