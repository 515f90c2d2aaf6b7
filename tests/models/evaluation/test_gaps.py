"""Laws of gaps: whatever cannot be measured is named with its reason, and stops nothing else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.data import Rows
from models.evaluation.figures import collect
from models.evaluation.gaps import Gaps, reason_of
from models.evaluation.plan import make_plan
from models.evaluation.subject import Arrays, Subject
from models.evaluation.suite import evaluate
from models.evaluation.tasks import Tasks
from models.evaluation.units import Block, Unit
from models.reporting import card, render
from models.versions.figures import Evaluation
from models.versions.judging import ThreatModel
from service.cli.terminal.figures import figure_lines
from tests.models.evaluated import white_box
from tests.models.reporting.test_page import is_sound
from tests.service import tables

THREAT = ThreatModel(eps=8 / 255)
Run = Callable[[], Evaluation]


def fail(block: Block) -> Arrays:
    raise RuntimeError("injected\nand more of it")


@pytest.fixture(scope="module")
def subject() -> Subject:
    return white_box("colours")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return tables.colours().test.take(np.arange(12))


@pytest.fixture(scope="module")
def run(subject: Subject, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An evaluation whose units are done already, but for those that a test lets fail."""
    work = tmp_path_factory.mktemp("work")

    def again() -> Evaluation:
        return evaluate(subject, rows, threat=THREAT, work=work)

    again()
    return again


def units_of(subject: Subject, rows: Rows) -> list[Unit]:
    tasks = Tasks(subject, rows, make_plan(subject, "quick", THREAT), {})
    return tasks.all(None, Gaps())


def let_fail(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These units are new, and fail; all others are as they were."""
    real = Tasks.all

    def all_units(self: Tasks, window: Rows | None, gaps: Gaps) -> list[Unit]:
        return [
            dataclasses.replace(unit, name=f"{unit.name}-again", compute=fail)
            if unit.name in names
            else unit
            for unit in real(self, window, gaps)
        ]

    monkeypatch.setattr(Tasks, "all", all_units)


def check(evaluation: Evaluation, subject: Subject) -> None:
    """It is whole but for the gaps, and all pages tell of them."""
    assert evaluation.clean.n == 12
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation
    manifest = msgspec.structs.replace(subject.runner.manifest, evaluation=evaluation)
    page, text = render(manifest, evaluation), card(manifest)
    is_sound(page)
    lines = "\n".join(figure_lines(evaluation))
    for gap in evaluation.not_measured:
        assert gap.reason in page
        assert f"| {gap.name} | not measured: {gap.reason} |" in text
        assert f"{gap.name}: not measured: {gap.reason}" in lines


def test_every_unit_may_fail_alone(subject: Subject, rows: Rows, run: Run) -> None:
    units = units_of(subject, rows)
    assert {unit.name for unit in units if unit.needed} == {"clean"}
    # Of the corruptions, which are all alike, three will do.
    alike = [unit for unit in units if unit.name.startswith("corruption")][3:]
    for unit in units:
        if unit.needed or unit in alike:
            continue
        with pytest.MonkeyPatch.context() as patch:
            let_fail(patch, unit.name)
            evaluation = run()
        assert unit.label, "people have a name for it"
        assert [(gap.name, gap.reason) for gap in evaluation.not_measured] == [
            (unit.label, "RuntimeError: injected")
        ]
        check(evaluation, subject)
        assert (evaluation.robust is None) == (unit.name == "cascade")
        if unit.name in ("alone-pgd", "alone-fgsm", "few-pgd", "cascade"):
            assert any(c.passed is None for c in evaluation.masking), unit.name


def test_all_but_clean_accuracy_may_fail_at_once(
    subject: Subject, rows: Rows, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [unit.name for unit in units_of(subject, rows) if not unit.needed]
    let_fail(monkeypatch, *names)
    evaluation = run()
    assert len(evaluation.not_measured) == len(names)
    assert evaluation.robust is None
    assert evaluation.attacks == evaluation.corruptions == evaluation.gallery == ()
    check(evaluation, subject)


def test_clean_accuracy_must_be_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    let_fail(monkeypatch, "clean")
    with pytest.raises(RuntimeError, match="injected"):
        run()


@pytest.mark.parametrize(
    ("function", "name", "field"),
    [
        ("mean_auroc", "area under the ROC curve", "auroc"),
        ("masking", "gradient masking", "masking"),
        ("edge_cases", "unexpected inputs", "edge_cases"),
        ("reliability", "calibration", "calibration"),
        ("scores", "scores", "scores"),
        ("gallery", "smallest changes", "gallery"),
    ],
)
def test_a_figure_that_cannot_be_worked_out_is_a_gap(
    function: str,
    name: str,
    field: str,
    subject: Subject,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def greedy(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(collect, function, greedy)
    evaluation = run()
    assert not getattr(evaluation, field)
    assert [(gap.name, gap.reason) for gap in evaluation.not_measured] == [
        (name, "there was not enough memory")
    ]
    check(evaluation, subject)


def test_an_interrupt_is_no_gap(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "edge_cases", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "it took too long"),
        (RuntimeError("bad allocation: can't allocate memory"), "there was not enough memory"),
        (ValueError(""), "ValueError"),
        (ValueError("x" * 999), "ValueError: " + "x" * 287 + "…"),
    ],
)
def test_reasons_are_short_and_for_people(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_what_failed_is_measured_in_the_next_run(
    subject: Subject, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = rows.take(np.arange(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.evaluation.tasks.noisy_rows", fail)
        first = evaluate(subject, few, threat=THREAT, work=tmp_path)
    assert {gap.name for gap in first.not_measured} == {
        f"accuracy under noise of size {p.eps:g}" for p in first.robust_curve
    }
    second = evaluate(subject, few, threat=THREAT, work=tmp_path)
    assert second.not_measured == ()
    assert len(second.noise_curve) == len(second.robust_curve)
