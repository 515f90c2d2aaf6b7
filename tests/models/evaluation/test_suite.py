"""Laws of the suites: figures agree with each other, whatever the subject, and survive a kill."""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.base.errors import DataError
from models.data import DataSet, Rows
from models.evaluation.figures.collect import relative_error
from models.evaluation.plan import SIZES, hopeless, sizes
from models.evaluation.subject import Subject, answer
from models.evaluation.suite import evaluate, key, make_plan
from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from models.versions.figures import CorruptionFigure, Evaluation, summary
from models.versions.judging import ThreatModel
from tests.conftest import Published
from tests.models.evaluated import black_box, white_box
from tests.service import tables

KEYS = {
    "suite", "n", "seed", "threat", "eps", "black_box", "clean", "window", "classes",
    "classes_robust", "confusions", "robust", "attacks", "robust_curve", "noise_curve", "masking",
    "corruptions", "mce", "stress", "edge_cases", "calibration", "scores", "certified", "proven",
    "sets", "gallery", "previous", "clean_unseen", "balanced_accuracy", "auroc", "precision",
    "not_measured",
}  # fmt: skip
QUICK = ThreatModel(eps=0.15)


def check(figures: Evaluation, rows: Rows, classes: tuple[str, ...]) -> None:
    """What holds of every evaluation."""
    plain = msgspec.to_builtins(figures)
    assert set(plain) == KEYS
    encoded = json.loads(json.dumps(plain, allow_nan=False))
    assert msgspec.json.decode(msgspec.json.encode(figures)) == encoded
    assert msgspec.convert(encoded, Evaluation) == figures
    assert figures.not_measured == ()
    assert figures.n == figures.clean.n == figures.robust.n == len(rows)
    for p in [*figures.attacks, *figures.robust_curve, *figures.noise_curve]:
        assert p.low <= p.value <= p.high
        assert p.n == len(rows)
    at_eps = [p for p in figures.robust_curve if p.eps == figures.eps]
    for p in [*figures.attacks, *at_eps]:
        assert figures.robust.value <= p.value <= figures.clean.value, p.attack
    for table, whole in (
        (figures.classes, figures.clean),
        (figures.classes_robust, figures.robust),
    ):
        assert [p.n for p in table.values()] == [
            int((rows.y == k).sum()) for k in range(len(classes))
        ]
        right = sum((p.share or 0) * p.n for p in table.values())
        assert right / len(rows) == pytest.approx(whole.value, abs=1e-3)
    wrong = round((1 - figures.clean.value) * len(rows))
    assert sum(c.count for c in figures.confusions) <= wrong
    assert all(c.true != c.predicted and c.count <= c.n for c in figures.confusions)
    for case in figures.edge_cases:
        assert case.finite, case
    for curve in figures.scores.roc:
        assert curve.points[0] == (0, 0)
        assert curve.points[-1] == (1, 1)
        assert len(curve.points) <= 60
        assert curve.low <= curve.auroc <= curve.high
    assert all(each.low <= each.value <= each.high for each in figures.sets)
    assert all(1 <= each.mean_size <= len(classes) for each in figures.sets)
    kept = summary(figures)
    assert kept.gallery == ()
    assert all(curve.points == () for curve in kept.scores.roc)


@pytest.fixture(scope="module")
def few(digits: DataSet) -> Rows:
    return digits.test.take(np.arange(150))


@pytest.fixture(scope="module")
def quick(published: Published, few: Rows) -> Evaluation:
    window = few.take(np.arange(30))
    return evaluate(published.subject, few, threat=QUICK, window=window)


def test_quick_figures_of_a_white_box(quick: Evaluation, few: Rows, digits: DataSet) -> None:
    check(quick, few, digits.classes)
    assert not quick.black_box
    assert quick.window.n == 30
    assert [p.eps for p in quick.robust_curve] == [0.05, 0.1, 0.15, 0.2, 0.3, 0.5]
    assert [p.attack for p in quick.attacks] == [
        "fgsm", "pgd-20", "apgd-dlr-10", "square-100", "apgd-ce", "apgd-ce + apgd-t",
    ]  # fmt: skip
    assert len(quick.masking) == 5
    assert all(check.passed for check in quick.masking), quick.masking
    known = {curve.attack: curve.trained_on for curve in quick.scores.roc}
    assert known == {"fgsm": True, "pgd": True, "apgd-dlr": False, "square": True}
    assert quick.certified is quick.proven is None, "it was not trained for certificates"
    assert [each.name for each in quick.sets] == ["as sent"]
    assert quick.sets[0].n == quick.n
    assert quick.sets[0].value >= quick.clean.value, "the answer is in its set"
    assert quick.mce is None
    assert quick.stress == ()


def test_gallery_shows_the_smallest_changes_that_turn_the_served_answer(
    quick: Evaluation, published: Published
) -> None:
    shown = quick.gallery
    assert 4 <= len(shown) <= 12
    assert [p.eps for p in shown] == sorted(p.eps for p in shown)
    for true in {p.true for p in shown}:
        assert sum(p.true == true for p in shown) <= 2
    for picture in shown:
        assert picture.true != picture.predicted
        assert 0 < picture.eps <= 0.5
        for side in ("original", "changed", "difference"):
            assert getattr(picture, side).startswith("data:image/png;base64,")


