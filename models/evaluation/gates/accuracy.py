"""Gates on accuracy: the challenger against another version, on the same rows.

The tests are paired and one-sided. Where too few rows are there to tell, the verdict is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from models.evaluation.gates.checks import Bounds, Check, Verdict, verdict_of
from models.statistics.arrays import Bools, IntArray
from models.statistics.comparing import LEVEL, holm, mcnemar, rows_needed
from models.statistics.intervals import paired_difference

WINDOW_ALPHA = 0.2
FLOOR_SHARE = 0.75
LEAST_ROWS = 30  # of a window, or of a class
CLASS_MARGINS = ((250, 0.07), (80, 0.12), (LEAST_ROWS, 0.20))  # rows from which each holds
CLASS_ALPHA = 0.10  # of McNemar's test over all classes: below it is not known whether one is worse
CLASS_FAILS = 0.015  # below it one is: two such gates refuse one equal challenger in 30


def clean_accuracy(
    anchor: Bools, after: Bools, bounds: Bounds, alpha: float = LEVEL, own: int | None = None
) -> Check:
    """Non-inferior to the anchor on clean held-out rows.

    The first `own` rows are of the data set, the others live ones, on which a challenger may win so
    much that a loss on the data set would not show: where the own rows alone fail, it fails.

    Args:
        anchor, after: `(N,)` which rows are right.
        bounds: how much worse it may be.
        alpha: level of the attempt.
        own: None: all rows are of the data set.
    """
    whole = _non_inferior("clean_accuracy", anchor, after, bounds.clean_margin, alpha)
    if own is None or not 0 < own < len(anchor):
        return whole
    alone = _non_inferior("clean_accuracy", anchor[:own], after[:own], bounds.clean_margin, alpha)
    if alone.verdict == "fail":
        return msgspec.structs.replace(alone, detail=f"on the data set alone {alone.detail}")
    live = f"{len(anchor) - own} of the rows are live ones; on the data set alone {alone.detail}"
    return msgspec.structs.replace(whole, detail=f"{whole.detail}; {live}")


def robust_accuracy(before: Bools, after: Bools, bounds: Bounds) -> Check:
    """Non-inferior under the same attack, each model attacked through its own weights."""
    return _non_inferior("robust_accuracy", before, after, bounds.robust_margin, LEVEL)


def robust_floor(after: Bools, bounds: Bounds, champion: float | None = None) -> Check:
    """Robust accuracy above a floor: an absolute one, or 3/4 of the `champion`'s if that is lower.

    Where 28 % is what the field reaches, 50 % would refuse every challenger.
    """
    floor, value = bounds.robust_floor, float(after.mean())
    if champion is not None:
        floor = min(floor, FLOOR_SHARE * champion)
    detail = f"robust accuracy {value:.1%}, floor {floor:.0%}"
    return Check("robust_floor", verdict_of(value >= floor), value, floor, detail, len(after))


def certified_accuracy(before: Bools | None, after: Bools | None, bounds: Bounds) -> Check:
    """Non-inferior in rows that are right and certified; a challenger that proves nothing fails.

    Args:
        before, after: `(N,)` of anchor (or champion) and challenger, at the eps of the former; None
            where the version proves nothing.
        bounds: of the gates.
    """
    name, bound = "certified_accuracy", -bounds.certified_margin
    if before is None:
        detail = "neither anchor nor champion certifies answers: there is nothing to lose"
        return Check(name, "pass", None, bound, detail)
    if after is None:
        detail = f"certified {before.mean():.1%} -> none: the challenger certifies no answers"
        return Check(name, "fail", -float(before.mean()), bound, detail, len(before))
    return _non_inferior(name, before, after, bounds.certified_margin, LEVEL)


def window_accuracy(before: Bools, after: Bools, margin: float = 0.0) -> Check:
    """Better on held-out rows of the window that raised the alarm (paired, one-sided 80 %).

    Windows are small and a champion that has fallen is the greater harm: among equals one in five
    passes, and the other gates see to it that it is no worse elsewhere. Without an alarm, no worse
    than by `margin` is enough. Without rows nothing shows that it has learnt anything: unknown.
    """
    if len(before) == 0:
        detail = "no held-out labelled rows: nothing shows that it is better on live traffic"
        return Check("window_accuracy", "unknown", None, 0.0 - margin, detail, 0, WINDOW_ALPHA)
    return _non_inferior("window_accuracy", before, after, margin, WINDOW_ALPHA)


def _non_inferior(name: str, before: Bools, after: Bools, margin: float, alpha: float) -> Check:
    """Pass where the lower bound lies above -margin; fail where rows suffice, or it is far below.

    A margin of 0 asks for better.
    """
    n, confidence, bound = len(before), 1 - alpha, 0.0 - margin
    difference, lower = paired_difference(before, after, confidence)
    upper = -paired_difference(after, before, confidence)[1]
    discordant = (int((before ^ after).sum()) + 1) / (n + 2)
    needed = rows_needed(discordant, alpha, margin) if margin > 0 else LEAST_ROWS
    verdict: Verdict = "unknown"
    if lower > bound if margin == 0 else lower >= bound:
        verdict = "pass"
    elif n >= needed or upper < bound:
        verdict = "fail"
    detail = (
        f"{before.mean():.1%} -> {after.mean():.1%} on {n} rows ({difference:+.1%}, "
        f"one-sided {confidence:.1%} bound {lower:+.1%}, needed {bound:+.1%})"
    )
    if verdict == "unknown":
        detail += f"; {needed} rows would tell"
    return Check(name, verdict, lower, bound, detail, n, alpha)


@dataclass(frozen=True)
class _Class:
    name: str
    n: int
    difference: float
    lower: float
    margin: float
    p_value: float


def class_accuracy(
    name: str, before: Bools, after: Bools, y: IntArray, classes: Sequence[str]
) -> Check:
    """No class much worse: the 95 % bound of each above -margin, and McNemar with Holm.

    A class fails where its bound lies below and McNemar's p of that class alone below .05, or where
    p with Holm lies below .015. Where only the bound is below, or p with Holm below .10, it stays
    unknown: of many classes of an equal challenger a small one often looks so.

    The margin is .20 for 30 to 79 rows of a class, .12 to 249, .07 from 250. Classes with fewer
    rows are judged together; together fewer than 30 stay unknown.

    Args:
        name: of the check.
        before, after: `(N,)` which rows are right.
        y: `(N,)` labels.
        classes: names.
    """
    judged, few = [], np.zeros(len(y), dtype=np.bool_)
    for label in np.unique(y):
        rows = y == label
        if rows.sum() < LEAST_ROWS:
            few |= rows
        else:
            judged.append(_compare(classes[int(label)], before[rows], after[rows]))
    if few.sum() >= LEAST_ROWS:
        together = f"{len(np.unique(y[few]))} rare classes together"
        judged.append(_compare(together, before[few], after[few]))
        few[:] = False
    if not judged:
        detail = f"{len(y)} labelled rows: fewer than {LEAST_ROWS} of every class, and of all"
        return Check(name, "unknown", None, None, detail, len(y), LEVEL)
    adjusted = holm([each.p_value for each in judged])
    slack = [each.lower + each.margin for each in judged]
    worse = [
        p < CLASS_FAILS or (below < 0 and own.p_value < LEVEL)
        for own, below, p in zip(judged, slack, adjusted, strict=True)
    ]
    worst = min(range(len(judged)), key=lambda k: (not worse[k], slack[k] >= 0, adjusted[k]))
    unsure = bool(few.any()) or min(slack) < 0 or min(adjusted) < CLASS_ALPHA
    verdict: Verdict = "fail" if any(worse) else "unknown" if unsure else "pass"
    each = judged[worst]
    detail = (
        f"worst is {each.name}: {each.difference:+.1%} on {each.n} rows (one-sided 95% bound "
        f"{each.lower:+.1%}, needed {-each.margin:+.0%}; McNemar p = {adjusted[worst]:.2g})"
    )
    if few.any():
        names = ", ".join(classes[int(label)] for label in np.unique(y[few]))
        detail += f"; not known of {names}: fewer than {LEAST_ROWS} rows"
    return Check(name, verdict, each.lower, -each.margin, detail, len(y), LEVEL)


def _compare(name: str, before: Bools, after: Bools) -> _Class:
    difference, lower = paired_difference(before, after, 1 - LEVEL)
    n = len(before)
    margin = next(margin for least, margin in CLASS_MARGINS if n >= least)
    return _Class(name, n, difference, lower, margin, mcnemar(before, after))
