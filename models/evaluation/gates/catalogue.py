"""Gates: what a challenger must show before it may replace the champion.

Every gate is a pure function that gives a `Check`. `GATES` lists them all, in the order in which
they are judged; what else names gates derives from it. The list is fixed before anything runs: a
gate that could not be judged says `unknown`, and none drops out.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from models.base.logs import logger
from models.evaluation.gaps import reason_of
from models.evaluation.gates.accuracy import (
    certified_accuracy,
    class_accuracy,
    clean_accuracy,
    robust_accuracy,
    robust_floor,
    window_accuracy,
)
from models.evaluation.gates.checks import Bounds, Check, Verdict, verdict_of
from models.evaluation.gates.live import SHADOW
from models.statistics.arrays import Bools, IntArray
from models.statistics.intervals import false_positive_interval
from models.versions.schema import Calibration, Manifest

log = logger("gates")
NOT_REACHED = "not judged: the run did not come to it"


def input_contract(champion: Manifest, challenger: Manifest) -> Check:
    """Same input schema and same classes in the same order: clients must not notice."""
    same = champion.input == challenger.input and champion.classes == challenger.classes
    detail = "same input and classes" if same else "the input schema or the classes changed"
    return Check("input_contract", verdict_of(same), float(same), 1.0, detail)


def parity(difference: float, bounds: Bounds) -> Check:
    """The ONNX graph answers as the torch net does."""
    return Check(
        "parity",
        verdict_of(difference <= bounds.parity),
        difference,
        bounds.parity,
        f"largest |torch - onnxruntime| of the probabilities is {difference:.2g}",
    )


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
    detail = f"{curve}; under noise {noise:.1%}"
    return Check("gradient_masking", verdict_of(ok), accuracy[-1], chance + 0.1, detail)


def false_positives(name: str, flagged: Bools, alpha: float, held: int) -> Check:
    """The number of flagged held-out rows lies where a calibrated threshold puts it (99.9 %)."""
    low, high = false_positive_interval(alpha, held, len(flagged))
    count = int(flagged.sum())
    return Check(
        f"{name}_false_positives",
        verdict_of(count <= high),
        count / len(flagged),
        high / len(flagged),
        f"{count} of {len(flagged)} rows flagged; {low} to {high} expected at {alpha:.0%}",
        len(flagged),
    )


def _untested_drift(calibration: Calibration) -> Check:
    """So few rows that the drift score is calibrated on the test rows as well."""
    return Check(
        "drift_false_positives",
        "unknown",
        None,
        None,
        f"the drift score is calibrated on all {calibration.drift_n} rows, the test rows among"
        " them: none is left to judge it on",
    )


def ratio(name: str, value: float, reference: float, bound: float, unit: str) -> Check:
    """A cost of the challenger over that of the champion, both measured in one run."""
    quotient = value / reference
    detail = f"{value:.4g} {unit} against {reference:.4g} {unit}"
    return Check(name, verdict_of(quotient <= bound), quotient, bound, detail)


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
    def alpha(self) -> float:
        """Level of this attempt's comparison with the anchor."""

    @property
    def clean(self) -> Pair:
        """Which held-out rows the anchor and the challenger get right."""

    @property
    def clean_labels(self) -> IntArray:
        """Labels of those rows."""

    @property
    def clean_own(self) -> int:
        """How many of those rows, the first ones, are of the data set; the others are live."""

    @property
    def robust(self) -> Pair:
        """Which stay right under attack."""

    @property
    def certified(self) -> tuple[Bools | None, Bools | None]:
        """Which held-out rows are right and certified, of anchor (or champion) and challenger."""

    @property
    def sweep(self) -> SweepOfSizes:
        """The challenger under attacks of rising size."""

    @property
    def window(self) -> Pair:
        """Which held-out rows of the labelled window are right."""

    @property
    def window_labels(self) -> IntArray:
        """Labels of those rows."""

    @property
    def triggers(self) -> Check:
        """What the trigger sweep says of challenger and anchor."""

    @property
    def window_margin(self) -> float:
        """How much worse the challenger may be on the window."""

    @property
    def flags(self) -> Pair:
        """Which held-out rows the challenger flags as drift, and as perturbed."""

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


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        name: of its check.
        passes_when: in words, for the docs.
        judge: the check, of what was compared; None for what is judged before the training
            (`monitoring.loop.refereeing`) or after the gates (`models.evaluation.gates.live`).
        deciding: whether a challenger waits for a person where it is unknown.
        unmeasured: the verdict where its figure cannot be measured.
    """

    name: str
    passes_when: str
    judge: Callable[[Compared], Check] | None = None
    deciding: bool = True
    unmeasured: Verdict = "unknown"


def _classes(compared: Compared) -> tuple[str, ...]:
    return compared.manifests[1].classes


_FLAGS = (
    "no more held-out rows flagged, of data and window in the calibration's shares, than it"
    " explains (99.9 %)"
)
_COSTS = "at most 2 times the CPU time of a run, at most 3 times the bytes"
_CLASSES = "no class much worse (margin by its rows, and McNemar)"
GATES: tuple[Gate, ...] = (
    Gate(
        "referee",
        "labels of the window contradict the referee in at most 10 % of the rows that it is sure"
        " of, and without a pattern",
    ),
    Gate(
        "class_precision",
        "rows that are surely of a class have its label as often as where labels are right"
        " (Fisher with Holm, 1 %, and ten points; where inputs have moved it fails from 25 on)",
        deciding=False,
    ),
    Gate(
        "labels",
        "no class is labelled as another one, or a person or a trusted labeller has said that this"
        " is meant",
    ),
    Gate(
        "input_contract",
        "input schema and classes are the champion's",
        lambda c: input_contract(*c.manifests),
        unmeasured="fail",
    ),
    Gate(
        "clean_accuracy",
        "at most 3 points worse than the anchor on the test part, which grows by live rows to 1000"
        " (paired, one-sided; 5 % for all attempts together), and not worse on its own rows alone",
        lambda c: clean_accuracy(*c.clean, c.bounds, c.alpha, c.clean_own),
    ),
    Gate(
        "class_accuracy",
        _CLASSES,
        lambda c: class_accuracy("class_accuracy", *c.clean, c.clean_labels, _classes(c)),
        deciding=False,
    ),
    Gate(
        "robust_accuracy",
        "at most 6 points worse under PGD-40 on two losses, each attacked through its own weights"
        " (paired, one-sided 95 %)",
        lambda c: robust_accuracy(*c.robust, c.bounds),
    ),
    Gate(
        "robust_floor",
        "robust accuracy of at least 50 %, or of three quarters of the champion's where that is"
        " lower",
        lambda c: robust_floor(c.robust[1], c.bounds, champion=float(c.robust[0].mean())),
    ),
    Gate(
        "certified_accuracy",
        "where anchor or champion certifies answers: at most 6 points fewer rows that are right and"
        " certified, at its eps (paired, one-sided 95 %)",
        lambda c: certified_accuracy(*c.certified, c.bounds),
    ),
    Gate(
        "gradient_masking",
        "accuracy falls with eps down to chance, and the attack hurts at least as much as noise",
        lambda c: gradient_masking(c.sweep.eps, c.sweep.accuracy, c.sweep.noise, c.sweep.chance),
    ),
    Gate(
        "window_accuracy",
        "better on held-out rows of the labelled window (paired, one-sided 80 %)",
        lambda c: window_accuracy(*c.window, c.window_margin),
    ),
    Gate(
        "class_window",
        _CLASSES,
        lambda c: class_accuracy("class_window", *c.window, c.window_labels, _classes(c)),
        deciding=False,
    ),
    Gate(
        "trigger_sweep",
        "no small patch turns 40 % more of the clean rows to one class than with the anchor; of a"
        " table no values of one to three columns do so, plainly, with 30 %",
        lambda c: c.triggers,
    ),
    Gate(
        "drift_false_positives",
        _FLAGS,
        lambda c: (
            false_positives("drift", c.flags[0], c.calibration.alpha, c.calibration.drift_n)
            if c.calibration.drift_tested
            else _untested_drift(c.calibration)
        ),
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
    Gate(
        SHADOW,
        "on live requests less than 3 points worse than the champion (e-values, 5 %); unknown where"
        " traffic or labels did not show it in time",
        deciding=False,
    ),
)


def gate_table() -> str:
    """The gates as the docs list them: names that pass alike stand in one row."""
    rows: dict[str, list[str]] = {}
    for gate in GATES:
        rows.setdefault(gate.passes_when, []).append(f"`{gate.name}`")
    lines = [f"| {', '.join(names)} | {words} |" for words, names in rows.items()]
    return "\n".join(["| gate | passes when |", "|---|---|", *lines])


def plan() -> tuple[Check, ...]:
    """All checks of a retraining before anything was judged."""
    return tuple(Check(gate.name, "unknown", None, None, NOT_REACHED) for gate in GATES)


def judge_all(compared: Compared) -> tuple[Check, ...]:
    """The check of every gate that compares versions, in the order of `GATES`.

    A gate whose figure cannot be measured says so by name.
    """
    return tuple(_judge(gate, compared) for gate in GATES if gate.judge is not None)


def _judge(gate: Gate, compared: Compared) -> Check:
    assert gate.judge is not None
    try:
        return gate.judge(compared)
    except Exception as error:
        log.warning("gate_not_measured", gate=gate.name, why=reason_of(error), exc_info=True)
        detail = f"not measured: {reason_of(error)}"
        return Check(gate.name, gate.unmeasured, None, None, detail)


def undecided(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks that a person must decide about."""
    deciding = {gate.name for gate in GATES if gate.deciding}
    return tuple(c for c in checks if c.name in deciding and c.verdict == "unknown")