def test_gradients_that_are_hidden_fail_the_checks(published: Published, few: Rows) -> None:
    class Hidden(type(published.net)):  # type: ignore[misc]
        """Logits scaled until the cross-entropy is flat in float32, and turned by rounding."""

        def forward(self, x: Any) -> Any:
            logits, features = super().forward((x * 16).round() / 16 + 0 * x)
            return logits, features

    hidden = Hidden((1, 8, 8), 10)
    hidden.load_state_dict(published.net.state_dict())
    told = evaluate(Subject(published.runner, hidden.eval()), few.take(np.arange(80)))
    failed = [c.name for c in told.masking if not c.passed]
    assert "accuracy_falls_with_eps" in failed
    assert "white_box_not_weaker_than_black_box" in failed


def test_a_black_box_meets_square_and_noise_alone(tmp_path: Path, few: Rows) -> None:
    subject = black_box(tmp_path)
    told = evaluate(subject, few.take(np.arange(60)), threat=QUICK)
    check(told, few.take(np.arange(60)), subject.classes)
    assert told.black_box
    assert {p.attack.partition("-")[0] for p in told.attacks} == {"square"}
    assert told.robust.value < told.clean.value
    assert told.gallery == ()
    assert {c.name for c in told.masking} == {
        "accuracy_falls_with_eps",
        "attack_not_weaker_than_noise",
    }


@pytest.mark.parametrize("name", ["cancer", "wine"])
def test_tables_meet_stress_instead_of_corruptions(name: str) -> None:
    data, subject = getattr(tables, name)(), white_box(name)
    model = ThreatModel(eps=0.1, columns={"hue": 0.0} if name == "wine" else {})
    told = evaluate(subject, data.test, threat=model)
    check(told, data.test, data.classes)
    assert told.corruptions == told.gallery == ()
    assert {p.name for p in told.stress} >= {"sentinel", "noise", "unit_change"}
    assert len(told.stress) % 5 == 0
    assert all(0 <= p.drift_flagged <= 1 for p in told.stress)
    names = {case.name for case in told.edge_cases}
    assert ("all categories unseen" in names) == (name == "wine")
    assert ("all missing that may be" in names) == (name == "wine")
    falls = told.masking[0]
    assert ("no floor is expected" in falls.detail) == (name == "wine")


def test_a_table_without_a_net_is_evaluated_too(tmp_path: Path) -> None:
    from models.versions.registry import Registry
    from models.versions.runner import Runner

    data = tables.wine()
    tables.publish_table(tmp_path, data)
    subject = Subject(Runner(Registry(tmp_path).open("wine")))
    told = evaluate(subject, data.test, threat=ThreatModel(eps=0.1))
    check(told, data.test, data.classes)


def test_bytes_are_attacked_as_bytes() -> None:
    data, subject = tables.colours(), white_box("colours")
    rows = data.test.take(np.arange(40))
    told = evaluate(subject, rows, threat=ThreatModel(eps=8 / 255))
    check(told, rows, data.classes)
    assert told.robust_curve[-1].eps == 0.5
    assert told.gallery


def test_l2_has_sizes_of_its_own(published: Published, few: Rows) -> None:
    told = evaluate(published.subject, few.take(np.arange(40)), threat=ThreatModel("l2", 1.0))
    check(told, few.take(np.arange(40)), published.subject.classes)
    assert told.robust_curve[-1].value == 0.0
    assert told.threat == ThreatModel("l2", 1.0)


def test_few_rows_and_wrong_models_are_evaluated_too(published: Published, few: Rows) -> None:
    threes = few.take(np.flatnonzero(few.y == 3)[:4])
    told = evaluate(published.subject, threes, window=threes.take(np.arange(0)))
    assert told.classes["4"] == Proportion(None, 0.0, 1.0, 0)
    assert told.window is None
    least = answer(published.runner, threes.x).probabilities.argmin(axis=1)
    told = evaluate(published.subject, Rows(threes.x, least))
    assert told.clean.value == told.robust.value == 0.0
    assert told.scores.roc[0].auroc is None
    json.dumps(msgspec.to_builtins(told), allow_nan=False)


def test_previous_champion_stands_beside(
    published: Published, few: Rows, quick: Evaluation
) -> None:
    rows = few.take(np.arange(30))
    told = evaluate(published.subject, rows, previous=quick, previous_version=7)
    assert told.previous.version == told.mce.relative_to == 7
    assert told.previous.clean == quick.clean
    assert told.mce.low < 1 < told.mce.high
    less = msgspec.structs.replace(quick, corruptions=(), robust=None)  # not all was measured
    told = evaluate(published.subject, rows.take(np.arange(4)), previous=less)
    assert told.mce is None
    assert told.previous.corruptions == ()


