"""What a referee makes of labels: which rows may be trained on, and whether somebody poisons them.

A referee (`models.evaluation.gates.referee`) is a net that never saw the labels of the window.
Where it is sure of another class than the label, the row contradicts it. Honest labels contradict
it seldom and without a pattern; a trigger, a flip or a bad client does it often, or always towards
one label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from models.evaluation.gates.checks import Check, Verdict, verdict_of
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.statistics.comparing import fisher_greater, holm

CONFIDENT = 0.6  # largest probability from which on the referee is believed
IMPROBABLE = 0.1  # probability of the label below which a row is not trained on
MOST_DROPPED = 0.2
LEAST_CONFIDENT = 0.3
MOST_CONTRADICTIONS = 0.1  # of confident rows
LEAST_TOWARDS = 5  # contradictions towards one label that are a pattern
PATTERN_P = 1e-3
PATTERN_SHARE = 0.4  # of all contradictions
FAR = 2.0  # times the bound, up to which a moved window is not refused
SURE_ENOUGH = 0.7  # share of confident rows below which many contradictions may be a far shift
SOURCE_SHARE = 0.1  # of the contradictions towards a label, that a class must give to count
TRIGGER_SOURCES = 3  # classes that are called one label: fewer look like a class that has changed
CLIENT_P = 1e-3
PRECISION_P, LEAST_FALL = 0.01, 0.10
FAILING_FALL = 0.25  # up to which a shift that the referee hardly knows falls, too


@dataclass(frozen=True)
class Refereed:
    """What the referee says.

    Args:
        check: its verdict; it names no client, as it is shown to everybody.
        kept: `(N,)`, rows that may be trained and judged on.
        counted: `(N,)`, rows that the verdict counts: of nobody set aside, one per content.
        aside: names of the clients that are set aside.
    """

    check: Check
    kept: Bools
    counted: Bools
    aside: tuple[str, ...] = ()


def judge_labels(
    probabilities: FloatArray,
    y: IntArray,
    classes: Sequence[str],
    usual: IntArray,
    clients: Sequence[str] | None = None,
    contents: IntArray | None = None,
    *,
    moved: bool = False,
) -> Refereed:
    """The verdict on the labels of a window, and which of its rows may be used.

    Rows that were sent again say nothing new: what is counted is counted once per content, and of
    each client once.

    Args:
        probabilities: `(N, C)` of the referee.
        y: `(N,)` labels.
        classes: C names.
        usual: `(C, C)` its confusion on rows whose labels are right (`count_confident`).
        clients: `(N,)` who sent the label of each row; None where that is not known.
        contents: `(N,)` equal for rows of the same input and label (`number_contents`); None: all
            are different.
        moved: whether the inputs have moved as a known change does: then up to twice as many
            contradictions as the bound may be a shift that the referee knows only nearly.

    Fail: one label draws contradictions from three classes or more, or there are too many.
    Unknown: no rows, too few that the referee is sure of, too many that it would drop, or one label
    draws contradictions from one or two classes, as where a class has changed.
    """
    if not len(y):
        detail = "no labelled rows to referee: none is trained on"
        check = Check("referee", "unknown", None, MOST_CONTRADICTIONS, detail, 0)
        none = np.zeros(0, dtype=np.bool_)
        return Refereed(check, none, none)
    predicted, confident = probabilities.argmax(axis=1), probabilities.max(axis=1) >= CONFIDENT
    against = confident & (predicted != y)
    contents = np.arange(len(y)) if contents is None else contents
    own = first_of(contents, clients)
    aside = find_bad_clients(against & own, confident & own, clients)
    kept = np.ones(len(y), dtype=np.bool_) if clients is None else ~np.isin(clients, aside)
    improbable = probabilities[np.arange(len(y)), y] < IMPROBABLE
    rest = kept & first_of(np.where(kept, contents, -1))
    bound = most_contradictions(usual, int((confident & rest).sum()))
    failing = FAR * bound if moved else bound
    verdict, words = _judge(
        against & rest, confident & rest, improbable & rest, rest, bound, failing
    )
    pattern = find_pattern(predicted[against & rest], y[against & rest], usual)
    if pattern is not None:
        label, count, sources = pattern
        trigger = sources >= TRIGGER_SOURCES
        looks = "a trigger" if trigger else "a class that has changed"
        words += (
            f"; {count} of {int((against & rest).sum())} contradictions are labelled "
            f"{classes[label]!r}, from {sources} classes: this looks like {looks}"
        )
        verdict = "fail" if trigger else "unknown"
    if aside:
        words += f"; {int((~kept).sum())} rows of {len(aside)} of the clients are set aside"
    share = float((against & rest).sum() / max(1, (confident & rest).sum()))
    check = Check("referee", verdict, share, bound, words, int(rest.sum()))
    return Refereed(check, kept & ~improbable, rest, aside)


def number_contents(x: npt.NDArray[np.generic], y: IntArray) -> IntArray:
    """A number `(N,)` for each row, the same where input `(N, ...)` and label are the same."""
    numbers: dict[tuple[bytes, int], int] = {}
    keys = [(row.tobytes(), label) for row, label in zip(x, y.tolist(), strict=True)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def first_of(contents: IntArray, clients: Sequence[str] | None = None) -> Bools:
    """Which rows `(N,)` are the first of their content, or of their content and client."""
    keys = contents
    if clients is not None:
        names = np.unique(np.asarray(clients), return_inverse=True)[1]
        keys = names * (contents.max(initial=0) + 1) + keys
    first = np.zeros(len(contents), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def most_contradictions(usual: IntArray, n: int) -> float:
    """Which share of `n` rows that the referee is sure of may contradict their labels.

    A tenth; or, where the classes overlap and right labels contradict it more often, the share of
    those in `usual` `(C, C)` and three standard errors of its difference.
    """
    total = int(usual.sum())
    if not total or not n:
        return MOST_CONTRADICTIONS
    share = 1 - usual.trace() / total
    error = math.sqrt(share * (1 - share) * (1 / n + 1 / total))
    return max(MOST_CONTRADICTIONS, float(share + 3 * error))


def _judge(
    against: Bools, confident: Bools, improbable: Bools, rest: Bools, bound: float, failing: float
) -> tuple[Verdict, str]:
    n = max(1, int(rest.sum()))
    sure, dropped = confident.sum() / n, improbable.sum() / n
    share = against.sum() / max(1, confident.sum())
    words = (
        f"of {int(rest.sum())} different rows the referee is sure of {sure:.0%}, contradicts "
        f"{share:.1%} of those, and drops {dropped:.1%}"
    )
    if sure < LEAST_CONFIDENT or dropped > MOST_DROPPED:
        return "unknown", f"{words}: it cannot judge these rows"
    if share <= bound:
        return "pass", words
    return ("fail" if sure >= SURE_ENOUGH and share > failing else "unknown"), words


def count_confident(probabilities: FloatArray, y: IntArray) -> IntArray:
    """Rows that the referee is sure of, by the class it names and the label: `(C, C)`."""
    classes = probabilities.shape[1]
    sure = probabilities.max(axis=1, initial=0.0) >= CONFIDENT
    pairs = probabilities[sure].argmax(axis=1) * classes + y[sure]
    counts: IntArray = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return counts


def find_bad_clients(
    against: Bools, confident: Bools, clients: Sequence[str] | None
) -> tuple[str, ...]:
    """Clients whose labels contradict the referee more often than those of all others.

    Fisher's exact test of each against the rest, with Holm, at 1e-3.
    """
    if clients is None:
        return ()
    who, total, hits = np.asarray(clients), int(confident.sum()), int(against.sum())
    names = [str(name) for name in np.unique(who)]
    if len(names) < 2:
        return ()
    p_values = []
    for name in names:
        n, bad = int((confident & (who == name)).sum()), int((against & (who == name)).sum())
        p_values.append(fisher_greater(bad, n, hits - bad, total - n))
    return tuple(n for n, p in zip(names, holm(p_values), strict=True) if p < CLIENT_P)


def find_pattern(predicted: IntArray, y: IntArray, usual: IntArray) -> tuple[int, int, int] | None:
    """The label that contradictions agree on: its number, how many, and from how many classes.

    At least five and 40 % of all k, and more than where labels are right:
    C P(Bin(k, q) >= n) < 1e-3, with q the label's share of the contradictions in `usual` (one
    added to each label), at least 1/C. A class counts where
    it gives two of the n and a tenth of them. None without one.
    """
    if not len(y):
        return None
    classes = len(usual)
    usual = usual.sum(axis=0) - usual.diagonal()
    shares = np.maximum((usual + 1) / (usual.sum() + classes), 1 / classes)
    counts = np.bincount(y, minlength=classes)
    p_values = classes * stats.binom.sf(counts - 1, len(y), shares)
    label = int(p_values.argmin())
    n = int(counts[label])
    if n < max(LEAST_TOWARDS, PATTERN_SHARE * len(y)) or p_values[label] >= PATTERN_P:
        return None
    sources = np.bincount(predicted[y == label], minlength=classes)
    return label, n, int((sources >= max(2, SOURCE_SHARE * n)).sum())


def judge_precision(
    probabilities: FloatArray,
    y: IntArray,
    classes: Sequence[str],
    usual: IntArray,
    excused: Sequence[int] = (),
    *,
    moved: bool = False,
) -> Check:
    """The check `class_precision`: are rows of a class still labelled so?

    Per class that the referee is sure of, the share of rows with that label, in the window against
    rows whose labels are right: Fisher's exact test with Holm, at 1 %, of falls of at least ten
    points. Where the inputs have moved, a fall of less than 25 is unknown: in blurred pictures one
    class honestly looks like another. It is the referee's precision and not the champion's, which
    falls for honest reasons where inputs have moved.

    Args:
        probabilities, y, classes, usual: as of `judge_labels`.
        excused: classes that have changed, of which nothing is said here.
        moved: whether the inputs have moved, as of `judge_labels`.
    """
    counts = count_confident(probabilities, y)
    tried = [c for c in range(len(classes)) if counts[c].sum() and usual[c].sum()]
    tried = [c for c in tried if c not in excused]
    if not tried:
        detail = "no labelled rows of a class that the referee is sure of"
        return Check("class_precision", "unknown", None, PRECISION_P, detail, len(y), PRECISION_P)
    p_values, falls = [], []
    for c in tried:
        n, n_usual = int(counts[c].sum()), int(usual[c].sum())
        falls.append(float(usual[c, c] / n_usual - counts[c, c] / n))
        p = fisher_greater(n - counts[c, c], n, n_usual - usual[c, c], n_usual)
        p_values.append(p if falls[-1] >= LEAST_FALL else 1.0)
    adjusted = holm(p_values)
    low = adjusted < PRECISION_P
    worst = int(adjusted.argmin())
    c, p = tried[worst], float(adjusted[worst])
    detail = (
        f"worst is {classes[c]!r}: {counts[c, c]} of {counts[c].sum()} rows that are surely of it "
        f"have its label, {usual[c, c] / usual[c].sum():.1%} where labels are right (p = {p:.2g})"
    )
    verdict = verdict_of(p >= PRECISION_P)
    if moved and verdict == "fail" and max(falls[k] for k in np.flatnonzero(low)) < FAILING_FALL:
        verdict = "unknown"
    return Check("class_precision", verdict, p, PRECISION_P, detail, int(counts.sum()), PRECISION_P)
