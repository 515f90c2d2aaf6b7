"""The referee learns the change that matches the window: a far honest shift is judged, not held."""

import numpy as np
import pytest
from torch import nn

from models.data import DataSet
from models.evaluation.gates import referee
from models.evaluation.gates.contradictions import judge_labels
from models.versions.schema import InputArray

FLIPS = 0.2


def mirror(x: InputArray, rng: np.random.Generator) -> InputArray:
    return np.ascontiguousarray(x[..., ::-1])


@pytest.mark.parametrize(
    ("change", "honest", "poisoned"),
    [(None, "unknown", "unknown"), (mirror, "pass", "fail")],
    ids=["its own moves", "matched"],
)
def test_mirrored_digits_are_judged_by_a_referee_that_knows_them(
    change: referee.Change | None,
    honest: str,
    poisoned: str,
    digits: DataSet,
    anchor: nn.Module,
) -> None:
    held, rng = digits.calibration.joined(digits.test), np.random.default_rng(4)
    tuned = referee.fine_tune(anchor, digits.schema, digits.train, 4, change)
    usual = referee.count_usual(tuned, digits.schema, held, 4, change)
    p = referee.probabilities_of(tuned, digits.schema, mirror(held.x, rng))
    check = judge_labels(p, held.y, digits.classes, usual).check
    assert check.verdict == honest, check.detail
    y = np.where(rng.random(len(held)) < FLIPS, rng.integers(0, 10, len(held)), held.y)
    check = judge_labels(p, y, digits.classes, usual).check
    assert check.verdict == poisoned, check.detail
