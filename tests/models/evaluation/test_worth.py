"""Laws of the reasons against serving: blind or defenceless versions are named, useful ones not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.figures.imbalance import balanced_accuracy, mean_auroc, precision, recall
from models.evaluation.worth import beats_commonest, reasons_against_serving
from models.statistics.intervals import proportion
from models.versions.figures import AttackFigure, Evaluation
from models.versions.judging import ThreatModel


def judged(y: Any, predicted: Any, robust: float | None = 0.6) -> Evaluation:
    """The evaluation of answers `(N,)` to rows of classes `y`."""
    y, predicted = np.asarray(y), np.asarray(predicted)
    right, names = y == predicted, [f"c{k}" for k in range(int(max(y.max(), predicted.max())) + 1)]
    recalls, survived = recall(names, y, right), np.arange(len(y)) < round((robust or 0) * len(y))
    figure = AttackFigure(*proportion(survived).parts, attack="pgd", eps=0.1)
    return Evaluation(
        suite="quick", n=len(y), seed=0, threat=ThreatModel(eps=0.1), eps=0.1, black_box=False,
        clean=proportion(right), classes=recalls, precision=precision(names, predicted, right),
        balanced_accuracy=balanced_accuracy(list(recalls.values())),
        robust=None if robust is None else figure,
    )  # fmt: skip


def test_naming_the_commonest_class_is_no_reason_to_serve() -> None:
    y = np.repeat([0, 1], [950, 50])
    (reason,) = reasons_against_serving(judged(y, np.zeros(1000, int)))
    assert "95.0% of the rows" in reason


def test_a_rare_class_that_is_recognised_is_worth_something_at_the_same_accuracy() -> None:
    y = np.repeat([0, 1], [950, 50])
    predicted = y.copy()
    predicted[:40], predicted[950:960] = 1, 0  # 95 % right, 80 % of the rare class
    assert judged(y, predicted).clean.value == 0.95
    assert reasons_against_serving(judged(y, predicted)) == ()


@pytest.mark.parametrize(
    ("robust", "named"), [(0.0, True), (0.04, True), (0.06, False), (None, False)]
)
def test_fewer_than_five_per_cent_robust_are_named(robust: float | None, named: bool) -> None:
    y = np.repeat([0, 1], 50)
    reasons = reasons_against_serving(judged(y, y, robust))
    assert any("under attack" in reason for reason in reasons) is named


@given(st.integers(2, 5), st.integers(20, 200), st.integers(0, 99))
def test_guessing_never_beats_the_commonest_class_and_knowing_always_does(
    classes: int, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n)])
    assert beats_commonest(judged(y, y)) or n < 40
    constant = np.full(len(y), np.bincount(y).argmax())
    assert not beats_commonest(judged(y, constant))


def test_one_class_alone_is_no_question_of_the_commonest() -> None:
    y = np.zeros(30, int)
    assert reasons_against_serving(judged(y, y)) == ()


@given(st.integers(2, 4), st.integers(30, 120), st.integers(0, 99))
def test_balanced_accuracy_is_the_mean_recall_and_its_interval_holds_it(
    classes: int, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y, predicted = rng.integers(0, classes, (2, n))
    recalls = [(predicted[y == k] == k).mean() for k in range(classes) if (y == k).any()]
    balanced = judged(y, predicted).balanced_accuracy
    assert balanced is not None
    assert balanced.value == pytest.approx(np.mean(recalls), abs=1e-3)
    assert balanced.low <= balanced.value <= balanced.high


def test_auroc_of_two_classes_is_that_of_their_score_and_of_none_is_none() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    p = np.clip(0.3 * y + rng.random(300) * 0.7, 0, 1)
    area = mean_auroc(np.column_stack([1 - p, p]), y)
    assert area is not None
    assert area.value == pytest.approx(roc_auc_score(y, p), abs=1e-4)
    assert area.low < area.value < area.high
    assert mean_auroc(np.column_stack([1 - p, p]), np.zeros(300, int)) is None


def test_precision_counts_the_answers_that_name_a_class() -> None:
    facts = judged([0, 0, 0, 1], [0, 0, 1, 1]).precision
    assert (facts["c0"].value, facts["c0"].n) == (1.0, 2)
    assert (facts["c1"].value, facts["c1"].n) == (0.5, 2)
