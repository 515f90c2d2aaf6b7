"""What the figures say, in plain sentences: pure functions, so that the sentences have laws.

Words follow intervals: "worse" and "better" are said only where the 95 % interval of a difference
leaves out zero.
"""

import math
from dataclasses import dataclass
from typing import Literal

from models.base.words import list_words
from models.evaluation.worth import commonest_share, is_imbalanced
from models.reporting.numbers import (
    LONGEST,
    Share,
    bounds,
    clip,
    interval,
    known,
    number,
    of_100,
    percent,
    points,
)
from models.reporting.numbers import size as sized
from models.versions.figures import AttackFigure, CorruptionError, Evaluation, Previous

FEW_ROWS = 200
MOST_RARE = 3  # classes that the first paragraph speaks of


@dataclass(frozen=True)
class Difference:
    """A difference of two shares with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "same"]:
        """`same` where the interval holds zero: the rows cannot tell them apart."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "same"


def difference(now: Share, before: Share) -> Difference | None:
    """`now - before` with the interval from the two Wilson intervals; None where one is missing.

    d - sqrt((p - l)^2 + (u' - p')^2) to d + sqrt((u - p)^2 + (p' - l')^2) with [l, u] of `now`
    and [l', u'] of `before` (Newcombe 1998, method 10). On the same rows it is wider than need be:
    the gates judge row by row.
    """
    if not known(now) or not known(before):
        return None
    value = now.value - before.value
    return Difference(
        value,
        value - math.hypot(now.value - now.low, before.high - before.value),
        value + math.hypot(now.high - now.value, before.value - before.low),
    )


def compare_shares(what: str, now: Share | None, before: Share | None, name: str) -> str | None:
    """How a figure stands against the one of `name`; None where one of them is missing."""
    if now is None or before is None or (gap := difference(now, before)) is None:
        return None
    ends = f"95% interval {points(gap.low)} to {points(gap.high)}"
    if gap.verdict == "same":
        return f"{what} cannot be told apart from {name}: {points(gap.value)} points, {ends}."
    return f"{what} is {gap.verdict} than {name} by {points(abs(gap.value))[1:]} points, {ends}."


def champion(previous: Previous | None) -> str:
    """How the previous champion is called in a sentence."""
    if previous is None or previous.version is None:
        return "the previous champion"
    return f"the previous champion (version {previous.version})"


def norm_of(figures: Evaluation, kind: str) -> str:
    """`linf`, `l2` or, for tables, `columns`."""
    return "columns" if kind == "tabular" else figures.threat.norm


def attacker(figures: Evaluation, kind: str = "image", levels: int | None = None) -> str:
    """What the attacker may do, as the subject of a sentence."""
    norm, eps, columns = norm_of(figures, kind), figures.eps, figures.threat.columns
    if norm == "l2":
        return f"An attacker whose whole change may have length {sized(eps, levels)}"
    if norm == "linf":
        return f"An attacker who may change every value by {sized(eps, levels)} of its range"
    phrase = f"An attacker who may change every number by {sized(eps)} of its column's range"
    if columns:
        phrase += f" (with bounds of their own for {list_words([str(c) for c in columns])})"
    return phrase


def title(figures: Evaluation) -> str:
    """The page in one line; where one class holds most rows, by what that class cannot carry."""
    if not known(figures.clean):
        return "Not evaluated yet"
    line = f"Right on {of_100(figures.clean.value)} of 100 clean rows"
    if is_imbalanced(figures) and known(figures.balanced_accuracy):
        area = f", AUC {figures.auroc.value:.3f}" if known(figures.auroc) else ""
        line = f"Balanced accuracy {percent(figures.balanced_accuracy.value)}{area}. {line}"
    if not known(figures.robust):
        return f"{line}; not attacked"
    return f"{line}, and on {of_100(figures.robust.value)} of 100 under attack"


def lead(figures: Evaluation, kind: str = "image", levels: int | None = None) -> list[str]:
    """The first paragraph: clean, attacked, on the window of live traffic."""
    clean, robust, window = figures.clean, figures.robust, figures.window
    lines: list[str] = []
    if known(clean):
        lines.append(
            f"Of 100 clean rows {of_100(clean.value)} are answered rightly"
            f" (95% interval {bounds(clean)}, n = {clean.n})."
        )
    lines += [*unseen_words(figures), *by_class(figures)]
    if robust is not None and known(robust):
        who = attacker(figures, kind, levels)
        lines.append(
            f"{who} leaves {of_100(robust.value)} of 100"
            f" ({bounds(robust)}, n = {robust.n})"
            f"{_by_attack(robust)}."
        )
        if figures.black_box:
            lines.append(
                "The attack saw only answers, no gradients: a stronger one may leave fewer."
            )
    if known(window):
        lines.append(
            f"On {window.n} held-out rows of the live traffic that raised the alarm"
            f" {percent(window.value)} are right ({bounds(window)})."
        )
    return lines


def unseen_words(figures: Evaluation) -> list[str]:
    """How many of the rows repeat rows of the training part, and the accuracy on the others."""
    unseen = figures.clean_unseen
    if unseen is None or unseen.n == figures.n:
        return []
    repeated = percent(1 - unseen.n / figures.n)
    line = f"{repeated} of the rows have a content that stands in the training part, too"
    if not known(unseen):
        return [f"{line}: none is left to show how it does on content it has not seen."]
    return [f"{line}; on the others it is right on {interval(unseen)}."]


