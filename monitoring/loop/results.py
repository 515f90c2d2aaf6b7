"""What the heavy steps of the loop give: one record per step, JSON between the processes."""

from typing import Literal

import msgspec

from models.evaluation.gates.checks import Check
from models.statistics.shares import Proportion
from models.versions.figures import AttackFigure

Verdict = Literal["passed", "failed", "inconclusive"]


class Collected(msgspec.Struct, frozen=True):
    """Of `collect`: how many labelled rows were frozen, and which were not, in words."""

    rows: int
    unused: str = ""


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


class Refereed(msgspec.Struct, frozen=True):
    """Of `referee`: what the labels of the window are worth.

    Args:
        checks: of the gates that are judged before the training.
        rows, kept: how many labelled rows there are, and how many may be used.
        changed: a sentence where labels have changed; empty otherwise.
    """

    checks: tuple[Check, ...]
    rows: int
    kept: int
    changed: str = ""


class Trained(msgspec.Struct, frozen=True):
    """Of `train`: the number of the challenger."""

    version: int


class Gated(msgspec.Struct, frozen=True):
    """Of `gate`: the verdict of every gate that compares versions."""

    checks: tuple[Check, ...]
