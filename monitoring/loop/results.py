"""What the heavy steps of the loop give: one record per step, JSON between the processes."""

from typing import Literal

import msgspec

from models.evaluation.gates.checks import Check
from models.evaluation.gates.checks import Verdict as CheckVerdict
from models.statistics.shares import Proportion
from models.versions.figures import AttackFigure

Verdict = Literal["passed", "failed", "inconclusive"]


class Collected(msgspec.Struct, frozen=True):
    """Of `collect`: how many labelled rows were frozen, and which were not, in words.

    `earlier` are those from before the window, which count as old data.
    """

    rows: int
    unused: str = ""
    earlier: int = 0


class Look(msgspec.Struct, frozen=True):
    """Of `evaluate`: how the champion did when the loop looked at it.

    Args:
        verdict, words: the outcome, and why.
        window: accuracy on the labelled live rows.
        clean, robust: on the held-out rows, without an attack and under one.
        at: seconds since 1970.
    """

    verdict: Verdict
    words: str
    window: Proportion
    clean: Proportion
    robust: AttackFigure | None
    at: float


class ChangedLabel(msgspec.Struct, frozen=True):
    """Rows that look like class `old` are labelled `new` now: a `share` of `n` sure rows."""

    old: str
    new: str
    n: int
    share: float


WINDOW_LIMIT = 5000  # labelled rows of a window, at most: the newest


class WindowFacts(msgspec.Struct, frozen=True):
    """What the referee leaves of a window, where a row and its near-copies count once.

    Args:
        verdict: of the referee.
        different: rows that differ.
        kept: those of them that may be used.
    """

    verdict: CheckVerdict
    different: int
    kept: int

    @property
    def share(self) -> float:
        """The share of the different rows that may be used."""
        return self.kept / max(1, self.different)


class Refereed(msgspec.Struct, frozen=True):
    """Of `referee`: what the labels of the window are worth.

    Args:
        checks: of the gates that are judged before the training.
        rows, kept: how many labelled rows there are, and how many may be used.
        window: the same, of rows that differ, with the referee's verdict.
        changed: a sentence where labels have changed; empty otherwise.
        changes: which labels have changed.
        can_follow: whether old rows can be given the labels that they have now.
        followed: where trusted labellers say the same by themselves, a sentence; empty: a person
            must say that the change is meant.
    """

    checks: tuple[Check, ...]
    rows: int
    kept: int
    window: WindowFacts
    changed: str = ""
    changes: tuple[ChangedLabel, ...] = ()
    can_follow: bool = False
    followed: str = ""


class Trained(msgspec.Struct, frozen=True):
    """Of `train`: the number of the challenger, and what it learnt from, as a sentence."""

    version: int
    material: str = ""


class Gated(msgspec.Struct, frozen=True):
    """Of `gate`: the verdict of every gate that compares versions."""

    checks: tuple[Check, ...]