def test_error_relative_to_itself_is_one_and_halves_with_the_errors() -> None:
    rng = np.random.default_rng(0)
    wrong = {("holdfast", name, s): rng.random(500) < 0.1 * s for name in "ab" for s in (1, 2, 3)}
    points = [
        CorruptionFigure(*proportion(~flags).parts, group=g, name=n, severity=s)
        for (g, n, s), flags in wrong.items()
    ]
    told = relative_error(wrong, points, 3)
    assert told is not None
    assert told.value == pytest.approx(1, abs=1e-3)
    assert told.low < 1 < told.high
    fewer = {key: flags & (np.arange(500) % 2 == 0) for key, flags in wrong.items()}
    told = relative_error(fewer, points, 3)
    assert told is not None
    assert told.value == pytest.approx(0.5, abs=0.1)
    assert told.high < 1
    assert relative_error(wrong, [], 3) is None


def test_limit_takes_the_first_rows_and_tells_n(published: Published, few: Rows) -> None:
    told = evaluate(published.subject, few, limit=12)
    assert told.n == told.clean.n == 12
    assert told == evaluate(published.subject, few.take(np.arange(12)))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"suite": "slow"}, "unknown suite 'slow'.*quick, full"),
        ({"threat": ThreatModel(eps=8)}, "8/255"),
        ({"threat": ThreatModel(eps=0.1, columns={"age": 1.0})}, None),
        ({"limit": 0}, "no rows"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused(
    wish: dict[str, Any], words: str | None, published: Published, few: Rows
) -> None:
    if words is None:  # columns mean nothing to images
        evaluate(published.subject, few, limit=2, **wish)
        return
    with pytest.raises(DataError, match=words):
        evaluate(published.subject, few, **wish)


def test_reference_needs_a_net(tmp_path: Path, few: Rows) -> None:
    with pytest.raises(DataError, match="wrapped graph"):
        evaluate(black_box(tmp_path), few, autoattack=True)
    with pytest.raises(DataError, match="table"):
        evaluate(white_box("wine"), tables.wine().test, autoattack=True)


def test_sizes_hold_eps_and_end_where_nothing_can_stand(digits: DataSet) -> None:
    for eps in (0.0, 0.01, 8 / 255, 0.15, 0.4, 0.7, 1.0):
        for suite in SIZES.values():
            told = sizes(digits.schema, ThreatModel(eps=eps), suite)
            assert eps in told
            assert list(told) == sorted(set(told))
            assert told[-1] == max(0.5, eps)
    assert hopeless(tables.wine().schema, QUICK) is None
    assert hopeless(tables.cancer().schema, QUICK) == 1.0


def test_killed_in_the_middle_it_goes_on_and_gives_the_same_figures(
    tmp_path: Path, few: Rows
) -> None:
    subject, rows = black_box(tmp_path / "registry"), few.take(np.arange(20))
    work = tmp_path / "work"
    run = functools.partial(evaluate, subject, rows, threat=QUICK)

    def die(done: int, total: int, unit: str) -> None:
        if unit.startswith("corruption-holdfast-blur-3"):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        run(work=work, progress=die)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in work.glob("*/*.npz")}
    assert 10 < len(before) < 60
    seen: list[str] = []
    told = run(work=work, progress=lambda done, total, unit: seen.append(unit))
    after = {path: path.stat().st_mtime_ns for path in work.glob("*/*.npz")}
    assert {path: after[path] for path in before} == before, "what was done is not done again"
    assert len(after) == len(set(seen)) > len(before)
    assert told == run(), "as if it had never been killed"
    run(work=work, progress=lambda done, total, unit: seen.append(unit))
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/*.npz")} == after


def test_work_of_another_model_data_or_setting_is_not_used(
    tmp_path: Path, published: Published, few: Rows
) -> None:
    subject, other = published.subject, black_box(tmp_path)
    plan = make_plan(subject, "quick", QUICK)
    wider = make_plan(subject, "quick", ThreatModel(eps=0.2))
    keys = [
        key(subject, few, None, plan, 0),
        key(subject, few, None, plan, 1),
        key(subject, few, few, plan, 0),
        key(subject, few.take(np.arange(100)), None, plan, 0),
        key(subject, Rows(few.x, few.y[::-1].copy()), None, plan, 0),
        key(subject, few, None, wider, 0),
        key(Subject(subject.runner), few, None, plan, 0),
        key(other, few, None, plan, 0),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key(subject, few, None, plan, 0)


@pytest.mark.slow
def test_full_figures(published: Published, digits: DataSet) -> None:
    rows = digits.test.take(np.arange(100))
    told = evaluate(published.subject, rows, suite="full", threat=QUICK, autoattack=True)
    check(told, rows, digits.classes)
    attacks = {p.attack: p.value for p in told.attacks}
    reference = attacks["autoattack (reference)"]
    assert attacks["apgd-ce + apgd-t + square"] == pytest.approx(reference, abs=0.0201)
    groups = {(c.group, c.name) for c in told.corruptions}
    assert len(groups) == 43
    assert told.certified.n == 100
    radii = [p.value for p in told.certified.points]
    assert radii == sorted(radii, reverse=True)
    assert {p.attack for p in told.robust_curve} == {"apgd-ce-50 + apgd-dlr-50"}
