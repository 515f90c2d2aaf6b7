"""Gates: what a challenger must show before it may replace the champion.

Every gate is a pure function that gives a `Check`: name, value, bound, passed, and a sentence.
"""

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.intervals import Bools, false_positive_interval, paired_difference
from models.versions.schema import Manifest

WINDOW_CONFIDENCE = 0.8
FLOOR_SHARE = 0.75


class Check(msgspec.Struct, frozen=True):
    """One gate's verdict."""

    name: str
    passed: bool
    value: float
    bound: float
    detail: str


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse a challenger may be; accuracies as shares, times as ratios."""

    clean_margin: float = 0.03
    robust_margin: float = 0.06
    robust_floor: float = 0.5
    parity: float = 1e-4
    latency_ratio: float = 2.0
    size_ratio: float = 3.0


def passed(checks: Sequence[Check]) -> bool:
    """Whether there are checks and all of them passed."""
    return bool(checks) and all(check.passed for check in checks)


def input_contract(champion: Manifest, challenger: Manifest) -> Check:
    """Same input schema and same classes in the same order: clients must not notice."""
    same = champion.input == challenger.input and champion.classes == challenger.classes
    detail = "same input and classes" if same else "the input schema or the classes changed"
    return Check("input_contract", same, float(same), 1.0, detail)


def parity(difference: float, bounds: Bounds) -> Check:
    """The ONNX graph answers as the torch net does."""
    return Check(
        "parity",
        difference <= bounds.parity,
        difference,
        bounds.parity,
        f"largest |torch - onnxruntime| of the probabilities is {difference:.2g}",
    )


def clean_accuracy(before: Bools, after: Bools, bounds: Bounds) -> Check:
    """Non-inferior on clean held-out rows (paired, one-sided 95 %)."""
    return _non_inferior("clean_accuracy", before, after, -bounds.clean_margin)


def robust_accuracy(before: Bools, after: Bools, bounds: Bounds) -> Check:
    """Non-inferior under the same attack, each model attacked through its own weights."""
    return _non_inferior("robust_accuracy", before, after, -bounds.robust_margin)


def robust_floor(after: Bools, bounds: Bounds, champion: float | None = None) -> Check:
    """Robust accuracy above a floor: an absolute one, or 3/4 of the `champion`'s if that is lower.

    Where 28 % is what the field reaches, 50 % would refuse every challenger.
    """
    floor, value = bounds.robust_floor, float(after.mean())
    if champion is not None:
        floor = min(floor, FLOOR_SHARE * champion)
    detail = f"robust accuracy {value:.1%}, floor {floor:.0%}"
    return Check("robust_floor", value >= floor, value, floor, detail)


def gradient_masking(
    eps: Sequence[float], accuracy: Sequence[float], noise: float, chance: float
) -> Check:
    """Robust accuracy must fall with eps down to chance, and stay below that under plain noise.

    A model whose gradients are masked looks robust at every eps, or is hurt more by random noise
    than by the attack (Athalye et al. 2018).

    Args:
        eps: rising sizes of the attack, the largest hopeless to defend.
        accuracy: robust accuracy at each.
        noise: accuracy under random noise of the size `eps[0]`.
        chance: accuracy of guessing.
    """
    assert len(eps) == len(accuracy) >= 2
    falls = all(b <= a + 0.02 for a, b in itertools.pairwise(accuracy))
    ok = falls and accuracy[-1] <= chance + 0.1 and accuracy[0] <= noise + 0.02
    curve = ", ".join(f"{e:g}: {a:.1%}" for e, a in zip(eps, accuracy, strict=True))
    return Check(
        "gradient_masking", ok, accuracy[-1], chance + 0.1, f"{curve}; under noise {noise:.1%}"
    )


def window_accuracy(before: Bools, after: Bools, margin: float = 0.0) -> Check:
    """Better on held-out rows of the window that raised the alarm (paired, one-sided 80 %).

    Windows are small and a champion that has fallen is the greater harm: among equals one in five
    passes, and the other gates see to it that it is no worse elsewhere. Without an alarm, no worse
    than by `margin` is enough.
    """
    if len(before) == 0:
        return Check("window_accuracy", False, 0.0, 0.0, "no held-out labelled rows in the window")
    return _non_inferior("window_accuracy", before, after, 0.0 - margin, WINDOW_CONFIDENCE)


def false_positives(name: str, flagged: Bools, alpha: float, held: int) -> Check:
    """The number of flagged clean rows lies where a calibrated threshold puts it (99.9 %)."""
    low, high = false_positive_interval(alpha, held, len(flagged))
    count = int(flagged.sum())
    return Check(
        f"{name}_false_positives",
        count <= high,
        count / len(flagged),
        high / len(flagged),
        f"{count} of {len(flagged)} clean rows flagged; {low} to {high} expected at {alpha:.0%}",
    )


def ratio(name: str, value: float, reference: float, bound: float, unit: str) -> Check:
    """A cost of the challenger over that of the champion, both measured in one run."""
    quotient = value / reference
    detail = f"{value:.4g} {unit} against {reference:.4g} {unit}"
    return Check(name, quotient <= bound, quotient, bound, detail)


def _non_inferior(
    name: str, before: Bools, after: Bools, bound: float, confidence: float = 0.95
) -> Check:
    difference, lower = paired_difference(before, after, confidence)
    ok = lower > bound if bound == 0 else lower >= bound
    detail = (
        f"{_share(before)} -> {_share(after)} on {len(before)} rows ({difference:+.1%}, "
        f"one-sided {confidence:.0%} bound {lower:+.1%}, needed {bound:+.1%})"
    )
    return Check(name, ok, lower, bound, detail)


def _share(right: npt.NDArray[np.bool_]) -> str:
    return f"{right.mean():.1%}"
