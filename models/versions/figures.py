"""The figures of an evaluation: the records that report, manifest, gates and metrics share.

`report.json` is the encoding of an `Evaluation` and nothing else; its JSON schema stands in
`docs/report.schema.json`. Shares are `Proportion`s: value, 95 % interval and rows. What could not
be measured is None or empty, and `not_measured` says by name why.
"""

import msgspec

from models.statistics.shares import Proportion, Reliability
from models.versions.judging import Suite, ThreatModel
from models.versions.promises import Proven, SetFigure


class AttackFigure(Proportion, frozen=True, kw_only=True):
    """Rows that are right under an attack, or under the worst of several (joined by ` + `)."""

    attack: str
    eps: float


class NoiseFigure(Proportion, frozen=True, kw_only=True):
    """Rows that are right under random noise of the size of an attack."""

    eps: float


class CorruptionFigure(Proportion, frozen=True, kw_only=True):
    """Rows that are right under a corruption of a severity from 1 to 5."""

    name: str
    group: str
    severity: int


class StressFigure(Proportion, frozen=True, kw_only=True):
    """Rows of a table that are right in spite of an error, and the share flagged as drift."""

    name: str
    severity: int
    drift_flagged: float


class CorruptionError(msgspec.Struct, frozen=True):
    """Mean corruption error: errors under corruption over those of the previous champion.

    Args:
        value, low, high: the ratio and its 95 % interval; 1 is as many errors.
        n: rows; `kinds`: of corruption.
        relative_to: version of the previous champion.
    """

    value: float
    low: float
    high: float
    n: int
    kinds: int = 0
    relative_to: int | None = None


class Confusion(msgspec.Struct, frozen=True):
    """`count` of the `n` rows of a class that were taken for another one."""

    true: str
    predicted: str
    count: int
    n: int


class MaskingCheck(msgspec.Struct, frozen=True):
    """A check for masked gradients: None where it was not run; the sentence has the figures."""

    name: str
    passed: bool | None
    detail: str


class EdgeCase(msgspec.Struct, frozen=True):
    """Answers to inputs that are no instance of any class.

    Args:
        name: of the kind of input; `n`: how many.
        finite: whether every probability was finite.
        confidence: mean probability of the answer.
        drift_flagged: share flagged as drift.
    """

    name: str
    n: int
    finite: bool
    confidence: float
    drift_flagged: float


class BenignFigure(msgspec.Struct, frozen=True):
    """The scores on rows that were changed and not attacked."""

    drift_auroc: float
    perturbation_flagged: float


class RocCurve(msgspec.Struct, frozen=True):
    """How the perturbation score parts the rows of an attack from clean ones.

    Args:
        attack: its name; `trained_on`: whether the score learnt from it.
        auroc, low, high: area and 95 % interval; None where no row was attacked.
        n: attacked rows.
        caught: share caught, by the share of clean rows that is flagged.
        points: (false-positive rate, true-positive rate); left out of the manifest.
    """

    attack: str
    trained_on: bool
    auroc: float | None
    low: float
    high: float
    n: int
    caught: dict[str, Proportion] = {}
    points: tuple[tuple[float, float], ...] = ()


class Fooled(msgspec.Struct, frozen=True, kw_only=True):
    """Of the attacked rows: wrong; wrong and not flagged as perturbed; nor as drift."""

    fooled: Proportion
    undetected: Proportion
    undetected_by_both: Proportion


class StaticFooled(Fooled, frozen=True, kw_only=True):
    """By the attack that does not know the scores."""

    attack: str


class WeighedFooled(Fooled, frozen=True, kw_only=True):
    """By the attack that gives the scores this weight (or takes turns)."""

    weight: str | float


class Adaptive(msgspec.Struct, frozen=True, kw_only=True):
    """What an attacker achieves who knows the scores, beside one who does not.

    Args:
        n: attacked rows; `steps`, `restarts`: of each attack.
        static, adaptive: who does not know the scores, and who does (the best weight per row).
        weights: one attack each; `best` is the weight with the most undetected.
        flat: share of rows where the score has no gradient; there the attack is blind.
    """

    n: int
    steps: int
    restarts: int
    static: StaticFooled
    adaptive: Fooled
    weights: tuple[WeighedFooled, ...]
    best: str | float
    flat: float | None