def by_class(figures: Evaluation) -> list[str]:
    """Where one class holds most rows: what is known of the others."""
    share = commonest_share(figures)
    if share is None or not is_imbalanced(figures):
        return []
    name = max(figures.classes, key=lambda name: figures.classes[name].n)
    line = (
        f"{percent(share)} of the rows are of class {clip(name, LONGEST)}: to name it always would"
        " be right as often."
    )
    if known(figures.balanced_accuracy):
        line += f" Balanced accuracy is {interval(figures.balanced_accuracy)}"
        line += f", AUC {area(figures.auroc)}." if known(figures.auroc) else "."
    return [line, *(class_line(figures, other) for other in rare_classes(figures)[:MOST_RARE])]


def rare_classes(figures: Evaluation) -> list[str]:
    """All classes but the largest, those with the fewest rows first."""
    return sorted(figures.classes, key=lambda name: figures.classes[name].n)[:-1]


def class_line(figures: Evaluation, name: str) -> str:
    """Recall and precision of a class in a sentence."""
    recall, precision = figures.classes[name], figures.precision.get(name)
    return (
        f"Of the rows of class {clip(name, LONGEST)} {interval(recall)} are recognised (recall);"
        f" of the answers that name it {interval(precision)} are right (precision)."
    )


def area(auroc: Share) -> str:
    """An area under the curve with its interval."""
    return f"{auroc.value:.3f} ({auroc.low:.3f} to {auroc.high:.3f})"


def against(figures: Evaluation) -> list[str]:
    """How clean, robust and corrupted accuracy stand against the previous champion."""
    previous = figures.previous
    if previous is None:
        return []
    name = champion(previous)
    lines = [
        compare_shares("Clean accuracy", figures.clean, previous.clean, name),
        robust_compared(figures),
        corruption_error(figures.mce, name),
    ]
    return [line for line in lines if line]


def robust_compared(figures: Evaluation) -> str | None:
    """Accuracy under attack against the previous champion; whether the attacks were the same."""
    now, before = figures.robust, None if figures.previous is None else figures.previous.robust
    line = compare_shares("Accuracy under attack", now, before, champion(figures.previous))
    if line is None or now is None or before is None or before.attack == now.attack:
        return line
    return f"{line} The attacks were not the same; then: {list_words(before.attack.split(' + '))}."


def corruption_error(mce: CorruptionError | None, name: str) -> str | None:
    """The mean corruption error in a sentence; "fewer" and "more" only if the interval says so."""
    if mce is None:
        return None
    wide = f"95% interval {number(mce.low)} to {number(mce.high)}"
    if mce.low <= 1 <= mce.high:
        return (
            f"Under corruption it cannot be told apart from {name}: {number(mce.value)} times"
            f" as many errors, {wide}."
        )
    word = "fewer" if mce.value < 1 else "more"
    return (
        f"Under corruption it makes {word} errors than {name}: {number(mce.value)} times, {wide}."
    )


def limits(figures: Evaluation, kind: str = "image", levels: int | None = None) -> list[str]:
    """What the figures do not say."""
    lines = []
    if known(figures.robust):
        lines.append(
            f"The figures hold for the attacks named, at the sizes named (up to"
            f" {sized(_largest(figures), levels)}), and for rows like the held-out ones. A new"
            " attack can only lower them; only a certificate cannot be broken."
        )
    else:
        lines.append("The version was not attacked: nothing is known of its robustness.")
    if figures.black_box:
        lines.append("Gradients were not at hand, so robust accuracy is an upper bound at best.")
    if figures.suite == "quick":
        lines.append("This is the quick suite; the full one tries more attacks and corruptions.")
    if 0 < figures.n < FEW_ROWS:
        lines.append(
            f"{figures.n} rows are few: intervals are wide, and single classes say little."
        )
    if kind == "tabular":
        lines.append(
            "Columns are moved each by itself; laws between columns do not bind the attacker."
        )
    return [*lines, _tripwire(figures)]


def promises(figures: Evaluation) -> list[str]:
    """What is proven of single answers, and what that does not say."""
    lines = []
    if (proven := figures.proven) is not None and known(proven.served):
        lines.append(
            f"Of 100 rows {of_100(proven.served.value)} are right and certified: no change of any"
            f" value by up to {number(proven.eps)} of its range can turn the answer"
            f" ({bounds(proven.served)}, n = {proven.served.n}). A certificate is about changes of"
            " that size and nothing else: an input of another kind may be certified and wrong, so"
            " read the drift p-value beside it."
        )
    for made in filter(known, figures.sets):
        lines.append(
            f"Prediction sets ({made.name}) hold the true class of {interval(made)};"
            f" {percent(made.promised)} was promised, with {number(made.mean_size)} classes a set."
        )
    return lines


def fooled_unseen(figures: Evaluation) -> tuple[Share, Share] | None:
    """Shares fooled unseen by the static and by the adaptive attack; None if not measured."""
    adaptive = None if figures.scores is None else figures.scores.adaptive
    if adaptive is None:
        return None
    one, other = adaptive.static.undetected, adaptive.adaptive.undetected
    return (one, other) if known(one) and known(other) else None


def _tripwire(figures: Evaluation) -> str:
    """What the scores are worth, with the figure where there is one."""
    line = (
        "The scores are a tripwire, the training is the defence: an attacker who knows the"
        " perturbation head can evade it in part"
    )
    if (pair := fooled_unseen(figures)) is None:
        return f"{line}."
    static, adaptive = (of_100(share.value) for share in pair)
    return (
        f"{line} (of 100 attacked rows {adaptive} fool the model unseen, and {static} where the"
        " attacker does not know it)."
    )


def _by_attack(robust: AttackFigure) -> str:
    names = robust.attack.split(" + ")
    return f" under {'the worst of ' if names[1:] else ''}{list_words(names)}"


def _largest(figures: Evaluation) -> float:
    return max([*(p.eps for p in figures.robust_curve), figures.eps])
