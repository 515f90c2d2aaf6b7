"""What a suite does: attacks, their strength and sizes, and how many rows the dear parts take."""

import importlib.util
import math
from functools import partial
from typing import Literal

import msgspec

from models.attacks.catalogue import Strength, strengths
from models.attacks.gradient.adaptive import WEIGHTS
from models.attacks.threat import Columns, geometry_of
from models.base.errors import DataError
from models.evaluation.subject import Subject
from models.versions.judging import SUITES, Suite, ThreatModel
from models.versions.schema import InputSchema

QUICK_WEIGHTS = (None, 0.1)  # the first must be good at the margin: see `evaluate.adaptive`
SIZES = {"quick": (1 / 3, 2 / 3, 1, 4 / 3, 2), "full": (1 / 3, 2 / 3, 1, 4 / 3, 2, 3, 4)}


class Plan(msgspec.Struct, frozen=True):
    """The settings of one evaluation; two with the same plan do the same.

    Args:
        suite, threat: as asked for.
        sizes: rising eps of the curves; `threat.eps` is one of them.
        hopeless: a size at which nothing can be robust (it is the last of `sizes`), or None.
        cascade: attacks that follow each other on the rows still right, at `threat.eps`.
        alone: attacks on every row, for the scores and the checks of masking.
        few: PGD once more with fewer steps, for those checks; None on a black box.
        curve: attacks at every size, one after the other. Ten steps of APGD find more than twenty
            of PGD, in half the time: rows that fell are left alone.
        corruptions: which of them.
        certificate_rows, gallery_rows: the first so many rows.
        gallery_rounds, gallery_steps: of the search for the smallest perturbation.
        autoattack: whether the reference implementation runs as well.
        adaptive_rows: the first so many rows meet the attack that knows the detectors.
        adaptive_weights: of the detectors, an attack each (None: taking turns).
        adaptive_steps, adaptive_restarts: of each.
        nearest, nearest_rows: attacks of a size of their own, for the scores.
    """

    suite: Suite
    threat: ThreatModel
    sizes: tuple[float, ...]
    hopeless: float | None
    cascade: tuple[Strength, ...]
    alone: tuple[Strength, ...]
    few: Strength | None
    curve: tuple[Strength, ...]
    corruptions: Literal["quick", "full"]
    certificate_rows: int
    gallery_rows: int
    gallery_rounds: int
    gallery_steps: int
    autoattack: bool
    adaptive_rows: int
    adaptive_weights: tuple[float | None, ...]
    adaptive_steps: int
    adaptive_restarts: int
    nearest: tuple[Strength, ...]
    nearest_rows: int

    def alone_by(self, attack: str) -> Strength:
        """The strength of an attack that runs alone."""
        return next(strength for strength in self.alone if strength.attack == attack)


def make_plan(
    subject: Subject, suite: str, threat: ThreatModel, *, autoattack: bool = False
) -> Plan:
    """The plan of a suite for a subject.

    Raises:
        DataError: an unknown suite, a size out of range, or a wish that the subject cannot fulfil.
    """
    if suite not in SUITES:
        raise DataError(f"unknown suite {suite!r}: known are {', '.join(SUITES)}")
    geometry_of(threat, subject.schema)  # says what is wrong with it
    if autoattack and (subject.black_box or subject.schema.kind == "tabular"):
        raise DataError(
            "the reference AutoAttack needs an image model with its torch net; this one is "
            + ("a wrapped graph" if subject.black_box else "a table model")
        )
    if autoattack and importlib.util.find_spec("pyautoattack") is None:
        raise DataError("the reference AutoAttack is not installed: pip install pyautoattack")
    full, white = suite == "full", not subject.black_box
    runs = partial(
        strengths,
        suite=suite,
        black_box=subject.black_box,
        classes=len(subject.classes),
        images=subject.schema.kind == "image",
    )
    limit = hopeless(subject.schema, threat)
    return Plan(
        suite=suite,
        threat=threat,
        sizes=sizes(subject.schema, threat, SIZES[suite]),
        hopeless=limit,
        cascade=runs("cascade"),
        alone=runs("alone"),
        few=Strength("pgd", 10 if full else 5) if white else None,
        curve=runs("curve"),
        corruptions=suite,
        certificate_rows=100 if full else 0,
        gallery_rows=(256 if full else 40) * (white and subject.schema.kind == "image"),
        gallery_rounds=8 if full else 6,
        gallery_steps=20 if full else 10,
        autoattack=autoattack,
        adaptive_rows=300 if full else 64,
        adaptive_weights=WEIGHTS if full else QUICK_WEIGHTS,
        adaptive_steps=100 if full else 20,
        adaptive_restarts=2 if full else 1,
        nearest=runs("alone", nearest=True),
        nearest_rows=500,
    )


def hopeless(schema: InputSchema, threat: ThreatModel) -> float | None:
    """A size at which every input can be made equal to any other, or grey: no answer can stand.

    None where the attacker cannot change every column of a table all the way.
    """
    if schema.kind == "tabular":
        box = geometry_of(threat, schema, 1.0)
        assert isinstance(box, Columns)
        return 1.0 if bool((box.down >= 1).all() and (box.up >= 1).all()) else None
    return 0.5 if threat.norm == "linf" else 0.5 * math.sqrt(schema.size)


def sizes(
    schema: InputSchema, threat: ThreatModel, factors: tuple[float, ...]
) -> tuple[float, ...]:
    """Rising sizes around `threat.eps`, and a hopeless one at the end.

    >>> digits = InputSchema("x", (1, 8, 8), "float32", 0.0, 16.0, "image")
    >>> sizes(digits, ThreatModel(eps=0.15), SIZES["quick"])
    (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    >>> sizes(digits, ThreatModel("l2", 1.5), SIZES["quick"])
    (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    """
    end = hopeless(schema, threat) or 1.0  # of a table's box: the whole range of training
    below = (round(factor * threat.eps, 6) for factor in factors if factor != 1)
    return tuple(sorted({threat.eps, max(end, threat.eps), *(e for e in below if e < end)}))
