"""Laws of a large class: what it cannot carry alone leads, on every page and in every message."""

from typing import Any

import msgspec
import pytest

from models.reporting import card, render, shortfalls, summary
from models.versions.figures import Evaluation
from service.cli.terminal.figures import figure_lines
from tests.models.report_example import plain_table_example, read, share, table_example
from tests.models.reporting.test_page import is_sound

PHRASES = ("Balanced accuracy", "AUC", "Recall of yes", "Precision of yes")


def judged(common: int, rare: int, right: tuple[float, float], **changed: Any) -> Evaluation:
    """The example of a table with so many rows of `no` and `yes`, of which so many are right."""
    plain = plain_table_example()[1]
    recalls = {"no": share(right[0], common), "yes": share(right[1], rare)}
    rows, hits = common + rare, common * right[0] + rare * right[1]
    balanced = {"value": sum(right) / 2, "low": sum(right) / 2 - 0.02, "high": 1.0, "n": rows}
    figures = {
        "n": rows,
        "clean": share(hits / rows, rows),
        "classes": recalls,
        "classes_robust": {"no": share(0.9, common), "yes": share(right[1] / 2, rare)},
        "precision": {"no": share(0.97, common), "yes": share(0.4, rare)},
        "balanced_accuracy": balanced,
        "auroc": {"value": 0.875, "low": 0.85, "high": 0.9, "n": rows},
    }
    return read(plain | figures | changed)


def pages(figures: Evaluation) -> tuple[str, str, str]:
    """The report, the card and what `evaluate` says."""
    manifest = msgspec.structs.replace(table_example()[0], classes=("no", "yes"))
    page = render(manifest, figures)
    is_sound(page)
    text = card(msgspec.structs.replace(manifest, evaluation=figures))
    return page, text, "\n".join(figure_lines(figures))


def test_a_large_class_brings_the_balanced_figures_to_the_front() -> None:
    figures = judged(1900, 100, (0.98, 0.6))
    page, text, lines = pages(figures)
    assert summary.title(figures).startswith("Balanced accuracy 79.0%, AUC 0.875. Right on 96")
    for phrase in PHRASES:
        assert phrase in page
    assert "95.0% of the rows are of class no" in page
    for line in ("recall of yes", "precision of yes", "balanced accuracy", "AUC"):
        assert line in lines
    assert "| balanced accuracy (mean over the classes) | 79.0% (" in text
    assert "| AUC (ROC, one class against the rest) | 0.875 (0.850 to 0.900) |" in text
    assert "| yes | 60.0% (" in text
    assert "means nothing" not in page + text


@pytest.mark.parametrize(("common", "leads"), [(81, True), (80, False), (50, False)])
def test_eighty_per_cent_is_the_bound(common: int, leads: bool) -> None:
    figures = judged(10 * common, 1000 - 10 * common, (0.9, 0.9))
    page, text, lines = pages(figures)
    assert ("Recall of yes" in page) is leads
    assert ("balanced accuracy" in lines) is leads
    assert summary.title(figures).startswith("Balanced") is leads
    assert "| yes | 90.0% (" in text, "recall and precision are figures always"


def test_the_hundred_rows_are_as_many_of_each_class_where_one_is_large() -> None:
    page, _, _ = pages(judged(1900, 100, (0.98, 0.6)))
    assert "as many of each of 2 classes" in page
    assert "yes: 15 of 50 right, 15 until attacked" in page
    plain, _, _ = pages(judged(100, 100, (0.98, 0.6)))
    assert "as many of each" not in plain


def test_robustness_means_nothing_only_where_the_model_is_blind() -> None:
    blind = judged(1900, 100, (1.0, 0.0))
    blind = msgspec.structs.replace(
        blind, balanced_accuracy=msgspec.convert(
            {"value": 0.5, "low": 0.49, "high": 0.52, "n": 2000}, type(blind.clean)
        )
    )  # fmt: skip
    assert any("means nothing" in line for line in shortfalls.shortfalls(blind))
    useful = judged(1900, 100, (0.95, 0.8))  # less often right than the blind one, and worth more
    assert not any("means nothing" in line for line in shortfalls.shortfalls(useful))


def test_rows_that_repeat_the_training_part_are_told_with_both_accuracies() -> None:
    unseen = share(0.5, 20)
    figures = judged(100, 100, (0.9, 0.9), clean_unseen=unseen)
    page, text, lines = pages(figures)
    assert "90.0% of the rows have a content that stands in the training part, too" in page
    assert "50.0% (29.9% to 70.1%, n = 20)" in page
    assert "90.0% of the rows have a content" in text
    assert "content not trained on (20)" in lines
    none = judged(100, 100, (0.9, 0.9), clean_unseen=share(0.0, 0))
    assert "none is left" in pages(none)[0]
    every = judged(100, 100, (0.9, 0.9), clean_unseen=share(0.9, 200))
    assert "training part, too" not in pages(every)[0]
