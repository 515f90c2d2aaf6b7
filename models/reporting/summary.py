"""What the figures say, in plain sentences: pure functions, so that the sentences have laws.

Words follow intervals: "worse" and "better" are said only where the 95 % interval of a difference
leaves out zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.reporting.numbers import (
    Share,
    bounds,
    known,
    list_words,
    number,
    of_100,
    percent,
    points,
)
from models.reporting.numbers import size as sized

Figures = Mapping[str, Any]

FEW_ROWS = 200


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
    ends = [p.get(key) for p in (now, before) for key in ("value", "low", "high")]
    if any(end is None for end in ends):
        return None
    p, low, high, q, low_q, high_q = (float(end) for end in ends if end is not None)
    value = p - q
    return Difference(
        value,
        value - math.hypot(p - low, high_q - q),
        value + math.hypot(high - p, q - low_q),
    )


def compare_shares(what: str, now: Share | None, before: Share | None, name: str) -> str | None:
    """How a figure stands against the one of `name`; None where one of them is missing."""
    if now is None or before is None or (gap := difference(now, before)) is None:
        return None
    ends = f"95% interval {points(gap.low)} to {points(gap.high)}"
    if gap.verdict == "same":
        return f"{what} cannot be told apart from {name}: {points(gap.value)} points, {ends}."
    return f"{what} is {gap.verdict} than {name} by {points(abs(gap.value))[1:]} points, {ends}."


def champion(previous: Figures | None) -> str:
    """How the previous champion is called in a sentence."""
    version = (previous or {}).get("version")
    return "the previous champion" + (f" (version {version})" if version is not None else "")


def threat_of(figures: Figures, kind: str) -> tuple[str, float | None, Mapping[str, Any]]:
    """Norm (`linf`, `l2` or `columns`), eps and columns; old figures mean L-inf of their eps."""
    threat = figures.get("threat") or {}
    norm = "columns" if kind == "tabular" else str(threat.get("norm") or "linf")
    return norm, threat.get("eps", figures.get("eps")), threat.get("columns") or {}


def attacker(figures: Figures, kind: str = "image", levels: int | None = None) -> str:
    """What the attacker may do, as the subject of a sentence."""
    norm, eps, columns = threat_of(figures, kind)
    if norm == "l2":
        return f"An attacker whose whole change may have length {sized(eps, levels)}"
    if norm == "linf":
        return f"An attacker who may change every value by {sized(eps, levels)} of its range"
    phrase = f"An attacker who may change every number by {sized(eps)} of its column's range"
    if columns:
        phrase += f" (with bounds of their own for {list_words([str(c) for c in columns])})"
    return phrase


def title(figures: Figures) -> str:
    """The page in one line."""
    clean, robust = figures.get("clean"), figures.get("robust")
    if not known(clean):
        return "Not evaluated yet"
    assert clean is not None
    line = f"Right on {of_100(clean['value'])} of 100 clean rows"
    if not known(robust):
        return f"{line}; not attacked"
    assert robust is not None
    return f"{line}, and on {of_100(robust['value'])} of 100 under attack"


def lead(figures: Figures, kind: str = "image", levels: int | None = None) -> list[str]:
    """The first paragraph: clean, attacked, on the window of live traffic."""
    clean, robust = figures.get("clean"), figures.get("robust")
    said: list[str] = []
    if clean is not None and known(clean):
        n = f"n = {clean['n']}"
        said.append(
            f"Of 100 clean rows {of_100(clean['value'])} are answered rightly"
            f" (95% interval {bounds(clean)}, {n})."
        )
    if robust is not None and known(robust):
        who = attacker(figures, kind, levels)
        said.append(
            f"{who} leaves {of_100(robust['value'])} of 100"
            f" ({bounds(robust)}, n = {robust['n']})"
            f"{_by_attack(robust)}."
        )
        if figures.get("black_box"):
            said.append(
                "The attack saw only answers, no gradients: a stronger one may leave fewer."
            )
    if (window := figures.get("window")) and known(window):
        said.append(
            f"On {window['n']} held-out rows of the live traffic that raised the alarm"
            f" {percent(window['value'])} are right ({bounds(window)})."
        )
    return said


def against(figures: Figures) -> list[str]:
    """How clean, robust and corrupted accuracy stand against the previous champion."""
    previous = figures.get("previous")
    if not previous:
        return []
    name = champion(previous)
    lines = [
        compare_shares("Clean accuracy", figures.get("clean"), previous.get("clean"), name),
        robust_compared(figures),
        corruption_error(figures.get("mce"), name),
    ]
    return [line for line in lines if line]


def robust_compared(figures: Figures) -> str | None:
    """Accuracy under attack against the previous champion; whether the attacks were the same."""
    previous = figures.get("previous") or {}
    now, before = figures.get("robust"), previous.get("robust")
    said = compare_shares("Accuracy under attack", now, before, champion(previous))
    if said is None or now is None or before is None:
        return said
    then = before.get("attack")
    if not then or then == now.get("attack"):
        return said
    return f"{said} The attacks were not the same; then: {list_words(str(then).split(' + '))}."


def corruption_error(mce: Share | None, name: str) -> str | None:
    """The mean corruption error in a sentence; "fewer" and "more" only if the interval says so."""
    if mce is None or not known(mce):
        return None
    ends, value = (mce.get("low"), mce.get("high")), float(mce["value"])
    share = f"{number(value)} times as many errors as {name}"
    if ends[0] is None or ends[1] is None:
        return f"Under corruption it makes {share}."
    wide = f"95% interval {number(ends[0])} to {number(ends[1])}"
    if ends[0] <= 1 <= ends[1]:
        return (
            f"Under corruption it cannot be told apart from {name}: {number(value)} times"
            f" as many errors, {wide}."
        )
    word = "fewer" if value < 1 else "more"
    return f"Under corruption it makes {word} errors than {name}: {number(value)} times, {wide}."


def limits(figures: Figures, kind: str = "image", levels: int | None = None) -> list[str]:
    """What the figures do not say."""
    _, eps, _ = threat_of(figures, kind)
    n, said = figures.get("n"), []
    if known(figures.get("robust")):
        said.append(
            f"The figures hold for the attacks named, at the sizes named (up to"
            f" {sized(_largest(figures, eps), levels)}), and for rows like the held-out ones. A new"
            " attack can only lower them; only a certificate cannot be broken."
        )
    else:
        said.append("The version was not attacked: nothing is known of its robustness.")
    if figures.get("black_box"):
        said.append("Gradients were not at hand, so robust accuracy is an upper bound at best.")
    if figures.get("suite") == "quick":
        said.append("This is the quick suite; the full one tries more attacks and corruptions.")
    if isinstance(n, int) and 0 < n < FEW_ROWS:
        said.append(f"{n} rows are few: intervals are wide, and single classes say little.")
    if kind == "tabular":
        said.append(
            "Columns are moved each by itself; laws between columns do not bind the attacker."
        )
    return [*said, _tripwire(figures)]


def adaptive_of(figures: Figures) -> Mapping[str, Any]:
    """What the attack found that knows the scores; empty for versions of old."""
    found: Mapping[str, Any] = (figures.get("scores") or {}).get("adaptive") or {}
    return found


def fooled_unseen(figures: Figures) -> tuple[Share, Share] | None:
    """Shares fooled unseen by the static and by the adaptive attack; None if not measured."""
    facts = adaptive_of(figures)
    static, adaptive = (
        (facts.get(side) or {}).get("undetected") for side in ("static", "adaptive")
    )
    return (static, adaptive) if known(static) and known(adaptive) else None


def _tripwire(figures: Figures) -> str:
    """What the scores are worth, with the figure where there is one."""
    said = (
        "The scores are a tripwire, the training is the defence: an attacker who knows the"
        " perturbation head can evade it in part"
    )
    if (found := fooled_unseen(figures)) is None:
        return f"{said}."
    static, adaptive = (of_100(share["value"]) for share in found)
    return (
        f"{said} (of 100 attacked rows {adaptive} fool the model unseen, and {static} where the"
        " attacker does not know it)."
    )


def _by_attack(robust: Share) -> str:
    if not (attack := str(robust.get("attack") or "")):
        return ""
    names = attack.split(" + ")
    return f" under {'the worst of ' if names[1:] else ''}{list_words(names)}"


def _largest(figures: Figures, eps: float | None) -> float | None:
    sizes = [p["eps"] for p in figures.get("robust_curve") or [] if p.get("eps") is not None]
    return max([*sizes, *([eps] if eps is not None else [])], default=None)