class DriftRates(msgspec.Struct, frozen=True):
    """Clean rows of a predicted class: flagged as drift, and with a p-value of at most .1."""

    flagged: Proportion
    tenth: Proportion


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How the two scores of every answer do.

    Args:
        false_positives_expected: least and most clean rows that calibration explains (95 %).
        drift_expected: the same for drift, where it is calibrated on other rows.
        drift_by_class: by the name of the predicted class.
        drift_false_positives, perturbation_false_positives: clean rows that were flagged.
        perturbation_detected, perturbation_auroc: of the rows under the strongest attack.
        suspicious_false_positives, suspicious_detected: clean and attacked rows that are
            suspicious; None for a version without that threshold (schema 2).
        severity_3: of benign changes of the middle severity, by name.
        roc: one curve per attack.
        likelihood: whether the perturbation likelihood is a probability.
        adaptive: an attacker who knows the scores.
    """

    false_positives_expected: tuple[int, int] | None = None
    drift_false_positives: Proportion | None = None
    perturbation_false_positives: Proportion | None = None
    perturbation_detected: Proportion | None = None
    perturbation_auroc: float | None = None
    suspicious_false_positives: Proportion | None = None
    suspicious_detected: Proportion | None = None
    severity_3: dict[str, BenignFigure] = {}
    roc: tuple[RocCurve, ...] = ()
    likelihood: Reliability | None = None
    adaptive: Adaptive | None = None
    drift_expected: tuple[int, int] | None = None
    drift_by_class: dict[str, DriftRates] = {}

    @property
    def drift_usual(self) -> tuple[int, int] | None:
        """Least and most clean rows that are usually flagged as drift."""
        return self.drift_expected or self.false_positives_expected


class CertifiedPoint(Proportion, frozen=True, kw_only=True):
    """Rows that are right whatever the change below an L2 radius (in the [0, 1] range)."""

    radius: float


class Certified(msgspec.Struct, frozen=True):
    """Certified accuracy by randomised smoothing: noise, samples per row, error, rows, curve."""

    sigma: float
    samples: int
    alpha: float
    n: int
    points: tuple[CertifiedPoint, ...] = ()


class ChangedPicture(msgspec.Struct, frozen=True):
    """The smallest change found that turns an answer: three PNG pictures as data URIs."""

    true: str
    predicted: str
    eps: float
    norm: str
    original: str
    changed: str
    difference: str


class Previous(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of the previous champion beside one's own figures."""

    version: int | None
    clean: Proportion
    robust: AttackFigure | None = None
    robust_curve: tuple[AttackFigure, ...] = ()
    corruptions: tuple[CorruptionFigure, ...] = ()
    calibration: Reliability | None = None


class NotMeasured(msgspec.Struct, frozen=True):
    """A measurement that could not be made, and why, in words."""

    name: str
    reason: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of an evaluation; only clean accuracy is always there.

    Args:
        suite: `quick` or `full`; `n`: held-out rows; `seed`: of all that is random.
        threat: what the attacker may do; `eps` is its size.
        black_box: whether the attack saw answers only.
        clean: accuracy without an attack; `clean_unseen`: on the rows whose content does not
            stand in the training part, where that is known.
        balanced_accuracy: mean of the classes' own accuracies.
        auroc: mean over the classes of the area under one class against the rest.
        window: accuracy on held-out rows of live traffic.
        classes: accuracy on the rows of a class (its recall), by class; `classes_robust` the
            same under the worst attack; `precision`: of the answers that name a class.
        robust: under the worst of the attacks at `eps`.
        attacks, robust_curve, noise_curve: one by one, by size, and noise of the same sizes.
        masking: checks for masked gradients.
        corruptions, mce, stress, edge_cases: bad conditions.
        calibration: whether stated confidence is the share of right answers.
        scores: of drift and perturbation.
        certified: certificates by smoothing; proven: by interval bounds; sets: prediction sets.
        gallery: the smallest changes (not in the manifest).
        previous: the previous champion.
        not_measured: what could not be measured, and why.
    """

    suite: Suite
    n: int
    seed: int
    threat: ThreatModel
    eps: float
    black_box: bool
    clean: Proportion
    clean_unseen: Proportion | None = None
    balanced_accuracy: Proportion | None = None
    auroc: Proportion | None = None
    window: Proportion | None = None
    classes: dict[str, Proportion] = {}
    classes_robust: dict[str, Proportion] = {}
    precision: dict[str, Proportion] = {}
    confusions: tuple[Confusion, ...] = ()
    robust: AttackFigure | None = None
    attacks: tuple[AttackFigure, ...] = ()
    robust_curve: tuple[AttackFigure, ...] = ()
    noise_curve: tuple[NoiseFigure, ...] = ()
    masking: tuple[MaskingCheck, ...] = ()
    corruptions: tuple[CorruptionFigure, ...] = ()
    mce: CorruptionError | None = None
    stress: tuple[StressFigure, ...] = ()
    edge_cases: tuple[EdgeCase, ...] = ()
    calibration: Reliability | None = None
    scores: Scores | None = None
    certified: Certified | None = None
    proven: Proven | None = None
    sets: tuple[SetFigure, ...] = ()
    gallery: tuple[ChangedPicture, ...] = ()
    previous: Previous | None = None
    not_measured: tuple[NotMeasured, ...] = ()

    def reason_against(self, name: str) -> str | None:
        """Why a measurement was not made; None where it was, or does not belong to the suite."""
        return next((gap.reason for gap in self.not_measured if gap.name == name), None)


def summary(evaluation: Evaluation) -> Evaluation:
    """What the manifest holds: all but the pictures and the points of ROC curves."""
    scores = evaluation.scores
    if scores is not None:
        roc = tuple(msgspec.structs.replace(curve, points=()) for curve in scores.roc)
        scores = msgspec.structs.replace(scores, roc=roc)
    return msgspec.structs.replace(evaluation, gallery=(), scores=scores)
