"""Signs of masked gradients: an attack that fails for its own reasons makes a model look robust.

The checks follow Athalye, Carlini & Wagner 2018 (section 3.1) and Carlini et al. 2019 (section 4):
what must hold if the attack does its work. Each compares accuracies on the same rows (paired), and
fails only where a difference is larger than chance and than `SLACK`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from models.statistics.arrays import Bools
from models.statistics.intervals import paired_difference
from models.versions.figures import MaskingCheck

SLACK = 0.01
ROOM = 0.1  # above the accuracy of guessing that still counts as guessing


@dataclass(frozen=True)
class Evidence:
    """Which rows `(N,)` stay right under what; None where it was not run.

    Args:
        curve: of rising sizes.
        chance: accuracy of the best constant answer.
        hopeless: whether nothing can be robust at the last size.
        single, iterated: one step, and many, of the same size.
        fewer, more: the same attack with fewer and with more steps.
        white, black: the strongest attack with gradients, and the one without.
        attack, noise: the attack and random noise of the same size.
        names: what `single`, ... were, for the sentences.
    """

    curve: Sequence[tuple[float, Bools]]
    chance: float
    hopeless: bool
    attack: Bools | None = None
    noise: Bools | None = None
    single: Bools | None = None
    iterated: Bools | None = None
    fewer: Bools | None = None
    more: Bools | None = None
    white: Bools | None = None
    black: Bools | None = None
    names: tuple[tuple[str, str], ...] = ()


PAIRS = (  # check, the stronger attack, the weaker one
    ("iterations_not_weaker_than_one_step", "iterated", "single"),
    ("white_box_not_weaker_than_black_box", "white", "black"),
    ("attack_not_weaker_than_noise", "attack", "noise"),
    ("more_steps_not_weaker", "more", "fewer"),
)


def masking(evidence: Evidence, *, white_box: bool = False) -> tuple[MaskingCheck, ...]:
    """The checks whose attacks were run; each has a sentence with the figures.

    On a white box every attack belongs to the suite: a check that lacks one is there, not passed
    and not failed.
    """
    names = dict(evidence.names)
    checks = [_falls(evidence)]
    for name, strong, weak in PAIRS:
        below, above = getattr(evidence, strong), getattr(evidence, weak)
        if below is not None and above is not None:
            attacks = (names.get(strong, strong), names.get(weak, weak))
            checks.append(_not_weaker(name, below, above, attacks))
        elif white_box:
            lacking = strong if below is None else weak
            checks.append(
                MaskingCheck(name, None, f"not measured: {names.get(lacking, lacking)} was not run")
            )
    return tuple(checks)


def _falls(evidence: Evidence) -> MaskingCheck:
    """Accuracy falls with eps, and down to chance where nothing can be robust."""
    curve = evidence.curve
    rises = [
        (small, large)
        for (small, a), (large, b) in itertools.pairwise(curve)
        if paired_difference(a, b)[1] > SLACK
    ]
    last, end = curve[-1]
    bound = evidence.chance + ROOM
    reached = not evidence.hopeless or bool(end.mean() <= bound)
    words = "; ".join(f"{right.mean():.1%} at {eps:g}" for eps, right in curve)
    detail = f"accuracy is {words}"
    if rises:
        detail += f"; it rises from {rises[0][0]:g} to {rises[0][1]:g}, which no honest attack does"
    if evidence.hopeless:
        relation = "at most" if reached else "but should be at most"
        detail += f"; at {last:g}, where nothing can stand, {relation} {bound:.1%}"
    else:
        detail += "; at no size can the attacker change everything, so no floor is expected"
    return MaskingCheck("accuracy_falls_with_eps", not rises and reached, detail)


def _not_weaker(name: str, strong: Bools, weak: Bools, attacks: tuple[str, str]) -> MaskingCheck:
    """Accuracy under the stronger attack is no higher, beyond chance."""
    difference, low = paired_difference(weak, strong)
    passed = len(strong) == 0 or bool(low <= SLACK)
    detail = (
        f"accuracy is {strong.mean():.1%} under {attacks[0]} and {weak.mean():.1%} under"
        f" {attacks[1]} "
        f"({difference:+.1%} on {len(strong)} rows"
        + (")" if passed else f", at least {low:+.1%}): the stronger attack should not leave more")
    )
    return MaskingCheck(name, passed, detail)
