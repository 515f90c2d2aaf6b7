"""Gates: what a challenger must show before it may replace the champion.

Every gate is a pure function that gives a `Check`: name, value, bound, passed, and a sentence.
`GATES` lists them in the order in which they are judged; what else names gates derives from it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from models.base.logs import logger
from models.evaluation.gaps import reason_of
from models.statistics.intervals import Bools, false_positive_interval, paired_difference
from models.versions.schema import Calibration, Manifest

log = logger("gates")
WINDOW_CONFIDENCE = 0.8
FLOOR_SHARE = 0.75


class Check(msgspec.Struct, frozen=True):
    """One gate's verdict; `value` and `bound` are None where its figure was not measured."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
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


class SweepOfSizes(msgspec.Struct, frozen=True):
    """Robust accuracy at rising sizes of the attack, for the gate on masked gradients.

    Args:
        eps, accuracy: the sizes, and the accuracy at each.
        noise: accuracy under random noise of the first size.
        chance: accuracy that the last size, without hope, must come down to.
    """

    eps: tuple[float, ...]
    accuracy: tuple[float, ...]
    noise: float
    chance: float


class Cost(msgspec.Struct, frozen=True):
    """A cost of the challenger and of the champion, in the same unit."""

    challenger: float
    champion: float


Pair = tuple[Bools, Bools]  # champion and challenger on the same rows `(n,)`


class Compared(Protocol):
    """What the gates look at; each is measured when a gate asks for it first."""

    @property
    def bounds(self) -> Bounds:
        """How much worse the challenger may be."""

    @property
    def manifests(self) -> tuple[Manifest, Manifest]:
        """Of champion and challenger."""

    @property
    def clean(self) -> Pair:
        """Which held-out rows are right."""

    @property
    def robust(self) -> Pair:
        """Which stay right under attack."""

    @property
    def sweep(self) -> SweepOfSizes:
        """The challenger under attacks of rising size."""

    @property
    def window(self) -> Pair:
        """Which held-out rows of the labelled window are right."""

    @property
    def window_margin(self) -> float:
        """How much worse the challenger may be on the window."""

    @property
    def flags(self) -> Pair:
        """Which clean rows the challenger flags as drift, and as perturbed."""

    @property
    def calibration(self) -> Calibration:
        """Of the challenger's scores."""

    @property
    def difference(self) -> float:
        """Largest difference of the challenger's served probabilities from torch's."""

    @property
    def latency(self) -> Cost:
        """Least CPU microseconds of a run."""

    @property
    def size(self) -> Cost:
        """Bytes of the graph."""


Need = Literal["net", "window"]


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        name: of its check.
        passes_when: in words, for the docs.
        judge: the check, of what was compared.
        needs: what a comparison may lack; without it the gate is not judged.
    """

    name: str
    passes_when: str
    judge: Callable[[Compared], Check]
    needs: Need | None = None


_FLAGS = "no more clean test rows flagged than the calibration explains (99.9 %)"
_COSTS = "at most 2 times the CPU time of a run, at most 3 times the bytes"
GATES: tuple[Gate, ...] = (
    Gate(
        "input_contract",
        "input schema and classes are the champion's",
        lambda c: input_contract(*c.manifests),
    ),
    Gate(
        "clean_accuracy",
        "at most 3 points worse on the test part (paired, one-sided 95 %)",
        lambda c: clean_accuracy(*c.clean, c.bounds),
    ),
    Gate(
        "robust_accuracy",
        "at most 6 points worse under PGD-40 on two losses, each attacked through its own weights"
        " (same test)",
        lambda c: robust_accuracy(*c.robust, c.bounds),
    ),
    Gate(
        "robust_floor",
        "robust accuracy of at least 50 %, or of three quarters of the champion's where that is"
        " lower",
        lambda c: robust_floor(c.robust[1], c.bounds, champion=float(c.robust[0].mean())),
    ),
    Gate(
        "gradient_masking",
        "accuracy falls with eps down to chance, and the attack hurts at least as much as noise",
        lambda c: gradient_masking(c.sweep.eps, c.sweep.accuracy, c.sweep.noise, c.sweep.chance),
        needs="net",
    ),
    Gate(
        "window_accuracy",
        "better on held-out rows of the labelled window (same test); only where there is a window",
        lambda c: window_accuracy(*c.window, c.window_margin),
        needs="window",
    ),
    Gate(
        "drift_false_positives",
        _FLAGS,
        lambda c: false_positives("drift", c.flags[0], c.calibration.alpha, c.calibration.n),
    ),
    Gate(
        "perturbation_false_positives",
        _FLAGS,
        lambda c: false_positives("perturbation", c.flags[1], c.calibration.alpha, c.calibration.n),
    ),
    Gate(
        "parity",
        "onnxruntime and torch differ by at most 1e-4",
        lambda c: parity(c.difference, c.bounds),
        needs="net",
    ),
    Gate(
        "latency",
        _COSTS,
        lambda c: ratio(
            "latency", c.latency.challenger, c.latency.champion, c.bounds.latency_ratio, "us a run"
        ),
    ),
    Gate(
        "size",
        _COSTS,
        lambda c: ratio("size", c.size.challenger, c.size.champion, c.bounds.size_ratio, "bytes"),
    ),
)


def gate_table() -> str:
    """The gates as the docs list them: names that pass alike stand in one row."""
    rows: dict[str, list[str]] = {}
    for gate in GATES:
        rows.setdefault(gate.passes_when, []).append(f"`{gate.name}`")
    lines = [f"| {', '.join(names)} | {words} |" for words, names in rows.items()]
    return "\n".join(["| gate | passes when |", "|---|---|", *lines])


def judge_all(compared: Compared, has: frozenset[Need]) -> tuple[Check, ...]:
    """The check of every gate that applies, in the order of `GATES`.

    A gate whose figure cannot be measured fails by name.

    Args:
        compared: what was measured of champion and challenger.
        has: what of the optional needs there is.
    """
    return tuple(
        _judge(gate, compared) for gate in GATES if gate.needs is None or gate.needs in has
    )


def _judge(gate: Gate, compared: Compared) -> Check:
    try:
        return gate.judge(compared)
    except Exception as error:
        log.warning("gate_not_measured", gate=gate.name, why=reason_of(error), exc_info=True)
        return Check(gate.name, False, None, None, f"not measured: {reason_of(error)}")
