"""How good and how robust a version is: every figure with an interval and the rows it rests on.

`evaluate` runs a suite; the rest is what gates, wrapping and tests take from it.
"""

from models.evaluate.adversarial import (
    CURVE,
    attacked,
    attacked_rows,
    curve,
    noise_right,
    noisy_rows,
    robust,
    robust_worst,
)
from models.evaluate.figures import summary
from models.evaluate.inputs import edge_cases
from models.evaluate.plan import SUITES
from models.evaluate.subject import Subject, answer, right
from models.evaluate.suite import evaluate

__all__ = [
    "CURVE",
    "SUITES",
    "Subject",
    "answer",
    "attacked",
    "attacked_rows",
    "curve",
    "edge_cases",
    "evaluate",
    "noise_right",
    "noisy_rows",
    "right",
    "robust",
    "robust_worst",
    "summary",
]
